"""What a running domain's XML becomes in the status."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.described import describe, described

Obj = dict[str, Any]
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}


def disk(path: Path, name: str, dev: str, format_: str = "raw") -> str:
    return (
        f"<disk type='file'><driver type='{format_}'/><source file='{path}'/><target dev='{dev}'/>"
        f"<alias name='ua-{name}'/></disk>"
    )


@pytest.fixture
def machine(make_vmi: Callable[..., Obj]) -> Obj:
    return make_vmi(
        {"name": "root", "containerDisk": {"image": "x"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
        domain={"devices": {"disks": [], "interfaces": [{"name": "net"}, {"name": "off", "state": "absent"}]}},
    )


def test_volumes_cards_and_board_are_read_off_the_domain(machine: Obj, tmp_path: Path) -> None:
    overlay, plain = tmp_path / "root.qcow2", tmp_path / "data.img"
    overlay.write_bytes(b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 7 << 20))
    # A guest owns this one: what looks like a header is its data.
    plain.write_bytes((b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 1 << 40)).ljust(4096, b"x"))
    xml = (
        "<domain><os><type machine='pc-q35-7.2'>hvm</type></os><devices>"
        + disk(overlay, "root", "vda", "qcow2")
        + disk(plain, "data", "sda")
        + disk(tmp_path / "gone.img", "seed", "sdb")
        + "<interface><mac address='52:54:00:00:00:01'/><alias name='ua-nic_net'/></interface></devices></domain>"
    )
    found = describe(machine, xml, "", {"c": CLAIM})
    claim = {
        "claimName": "c",
        "accessModes": ["ReadWriteOnce"],
        "requests": {"storage": "1Mi"},
        "capacity": {"storage": "1Mi"},
    }
    assert found["volumeStatus"] == [
        {"name": "root", "target": "vda", "size": 7 << 20},
        {"name": "data", "target": "sda", "size": 4096, "persistentVolumeClaimInfo": claim},
        {"name": "seed", "target": "sdb"},
    ]
    assert found["interfaces"] == [{"name": "net", "mac": "52:54:00:00:00:01"}]
    assert found["machine"] == {"type": "pc-q35-7.2"}
    assert not described(machine)
    assert described({**machine, "status": found})


def test_folders_are_known_by_their_place(machine: Obj) -> None:
    xml = (
        "<domain><devices><filesystem><source dir='/a'/><target dir='/'/></filesystem>"
        "<filesystem><source dir='/b'/><target dir='/mnt/data'/></filesystem></devices></domain>"
    )
    found = describe(machine, xml, "root", {})
    assert [(one["name"], one["target"]) for one in found["volumeStatus"]] == [
        ("root", "/"),
        ("data", "/mnt/data"),
        ("seed", ""),
    ]
    assert found["interfaces"] == []
