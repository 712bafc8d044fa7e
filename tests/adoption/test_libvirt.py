"""Machines of domains that a real libvirt has defined: QEMU gets the same hardware from the domain and the machine.

libvirt fills in what the XML leaves open, as it does for every user. Its embedded driver then says with which arguments
it would start QEMU, once for the domain and once for what the converted machine is rendered to.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.adoption import Conversion, Mapping, NetworkMapping, PoolMapping, convert
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers import registry
from tests.drivers.judge import Judge, judge

DRIVER = registry().get("qemu")
MAPPING = Mapping(
    storage=(PoolMapping("fast", "images", "/var/lib/libvirt/images"),), networks=(NetworkMapping("pod", "default"),)
)
DISK = (
    "<disk type='file' device='{}'><driver name='qemu' type='raw'{}/>"
    "<source file='/var/lib/libvirt/images/{}'/>{}</disk>"
)
VIRTIO = "<target dev='vda' bus='virtio'/>"
BLOCKS = "<blockio logical_block_size='4096' physical_block_size='4096'/>"
CARD = "<interface type='user'><mac address='52:54:00:00:00:{}'/><model type='{}'/></interface>"
PLACE = "<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>"
SYSTEM = "<os><type arch='x86_64' machine='{}'>hvm</type>{}</os><features><acpi/><apic/></features>"
GUEST = "<memory unit='MiB'>256</memory><vcpu>2</vcpu>"
DOMAINS = {
    "a server as virt-install makes it": (
        GUEST
        + SYSTEM.format("q35", "<boot dev='hd'/>")
        + "<cpu mode='custom' match='exact'><model>Nehalem</model></cpu>"
        + "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>"
        + "<timer name='hpet' present='no'/></clock><devices>"
        + DISK.format("disk", " cache='none' io='native'", "a.img", f"{VIRTIO}<serial>S1</serial>")
        + CARD.format("01", "virtio").replace("</interface>", f"{PLACE}</interface>")
        + "<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        + "<input type='tablet' bus='usb'/><graphics type='vnc'/><video><model type='vga'/></video>"
        + "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices>"
    ),
    "an old machine": (
        GUEST
        + SYSTEM.format("pc", "<boot dev='hd'/>")
        + "<cpu mode='custom' match='exact'><model>Nehalem</model><topology sockets='1' cores='2' threads='1'/></cpu>"
        + "<clock offset='timezone' timezone='Europe/Berlin'/><devices>"
        + DISK.format("disk", "", "a.img", "<target dev='sda' bus='scsi'/>")
        + DISK.format("disk", "", "b.img", "<target dev='sdb' bus='scsi'/><readonly/>")
        + CARD.format("01", "e1000")
        + "<serial type='pty'/><sound model='ac97'/><watchdog model='i6300esb' action='reset'/></devices>"
    ),
    "a machine for Windows": (
        GUEST
        + "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/><apic/></features>"
        + "<cpu mode='custom' match='exact'><model>Nehalem</model><feature policy='disable' name='sse4.2'/></cpu>"
        + "<clock offset='utc'/><devices>"
        + DISK.format("disk", "", "w.img", "<target dev='sda' bus='sata'/><boot order='2'/>")
        + DISK.format("cdrom", "", "w.iso", "<target dev='sdb' bus='sata'/><readonly/><boot order='1'/>")
        + CARD.format("01", "e1000e")
        + "<serial type='pty'/><input type='tablet' bus='usb'/><sound model='ich9'/><graphics type='vnc'/>"
        + "<video><model type='virtio'/></video></devices>"
    ),
    "what few have": (
        "<memory unit='MiB'>256</memory><vcpu current='2'>4</vcpu><sysinfo type='smbios'><system>"
        "<entry name='serial'>S-1</entry></system><chassis><entry name='asset'>A-1</entry></chassis></sysinfo>"
        "<os><type arch='x86_64' machine='q35'>hvm</type><smbios mode='sysinfo'/></os><features><acpi/><apic eoi='on'/>"
        "</features><cpu mode='custom' match='exact'><model>Nehalem</model>"
        "<topology sockets='4' cores='1' threads='1'/></cpu><on_reboot>destroy</on_reboot><devices>"
        + DISK.format("disk", " cache='none'", "a.img", f"{VIRTIO}<shareable/>")
        + DISK.format("disk", "", "b.img", "<target dev='sda' bus='usb'/>")
        + DISK.format("disk", " error_policy='report'", "c.img", f"<target dev='vdb' bus='virtio'/>{BLOCKS}")
        + "<serial type='pty'/><panic model='isa'/><memballoon model='none'/><input type='tablet' bus='virtio'/>"
        + "</devices>"
    ),
}  # fmt: skip
CONTROLLERS = (
    "pcie-root-port",
    "pcie-pci-bridge",
    "pci-bridge",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "lsi",
    "usb-hub",
)
USB = ("qemu-xhci", "piix3-usb-uhci", "ich9-usb-ehci1", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3")
BOARD = (*CONTROLLERS, *USB, "ahci", "usb-hub")
PLACES = ("id", "bus", "addr", "drive", "netdev", "chardev", "port", "nr", "chassis", "multifunction", "audiodev")
OWN = {
    "bootindex",
    "free-page-reporting",
    "rng",
    "channel",
    "scsi-id",
    "lun",
    "unit",
    "device_id",
    "share-rw",
    "host_mtu",
}
"""Properties that say where a device is, or that every machine of Polyvisor's has."""
KINDS = ("disks", "interfaces", "inputs", "sound", "rng", "watchdog", "panicDevices", "autoattachMemBalloon", "video")
PLAIN = ("-cpu", "-m", "-smp", "-uuid", "-rtc", "-no-reboot")


DEFAULTS = re.compile(r",(dies|clusters)=1\b")
"""Levels of a CPU topology that libvirt writes or not, by its version and by whether the domain has a topology."""


class Started:
    """QEMU's arguments, taken apart."""

    def __init__(self, command: str) -> None:
        words = shlex.split(command)
        pairs = list(pairwise(words))
        self.plain = {option: DEFAULTS.sub("", value) for option, value in pairs if option in PLAIN}
        self.machine = next(value.partition(",")[0] for option, value in pairs if option == "-machine")
        devices = [json.loads(value) for option, value in pairs if option == "-device" and value.startswith("{")]
        self.devices = [device for device in devices if device["driver"] not in BOARD]
        self.cards = {one["mac"]: (one["bus"], one["addr"]) for one in devices if "mac" in one}
        """Where interfaces are, by which guests name them."""
        blocks = [json.loads(value) for option, value in pairs if option == "-blockdev"]
        self.files = Counter(block["filename"] for block in blocks if "filename" in block)
        self.smbios = sorted(value for option, value in pairs if option == "-smbios" and not value.startswith("type=1"))


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(tmp_path_factory.mktemp("j")) as one:
        yield one


def rendered(found: Conversion) -> str:
    """Render the machine as a start would."""
    assert DRIVER
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance"}
    metadata = {"name": "m", "namespace": "default", "uid": "0f0e0d0c-0000-4000-8000-000000000001"}
    spec = found.machine["spec"]["template"]["spec"]
    admitted = admit(
        "CREATE", VMIS, {**obj, "metadata": metadata, "spec": spec}, None, AdmissionContext({}, registry())
    )
    assert admitted.problems == []
    volumes = [volume["name"] for volume in spec["volumes"]]
    paths = [volume["spec"]["csi"]["volumeAttributes"]["path"] for volume in found.volumes]
    disks = {name: DiskSource(Path(path), "raw") for name, path in zip(volumes, paths, strict=True)}
    context = DomainContext("qemu", disks=disks, graphics_socket=Path("/nowhere/vnc"), agent_socket=Path("/nowhere/ga"))
    return render(VirtualMachineInstance.model_validate(admitted.obj), DRIVER, context)


def without_places(devices: dict[str, Any]) -> dict[str, Any]:
    """Return the devices; their places are not told of a domain of Polyvisor's own, which has them anew."""
    found: dict[str, Any] = json.loads(json.dumps({name: devices.get(name) for name in KINDS}))
    for one in [*(found["disks"] or []), *(found["interfaces"] or [])]:
        one.pop("pciAddress", None)
        one.get("disk", {}).pop("pciAddress", None)
    return found


def short(device: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in device.items() if key not in PLACES and key not in OWN}


@pytest.mark.parametrize("id_", DOMAINS)
def test_qemu_gets_the_same_hardware(id_: str, libvirt: Judge) -> None:
    defined = libvirt(f"<domain type='qemu'><name>m</name>{DOMAINS[id_]}</domain>")
    assert defined.refusal == ""
    found = convert(defined.xml, MAPPING)
    assert found.causes == ()
    again = libvirt(rendered(found))
    assert again.refusal == ""
    first, second = Started(libvirt(defined.xml).command), Started(again.command)
    assert second.machine == first.machine
    assert second.plain == first.plain
    assert second.files == first.files
    assert second.smbios == first.smbios
    assert second.cards == first.cards
    missing = [short(device) for device in first.devices if short(device) not in [short(d) for d in second.devices]]
    assert missing == []


@pytest.mark.parametrize("id_", DOMAINS)
def test_converting_what_the_machine_renders_to_changes_nothing_more(id_: str, libvirt: Judge) -> None:
    once = convert(libvirt(f"<domain type='qemu'><name>m</name>{DOMAINS[id_]}</domain>").xml, MAPPING)
    twice = convert(libvirt(rendered(once)).xml, MAPPING)
    first, second = (one.machine["spec"]["template"]["spec"]["domain"] for one in (once, twice))
    assert {key: second.get(key) for key in first if key != "devices"} == {
        key: first[key] for key in first if key != "devices"
    }
    assert without_places(second["devices"]) == without_places(first["devices"])
