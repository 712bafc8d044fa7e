from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live.statistics import MOST_DEVICES, Statistics
from polyvisor.api import Obj
from polyvisor.drivers import cpus
from polyvisor.drivers import registry as drivers

WHERE = {"node": "n1", "namespace": "default", "name": "m", "hypervisor": "qemu"}
TOLD: dict[str, Any] = {
    "cpu.time": 2_500_000_000,
    "balloon.maximum": 1024,
    "balloon.rss": 512,
    "vcpu.current": 1,
    "vcpu.0.state": 1,
    "vcpu.0.time": 1_000_000_000,
    "vcpu.0.wait": 500_000_000,
    "net.count": 1,
    "net.0.name": "tap0",
    "net.0.rx.bytes": 10,
    "net.0.tx.bytes": 20,
    "block.count": 1,
    "block.0.name": "vda",
    "block.0.rd.reqs": 3,
    "block.0.rd.times": 1_000_000,
}


class Link:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def request(self, operation: str, *, seconds: float, exact: bool) -> Any:
        self.asked.append(operation)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"state": "running", "stats": self.answer}


def vmi(name: str = "m", driver: str = "qemu") -> Obj:
    return {"metadata": {"namespace": "default", "name": name}, "status": {"hypervisor": {"driver": driver}}}


async def shown(*machines: tuple[Obj, Link]) -> CollectorRegistry:
    registry = CollectorRegistry()
    statistics = Statistics("n1", lambda: machines, drivers(), registry)  # type: ignore[arg-type, return-value]
    registry.register(statistics)
    await statistics.refresh()
    return registry


async def test_what_libvirt_tells_in_kubevirts_names_and_units() -> None:
    registry = await shown((vmi(), Link(TOLD)))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"kubevirt_vmi_{name}", WHERE | labels)

    assert value("cpu_usage_seconds_total") == 2.5
    assert value("memory_domain_bytes") == 2**20
    assert value("memory_resident_bytes") == 2**19
    assert value("vcpu_seconds_total", id="0", state="running") == 1
    assert value("vcpu_wait_seconds_total", id="0") == 0.5
    assert value("network_receive_bytes_total", interface="tap0") == 10
    assert value("network_traffic_bytes_total", interface="tap0", type="tx") == 20
    assert value("storage_iops_read_total", drive="vda") == 3
    assert value("storage_read_times_seconds_total", drive="vda") == 0.001
    assert value("memory_swap_in_traffic_bytes") is None


@pytest.mark.parametrize("error", [LauncherGone("gone"), LauncherError("unknown operation", "unknown-op")])
async def test_a_launcher_that_does_not_tell_costs_only_its_own_machine(error: LauncherError) -> None:
    registry = await shown((vmi("silent"), Link(error)), (vmi(), Link(TOLD)))
    names = {s.labels["name"] for f in registry.collect() for s in f.samples}
    assert names == {"m"}


async def test_a_driver_whose_table_does_not_claim_it_is_not_asked() -> None:
    link = Link(TOLD)
    registry = await shown((vmi(driver="openvz"), link), (vmi(driver="unheard-of"), link))
    assert link.asked == []
    assert list(registry.collect()) == []


@pytest.mark.parametrize(
    "told",
    [
        None,
        ["x"],
        {"cpu.time": "many", "balloon.rss": -1, "balloon.maximum": float("nan"), "balloon.current": 2**80},
        {"net.count": 10**9, "block.count": True, "vcpu.current": "x"},
        {"net.count": 1, "net.0.name": {"a": "b" * 10**6}, "net.0.rx.bytes": None},
    ],
)
async def test_nonsense_of_a_launcher_is_no_sample(told: Any) -> None:
    assert [s for f in (await shown((vmi(), Link(told)))).collect() for s in f.samples] == []


async def test_no_machine_has_more_devices_than_it_can() -> None:
    told = {"net.count": 10**6} | {f"net.{n}.rx.bytes": 1 for n in range(10**4)}
    registry = await shown((vmi(), Link(told)))
    received = [
        s for f in registry.collect() for s in f.samples if s.name == "kubevirt_vmi_network_receive_bytes_total"
    ]
    assert len(received) == MOST_DEVICES


async def test_many_launchers_are_asked_at_once_but_not_all() -> None:
    open_now, most = 0, 0

    class Slow(Link):
        async def request(self, operation: str, *, seconds: float, exact: bool) -> Any:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0)
            open_now -= 1
            return {"stats": TOLD}

    await shown(*((vmi(f"m{n}"), Slow(TOLD)) for n in range(40)))
    assert most == 16


async def test_a_machines_labels_are_labels_of_its_figures_as_with_kubevirt() -> None:
    one, two = vmi(), vmi("other")
    one["metadata"]["labels"] = {"kubevirt.io/nodeName": "n1", "app-tier": "db"}
    registry = await shown((one, Link(TOLD)), (two, Link(TOLD)))
    labels = {"kubernetes_vmi_label_kubevirt_io_nodeName": "n1", "kubernetes_vmi_label_app_tier": "db"}
    seconds = {"id": "0", "state": "running"}
    assert registry.get_sample_value("kubevirt_vmi_vcpu_seconds_total", {**WHERE, **labels, **seconds}) == 1.0
    assert registry.get_sample_value("kubevirt_vmi_memory_resident_bytes", {**WHERE, **labels}) == 512 * 1024
    assert registry.get_sample_value("kubevirt_vmi_memory_resident_bytes", {**WHERE, "name": "other"}) == 512 * 1024


async def test_machine_types_that_are_to_be_given_up_are_told_of() -> None:
    found = cpus.read({"domain": "<domainCapabilities/>", "host": HOST, "cpu": ""}, "x86_64")
    assert found.machines == ("pc", "pc-i440fx-2.1", "pc-q35-7.2")
    registry = CollectorRegistry()
    statistics = Statistics("n1", lambda: (), drivers(), registry, deprecated=lambda: found.deprecated)
    registry.register(statistics)
    labels = {"machine_type": "pc-i440fx-2.1", "node": "n1"}
    assert registry.get_sample_value("kubevirt_node_deprecated_machine_types", labels) == 1
    assert found.deprecated == ("pc-i440fx-2.1",)


HOST = """<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/bin/emulator</emulator>
<machine maxCpus='255'>pc</machine><machine maxCpus='255' deprecated='yes'>pc-i440fx-2.1</machine>
<machine maxCpus='288'>pc-q35-7.2</machine></arch></guest></capabilities>"""
