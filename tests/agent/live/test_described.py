"""What a running domain's XML becomes in the status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polyvisor.agent.live.described import describe, described

Obj = dict[str, Any]
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}


def disk(name: str, dev: str) -> str:
    return (
        f"<disk type='file'><driver type='raw'/><source file='/etc/hostname'/><target dev='{dev}'/>"
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


def test_volumes_cards_and_board_are_read_off_the_domain(machine: Obj) -> None:
    xml = (
        "<domain><os><type machine='pc-q35-7.2'>hvm</type></os><devices>"
        + disk("root", "vda")
        + disk("data", "sda")
        + disk("seed", "sdb")  # its file is there, and not looked at: the XML is the launcher's
        + "<interface><mac address='52:54:00:00:00:01'/><alias name='ua-nic_net'/></interface></devices></domain>"
    )
    found = describe(machine, xml, "", {"c": CLAIM}, {"root": 7 << 20, "data": 4096})
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
    assert found["interfaces"] == [{"name": "net", "mac": "52:54:00:00:00:01", "linkState": "up"}]
    assert found["machine"] == {"type": "pc-q35-7.2"}
    assert not described(machine)
    assert described({**machine, "status": found})


def test_folders_are_known_by_their_place(machine: Obj) -> None:
    xml = (
        "<domain><devices><filesystem><source dir='/a'/><target dir='/'/></filesystem>"
        "<filesystem><source dir='/b'/><target dir='/mnt/data'/></filesystem></devices></domain>"
    )
    found = describe(machine, xml, "root", {}, {})
    assert [(one["name"], one["target"]) for one in found["volumeStatus"]] == [
        ("root", "/"),
        ("data", "/mnt/data"),
        ("seed", ""),
    ]
    assert found["interfaces"] == []
