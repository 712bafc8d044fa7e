"""The XML of a domain that moves: the source's devices, this node's files and sockets, nothing that is not alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import CardSource, DiskSource, DomainContext, render
from polyvisor.domain.moved import MAX_XML, NotAlike, moved
from polyvisor.drivers.qemu import COMMAND_LINE, QemuDriver

DRIVER = QemuDriver()
DISKS = [{"name": "data", "disk": {"bus": "virtio"}}, {"name": "seed", "cdrom": {"bus": "sata"}}]
VOLUMES = [
    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config"}},
]


def vmi(**domain: Any) -> VirtualMachineInstance:
    devices = {"disks": DISKS, "interfaces": [{"name": "default", "masquerade": {}}]}
    spec = {
        "domain": {"memory": {"guest": "64Mi"}, "devices": devices, **domain},
        "volumes": VOLUMES,
        "networks": [{"name": "default", "pod": {}}],
    }
    return VirtualMachineInstance.model_validate(
        {"metadata": {"name": "m", "namespace": "default", "uid": "u"}, "spec": spec}
    )


def rendered(node: str, machine: VirtualMachineInstance) -> str:
    folder = Path("/", node)
    context = DomainContext(
        "qemu",
        disks={"data": DiskSource(folder / "data.img", "raw"), "seed": DiskSource(folder / "seed.iso", "raw")},
        kernel=folder / "kernel",
        initrd=folder / "initrd",
        graphics_socket=folder / "vnc.sock",
        agent_socket=folder / "agent.sock",
        cards={"default": CardSource(f"tap-{node}", "br", "02:00:00:00:00:01", 1500)},
    )
    return render(machine, DRIVER, context)


def test_devices_are_the_sources_and_their_other_ends_are_here() -> None:
    live = (
        rendered("a", vmi())
        .replace("<memory ", "<memory dumpCore='off' ")
        .replace('<console type="pty"/>', "<console type='pty' tty='/dev/pts/9'><source path='/dev/pts/9'/></console>")
    )
    found = moved(live, rendered("b", vmi()), vmi(), DRIVER)
    assert "/a/" not in found
    assert "tap-a" not in found
    assert "/dev/pts/9" not in found
    assert "dumpCore" in found, "what libvirt added at the source"
    domain = etree.fromstring(found)
    assert [one.get("file") for one in domain.iterfind("devices/disk/source")] == ["/b/data.img", "/b/seed.iso"]
    assert domain.find("devices/interface/target").get("dev") == "tap-b"
    assert domain.find("devices/channel/source").get("path") == "/b/agent.sock"
    assert domain.find("devices/graphics/listen").get("socket") == "/b/vnc.sock"
    assert domain.findtext("os/kernel") == "/b/kernel"
    assert [one.get("value") for one in domain.find(COMMAND_LINE)] == ["-incoming", "defer"]


def test_a_domain_that_has_moved_moves_again() -> None:
    once = moved(rendered("a", vmi()), rendered("b", vmi()), vmi(), DRIVER)
    again = etree.fromstring(moved(once, rendered("c", vmi()), vmi(), DRIVER))
    (line,) = again.findall(COMMAND_LINE)
    assert [one.get("value") for one in line] == ["-incoming", "defer"]


@pytest.mark.parametrize(
    ("live", "said"),
    [
        ("<domain", "cannot be read"),
        ("<domain>" + " " * MAX_XML + "</domain>", "more than"),
        ("<domain><uuid>11111111-1111-1111-1111-111111111111</uuid></domain>", "has uuid"),
    ],
)
def test_what_a_launcher_sends_is_not_believed(live: str, said: str) -> None:
    with pytest.raises(NotAlike, match=said):
        moved(live, rendered("b", vmi()), vmi(), DRIVER)


def test_no_entity_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden")
    entity = f'<!DOCTYPE domain [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    live = entity + rendered("a", vmi()).replace("<on_poweroff>", "<description>&e;</description><on_poweroff>")
    assert "hidden" not in moved(live, rendered("b", vmi()), vmi(), DRIVER)


def test_a_device_more_than_the_machine_has_is_refused() -> None:
    disk = "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='vdz'/></disk></devices>"
    live = rendered("a", vmi()).replace("</devices>", disk)
    with pytest.raises(NotAlike, match="3 of disk"):
        moved(live, rendered("b", vmi()), vmi(), DRIVER)
