"""What a running domain has used: libvirt's statistics, by libvirt's own names (``cpu.time``, ``net.0.rx.bytes``).

Drivers that cannot tell everything in one call are asked piece by piece, and the answers put under the same names; a
piece that a driver does not have is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import libvirt

Statistics = dict[str, Any]
CARD = re.compile(r"<interface [^>]*>(?:(?!</interface>).)*?<target dev='([^']+)'", re.DOTALL)
DISK = re.compile(r"<disk [^>]*>(?:(?!</disk>).)*?<target dev='([^']+)'", re.DOTALL)
MEMORY = {
    "actual": "current",
    "swap_in": "swap_in",
    "swap_out": "swap_out",
    "major_fault": "major_fault",
    "minor_fault": "minor_fault",
    "unused": "unused",
    "available": "available",
    "usable": "usable",
    "rss": "rss",
    "disk_caches": "disk_caches",
}
CARDS = tuple(f"{way}.{what}" for way in ("rx", "tx") for what in ("bytes", "pkts", "errs", "drop"))
BLOCKS = ("rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes")


def read(domain: Any) -> Statistics:
    """Return the statistics of a domain."""
    found: Statistics = {}
    try:
        found.update(domain.connect().domainListGetStats([domain])[0][1])
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    if "cpu.time" in found:
        return found
    for piece in (_time, _memory, _cards, _disks):
        found.update(piece(domain))
    return found


def _asked(call: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return call()
    except libvirt.libvirtError:
        return otherwise


def _time(domain: Any) -> Iterator[tuple[str, Any]]:
    _, most, _, count, used = domain.info()
    yield from (("cpu.time", used), ("balloon.maximum", most), ("vcpu.current", count))
    total = _asked(lambda: domain.getCPUStats(True), [{}])[0]
    for name, ours in (("user_time", "cpu.user"), ("system_time", "cpu.system")):
        if name in total:
            yield ours, total[name]


def _memory(domain: Any) -> Iterator[tuple[str, Any]]:
    told = _asked(domain.memoryStats, {})
    yield from ((f"balloon.{ours}", told[name]) for name, ours in MEMORY.items() if name in told)


def _cards(domain: Any) -> Iterator[tuple[str, Any]]:
    names = CARD.findall(domain.XMLDesc())
    yield "net.count", len(names)
    for number, name in enumerate(names):
        yield f"net.{number}.name", name
        told = _asked(partial(domain.interfaceStats, name), ())
        yield from ((f"net.{number}.{ours}", value) for ours, value in zip(CARDS, told, strict=False))


def _disks(domain: Any) -> Iterator[tuple[str, Any]]:
    names = DISK.findall(domain.XMLDesc())
    yield "block.count", len(names)
    for number, name in enumerate(names):
        yield f"block.{number}.name", name
        told = _asked(partial(domain.blockStats, name), ())
        yield from ((f"block.{number}.{ours}", value) for ours, value in zip(BLOCKS, told, strict=False))
