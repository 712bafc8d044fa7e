"""What the machines of this node use, for Prometheus: asked of their launchers when somebody asks us.

A launcher may have been taken over by its guest, so only numbers are taken from its answer, and of names and devices
no more than a machine can have. One that does not answer in time, or is of a release that does not tell, has no
samples; the others have.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.registry import Collector

from polyvisor.agent.link.connection import LauncherError, Link
from polyvisor.api import Obj
from polyvisor.api.reading import chosen_hypervisor
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.verdict import supports
from polyvisor.kube.metrics import Families, Family

Told = tuple[dict[str, str], Mapping[str, Any], dict[str, str]]
"""Labels that say whose figures they are, libvirt's figures, further labels."""
FEATURE = "lifecycle.statistics"
SECONDS = 5.0
AT_ONCE = 16
MOST_DEVICES = 64
MOST_TEXT = 64
MOST_LABELS = 64
LABEL_PREFIX = "kubernetes_vmi_label_"
_NO_LABEL = re.compile(r"[^A-Za-z0-9_]")
KIB, NANO = 1024, 1e-9
PREFIX = "kubevirt_vmi_"
Scaled = tuple[str, str, float]
DOMAIN: tuple[Scaled, ...] = (
    ("cpu.time", "cpu_usage_seconds_total", NANO),
    ("cpu.user", "cpu_user_usage_seconds_total", NANO),
    ("cpu.system", "cpu_system_usage_seconds_total", NANO),
    ("balloon.maximum", "memory_domain_bytes", KIB),
    ("balloon.current", "memory_actual_balloon_bytes", KIB),
    ("balloon.available", "memory_available_bytes", KIB),
    ("balloon.unused", "memory_unused_bytes", KIB),
    ("balloon.usable", "memory_usable_bytes", KIB),
    ("balloon.disk_caches", "memory_cached_bytes", KIB),
    ("balloon.rss", "memory_resident_bytes", KIB),
    ("balloon.swap_in", "memory_swap_in_traffic_bytes", KIB),
    ("balloon.swap_out", "memory_swap_out_traffic_bytes", KIB),
    ("balloon.major_fault", "memory_pgmajfault_total", 1),
    ("balloon.minor_fault", "memory_pgminfault_total", 1),
)
"""libvirt's name, ours without its prefix, and the factor between their units."""
CARD: tuple[Scaled, ...] = tuple(
    (f"{way}.{theirs}", f"network_{word}_{ours}_total", 1)
    for way, word in (("rx", "receive"), ("tx", "transmit"))
    for theirs, ours in (("bytes", "bytes"), ("pkts", "packets"), ("errs", "errors"), ("drop", "packets_dropped"))
)
DISK: tuple[Scaled, ...] = (
    ("rd.reqs", "storage_iops_read_total", 1),
    ("wr.reqs", "storage_iops_write_total", 1),
    ("rd.bytes", "storage_read_traffic_bytes_total", 1),
    ("wr.bytes", "storage_write_traffic_bytes_total", 1),
    ("rd.times", "storage_read_times_seconds_total", NANO),
    ("wr.times", "storage_write_times_seconds_total", NANO),
    ("fl.reqs", "storage_flush_requests_total", 1),
    ("fl.times", "storage_flush_times_seconds_total", NANO),
)
VCPU: tuple[Scaled, ...] = (("wait", "vcpu_wait_seconds_total", NANO), ("delay", "vcpu_delay_seconds_total", NANO))
VCPU_STATES: Mapping[float | None, str] = {0: "offline", 1: "running", 2: "blocked"}
log = logging.getLogger("polyvisor.statistics")


class Statistics(Collector):
    """The figures of this node's machines, while the context lasts; :meth:`refresh` before each look at them."""

    def __init__(
        self,
        node: str,
        machines: Callable[[], Iterable[tuple[Obj, Link]]],
        drivers: DriverRegistry,
        registry: CollectorRegistry = REGISTRY,
        deprecated: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """``deprecated`` gives the node's machine types that its hypervisor is to give up."""
        self._node = node
        self._machines = machines
        self._drivers = drivers
        self._registry = registry
        self._deprecated = deprecated
        self.beside: Callable[[], Awaitable[list[Told]]] | None = None
        """Gives the figures of machines on hosts that this process looks after, with their Nodes among the labels."""
        self._told: list[Told] = []

    def __enter__(self) -> Statistics:
        self._registry.register(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.unregister(self)

    async def refresh(self) -> None:
        """Ask all launchers whose driver's table says that they can tell."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(vmi: Obj, link: Link, driver: str) -> Told | None:
            try:
                async with slots:
                    told = (await link.request("stats", seconds=SECONDS, exact=True)).get("stats")
            except LauncherError as error:
                log.debug("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], error)
                return None
            metadata = vmi["metadata"]
            where = {"namespace": metadata["namespace"], "name": metadata["name"], "hypervisor": driver}
            return (where, told, labels_of(vmi)) if isinstance(told, dict) else None

        asked = []
        for vmi, link in self._machines():
            driver = self._drivers.get(str(chosen_hypervisor(vmi).get("driver") or ""))
            if driver is not None and supports(driver, FEATURE):
                asked.append(ask(vmi, link, driver.name))
        afar = await self.beside() if self.beside is not None else []
        self._told = [*(found for found in await asyncio.gather(*asked) if found is not None), *afar]

    def collect(self) -> Iterator[Family]:
        """Give what was told at the last refresh."""
        found = Families()
        for where, told, labels in self._told:
            samples(found, {"node": self._node, **where}, told, labels)
        for kind in self._deprecated():
            found.add("kubevirt_node_deprecated_machine_types", 1, machine_type=kind, node=self._node)
        yield from found


def labels_of(vmi: Obj) -> dict[str, str]:
    """Return a machine's labels as KubeVirt adds them to each of its figures; the first ones of very many."""
    given = sorted((vmi["metadata"].get("labels") or {}).items())[:MOST_LABELS]
    return {f"{LABEL_PREFIX}{_NO_LABEL.sub('_', key)}": str(value) for key, value in given}


def samples(
    found: Families, where: Mapping[str, str], told: Mapping[str, Any], labels: Mapping[str, str] | None = None
) -> None:
    """Add the samples of one machine; ``told`` is libvirt's, and is not believed to be well-formed."""
    _scaled(found, where, told, "", DOMAIN, labels)
    for number in range(_count(told, "vcpu.current")):
        here = {**where, "id": str(number)}
        _scaled(found, here, told, f"vcpu.{number}.", VCPU, labels)
        if (spent := _number(told.get(f"vcpu.{number}.time"))) is not None:
            state = VCPU_STATES.get(_number(told.get(f"vcpu.{number}.state")), "unknown")
            found.add(f"{PREFIX}vcpu_seconds_total", spent * NANO, labels, **here, state=state)
    for number in range(_count(told, "net.count")):
        start = f"net.{number}."
        here = {**where, "interface": str(told.get(f"{start}name"))[:MOST_TEXT]}
        _scaled(found, here, told, start, CARD, labels)
        for way in ("rx", "tx"):
            if (value := _number(told.get(f"{start}{way}.bytes"))) is not None:
                found.add(f"{PREFIX}network_traffic_bytes_total", value, labels, **here, type=way)
    for number in range(_count(told, "block.count")):
        start = f"block.{number}."
        here = {**where, "drive": str(told.get(f"{start}name"))[:MOST_TEXT]}
        _scaled(found, here, told, start, DISK, labels)


def _scaled(
    found: Families,
    where: Mapping[str, str],
    told: Mapping[str, Any],
    start: str,
    names: tuple[Scaled, ...],
    labels: Mapping[str, str] | None,
) -> None:
    for theirs, ours, factor in names:
        if (value := _number(told.get(start + theirs))) is not None:
            found.add(PREFIX + ours, value * factor, labels, **where)


def _count(told: Mapping[str, Any], name: str) -> int:
    return min(int(_number(told.get(name)) or 0), MOST_DEVICES)


def _number(value: Any) -> float | None:
    """Return a number that can be shown; libvirt's -1 stands for one that is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value >= 0 and value < 2**64 and math.isfinite(value) else None
