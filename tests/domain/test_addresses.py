"""Where the devices of a QEMU machine sit is written out, and a real libvirt changes nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from polyvisor.agent.live import render as agent_render
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver
from tests.drivers.judge import Judge, judge
from tests.drivers.kit import machine

BASE = Path("/nowhere")
COUNTS = {"scsi": 30, "sata": 20, "usb": 9, "virtio": 60}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(tmp_path_factory.mktemp("j")) as one:
        yield one


@pytest.fixture
def qemu() -> Driver:
    driver = registry().get("qemu")
    assert driver
    return driver


def named(bus: str, numbers: range) -> list[dict[str, Any]]:
    return [{"name": f"{bus}{n}", "disk": {"bus": bus}} for n in numbers]


def rendered(driver: Driver, domain: dict[str, Any], *absent: str) -> etree._Element:
    names = [disk["name"] for disk in domain["devices"].get("disks") or []]
    disks = {name: DiskSource(BASE / f"{name}.img", "raw") for name in names if name not in absent}
    context = DomainContext("qemu", disks=disks, agent_socket=BASE / "agent", graphics_socket=BASE / "vnc")
    return etree.fromstring(render(machine(driver, domain), driver, context))


def places(domain: etree._Element) -> dict[str, dict[str, str]]:
    """Return the address of each device that has a name, and of each controller."""
    found = {}
    for device in domain.iterfind("devices/*"):
        alias, address = device.find("alias"), device.find("address")
        own = str(alias.get("name")) if alias is not None else device.tag
        if device.tag == "controller":
            own = f"{device.get('type')} {device.get('index')} {device.get('model')}"
        if address is not None:
            found[own] = {str(key): str(value) for key, value in address.attrib.items()}
    return found


@pytest.mark.parametrize("kind", ["q35", "pc"])
@pytest.mark.parametrize("bus", COUNTS)
def test_libvirt_adds_no_controller_and_moves_no_disk(qemu: Driver, ask: Judge, bus: str, kind: str) -> None:
    domain = rendered(qemu, {"machine": {"type": kind}, "devices": {"disks": named(bus, range(COUNTS[bus]))}})
    answer = ask(etree.tostring(domain, encoding="unicode"))
    assert answer.refusal == ""
    ours, theirs = places(domain), places(etree.fromstring(answer.xml))
    assert {name: ours.get(name) for name in theirs if name.startswith("ua-")} == {
        name: address for name, address in theirs.items() if name.startswith("ua-")
    }
    controllers = {
        (c.get("type"), c.get("index")) for c in domain.iterfind("devices/controller") if c.get("type") != "ide"
    }
    built_in = {("sata", "0"), ("ide", "0"), ("usb", "0"), ("virtio-serial", "0")}
    added = {(c.get("type"), c.get("index")) for c in etree.fromstring(answer.xml).iterfind("devices/controller")}
    assert added - controllers <= built_in
    assert "lsilogic" not in answer.xml
    assert "lsi" not in answer.command


def test_all_scsi_disks_are_on_one_controller(qemu: Driver) -> None:
    domain = rendered(qemu, {"devices": {"disks": named("scsi", range(30))}})
    units = [disk.find("address").attrib for disk in domain.iterfind("devices/disk")]  # type: ignore[union-attr]
    assert [int(unit["unit"]) for unit in units] == list(range(30))
    assert {(unit["controller"], unit["bus"], unit["target"]) for unit in units} == {("0", "0", "0")}


@pytest.mark.parametrize("bus", ["scsi", "virtio"])
def test_a_disk_that_came_later_is_where_a_restart_puts_it(qemu: Driver, ask: Judge, bus: str) -> None:
    disks = named(bus, range(5))
    running = rendered(qemu, {"devices": {"disks": disks[:3]}})
    restarted = places(rendered(qemu, {"devices": {"disks": disks}}))
    for name in (f"{bus}{n}" for n in range(3)):
        assert places(running)[f"ua-{name}"] == restarted[f"ua-{name}"]
    vmi = machine(qemu, {"devices": {"disks": disks}}).model_dump(by_alias=True, exclude_none=True)
    vmi["status"] = {"hypervisor": {"virtType": "qemu"}}
    taken, units = {"sda", "sdb", "sdc"}, {0, 1, 2}
    plugged = agent_render.disk_xml(vmi, qemu, f"{bus}3", DiskFile(BASE / "x", "raw"), taken, BASE, units)
    address = etree.fromstring(plugged.xml).find("address")
    if bus == "virtio":  # libvirt takes the first free port
        ports = {int(c.get("index") or 0) for c in running.iterfind("devices/controller[@model='pcie-root-port']")}
        used = {int(a["bus"], 16) for a in places(running).values() if a["type"] == "pci"}
        assert address is None
        assert min(ports - used) == int(restarted[f"ua-{bus}3"]["bus"], 16)
    else:
        assert address is not None
        assert dict(address.attrib) == restarted[f"ua-{bus}3"]


def test_a_place_that_is_in_use_is_not_given_again(qemu: Driver) -> None:
    vmi = machine(qemu, {"devices": {"disks": named("scsi", range(3))}}).model_dump(by_alias=True, exclude_none=True)
    vmi["status"] = {"hypervisor": {"virtType": "qemu"}}
    plugged = agent_render.disk_xml(vmi, qemu, "scsi2", DiskFile(BASE / "x", "raw"), {"sda", "sdc"}, BASE, {0, 2})
    assert (plugged.target, plugged.unit) == ("sdb", 1)


def test_a_disk_that_is_not_there_yet_keeps_its_place(qemu: Driver) -> None:
    disks = [*named("scsi", range(3)), *named("virtio", range(3))]
    whole, part = (rendered(qemu, {"devices": {"disks": disks}}, *absent) for absent in ((), ("scsi1", "virtio1")))
    assert places(part).items() <= places(whole).items()


@pytest.mark.parametrize(
    ("given", "shown"),
    [(None, ("512", "4096")), ({"custom": {"logical": 4096, "physical": 4096}}, ("4096", "4096"))],
)
def test_block_sizes_are_the_disks_own_or_those_of_what_holds_it(
    qemu: Driver, given: dict[str, Any] | None, shown: tuple[str, str]
) -> None:
    disk = {"name": "d", "disk": {"bus": "virtio"}, "blockSize": given or {"matchVolume": {}}}
    held = {"d": DiskSource(BASE / "d.img", "raw", logical=0 if given else 512, physical=0 if given else 4096)}
    written = render(machine(qemu, {"devices": {"disks": [disk]}}), qemu, DomainContext("qemu", disks=held))
    size = etree.fromstring(written).find("devices/disk/blockio")
    assert size is not None
    assert (size.get("logical_block_size"), size.get("physical_block_size")) == shown
