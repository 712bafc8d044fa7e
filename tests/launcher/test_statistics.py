"""A domain's statistics from a libvirt that is played: whole where its driver can, piece by piece where it cannot."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from polyvisor.launcher import statistics
from tests.launcher.test_guest import Refusal

XML = """<domain><devices>
<disk type='file' device='disk'><source file='/x'/><target dev='vda' bus='virtio'/></disk>
<interface type='user'><mac address='x'/></interface>
<interface type='bridge'><mac address='y'/><target dev='veth1'/></interface>
</devices></domain>"""


class Domain:
    def __init__(self, refusal: int = 0, pieces: bool = True) -> None:
        self.refusal = refusal
        self.pieces = pieces

    def connect(self) -> Domain:
        return self

    def domainListGetStats(self, domains: list[Any]) -> list[tuple[Any, dict[str, Any]]]:
        if self.refusal:
            raise Refusal(self.refusal)
        return [(domains[0], {"cpu.time": 5})]

    def info(self) -> list[int]:
        return [1, 2048, 1024, 2, 7]

    def _piece(self, value: Any) -> Any:
        if not self.pieces:
            raise Refusal(libvirt.VIR_ERR_NO_SUPPORT)
        return value

    def getCPUStats(self, total: bool) -> Any:
        return self._piece([{"cpu_time": 7, "user_time": 3, "system_time": 4}])

    def memoryStats(self) -> Any:
        return self._piece({"actual": 1024, "rss": 100, "last_update": 1})

    def interfaceStats(self, name: str) -> Any:
        assert name == "veth1"
        return self._piece((1, 2, 3, 4, 5, 6, 7, 8))

    def blockStats(self, name: str) -> Any:
        assert name == "vda"
        return self._piece((1, 2, 3, 4, -1))

    def XMLDesc(self) -> str:
        return XML


def test_a_driver_that_tells_all_is_asked_once() -> None:
    assert statistics.read(Domain()) == {"cpu.time": 5}


def test_another_is_asked_piece_by_piece() -> None:
    found = statistics.read(Domain(libvirt.VIR_ERR_NO_SUPPORT))
    assert found == {
        "cpu.time": 7,
        "cpu.user": 3,
        "cpu.system": 4,
        "vcpu.current": 2,
        "balloon.maximum": 2048,
        "balloon.current": 1024,
        "balloon.rss": 100,
        "net.count": 1,
        "net.0.name": "veth1",
        **{f"net.0.{name}": number for number, name in enumerate(statistics.CARDS, 1)},
        "block.count": 1,
        "block.0.name": "vda",
        **{f"block.0.{name}": number for number, name in enumerate(statistics.BLOCKS, 1)},
    }


def test_pieces_that_a_driver_does_not_have_are_left_out() -> None:
    found = statistics.read(Domain(libvirt.VIR_ERR_NO_SUPPORT, pieces=False))
    assert found["cpu.time"] == 7
    assert "cpu.user" not in found
    assert found["net.0.name"] == "veth1"
    assert "net.0.rx.bytes" not in found


def test_any_other_failure_is_told() -> None:
    with pytest.raises(Refusal):
        statistics.read(Domain(libvirt.VIR_ERR_OPERATION_FAILED))
