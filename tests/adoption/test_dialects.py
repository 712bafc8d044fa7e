"""Each driver's own way to write a domain, as its libvirt shows machines that somebody else made."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from polyvisor.adoption import Conversion, Mapping, NetworkMapping, Outcome, PoolMapping, convert

_FIELDS = r"volumes\[\d+\]|networks\[\d+\]|.*interfaces\[\d+\]\.(masquerade|macAddress)"
NOT_YET = re.compile(rf"spec\.template\.spec\.({_FIELDS})")
"""That a driver is brought no images and joins no networks is said of it, not of the domain."""
NETWORKS = (
    NetworkMapping("pod", "br0"),
    NetworkMapping("pod", "VM Network"),
    NetworkMapping("pod", "Default Switch"),
    NetworkMapping("pod", "Bridged"),
)
POOLS = (
    PoolMapping("fast", "images", "/var/lib/images"),
    PoolMapping("stores", "store1", "/vmfs/volumes/store1"),
    PoolMapping("windows", "d", "/D:/machines"),
    PoolMapping("trees", "trees", "/srv/trees"),
    PoolMapping("home", "home", "/home/me/machines"),
)
HEAD = "<name>m</name><uuid>4dea22b3-1d52-48f3-a516-782e98ab3fa0</uuid><memory unit='KiB'>1048576</memory>"


class Dialect(NamedTuple):
    """XML below the domain, and what it has to become."""

    kind: str
    driver: str
    virt_type: str
    xml: str
    devices: dict[str, Any]
    path: str = ""
    """Of the first disk, on the host."""


DIALECTS = {
    "whole machine of Xen": Dialect(
        "xen",
        "xen",
        "xen",
        "<vcpu>2</vcpu><os><type arch='x86_64' machine='xenfv'>hvm</type><loader type='rom'>/usr/lib/xen/boot/hvmloader"
        "</loader><boot dev='hd'/></os><features><acpi/><apic/><pae/></features><devices><disk type='file'>"
        "<driver name='qemu' type='qcow2'/><source file='/var/lib/images/m.qcow2'/><target dev='hda' bus='ide'/></disk>"
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='hdc' bus='ide'/></disk>"
        "<interface type='bridge'><mac address='00:16:3e:00:00:01'/><source bridge='br0'/><script path='vif-bridge'/>"
        "<model type='netfront'/></interface></devices>",
        {"disks": [{"name": "hda", "disk": {}}]},
        "/var/lib/images/m.qcow2",
    ),
    "paravirtual machine of Xen": Dialect(
        "xen",
        "xen",
        "xenpv",
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='xenpv'>linux</type><kernel>/boot/vmlinuz</kernel>"
        "<cmdline>console=hvc0</cmdline></os><devices><disk type='block'><driver name='phy' type='raw'/>"
        "<source dev='/var/lib/images/m'/><target dev='xvda' bus='xen'/></disk>"
        "<console type='pty'><target type='xen' port='0'/></console></devices>",
        {"disks": [{"name": "xvda", "disk": {}}]},
        "/var/lib/images/m",
    ),
    "PVH machine of Xen": Dialect(
        "xen",
        "xen",
        "xenpvh",
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>/boot/vmlinuz</kernel></os>"
        "<devices><disk type='file'><driver name='qemu' type='raw'/><source file='/var/lib/images/m.img'/>"
        "<target dev='xvda' bus='xen'/></disk></devices>",
        {"disks": [{"name": "xvda", "disk": {}}]},
        "/var/lib/images/m.img",
    ),
    "ESX": Dialect(
        "vmware",
        "esx",
        "vmware",
        "<vcpu placement='static'>4</vcpu><cputune><shares>4000</shares></cputune><os><type arch='x86_64'>hvm</type>"
        "</os><cpu><topology sockets='2' dies='1' cores='2' threads='1'/></cpu><devices><disk type='file'>"
        "<source file='[store1] m/m.vmdk'/><target dev='sda' bus='scsi'/><address type='drive' controller='0' bus='0' "
        "target='0' unit='0'/></disk><controller type='scsi' index='0' model='vmpvscsi'/><interface type='bridge'>"
        "<mac address='00:50:56:00:00:01' type='generated'/><source bridge='VM Network'/><model type='vmxnet3'/>"
        "</interface><video><model type='vmvga' vram='8192'/></video></devices>",
        {"disks": [{"name": "sda", "disk": {"bus": "scsi"}}]},
        "/vmfs/volumes/store1/m/m.vmdk",
    ),
    "VMware Workstation": Dialect(
        "vmware",
        "vmware",
        "vmware",
        "<vcpu>1</vcpu><os><type arch='i686'>hvm</type></os><devices><disk type='file'>"
        "<source file='/home/me/machines/m.vmdk'/><target dev='sda' bus='scsi'/></disk><interface type='user'>"
        "<mac address='00:0c:29:00:00:01'/><model type='vlance'/></interface></devices>",
        {"disks": [{"name": "sda", "disk": {"bus": "scsi"}}]},
        "/home/me/machines/m.vmdk",
    ),
    "Hyper-V": Dialect(
        "hyperv",
        "hyperv",
        "hyperv",
        "<vcpu>2</vcpu><os><type>hvm</type></os><devices><disk type='file'>"
        "<source file='D:\\machines\\m.vhdx'/><target dev='hda' bus='ide'/></disk><controller type='ide' index='0'/>"
        "<disk type='file'><source file='D:\\machines\\data.vhdx'/><target dev='sda' bus='scsi'/></disk>"
        "<interface type='bridge'><mac address='00:15:5D:00:00:01'/><source bridge='Default Switch'/></interface>"
        "</devices>",
        {"disks": [{"name": "hda", "disk": {}}, {"name": "sda", "disk": {"bus": "scsi"}}]},
        "/D:/machines/m.vhdx",
    ),
    "VirtualBox": Dialect(
        "vbox",
        "vbox",
        "vbox",
        "<vcpu>1</vcpu><os><type>hvm</type><boot dev='hd'/><boot dev='cdrom'/></os><features><acpi/><apic/></features>"
        "<devices><disk type='file'><source file='/home/me/machines/m.vdi'/><target dev='sda' bus='sata'/></disk>"
        "<interface type='bridge'><mac address='08:00:27:00:00:01'/><source bridge='Bridged'/>"
        "<model type='82540EM'/></interface><sound model='ac97'/></devices>",
        {"disks": [{"name": "sda", "disk": {"bus": "sata"}}], "sound": {"name": "sound", "model": "ac97"}},
        "/home/me/machines/m.vdi",
    ),
    "bhyve": Dialect(
        "bhyve",
        "bhyve",
        "bhyve",
        "<vcpu>1</vcpu><os firmware='efi'><type arch='x86_64'>hvm</type></os><features><acpi/><apic/></features>"
        "<clock offset='utc'/><devices><disk type='file'><driver name='file' type='raw'/>"
        "<source file='/var/lib/images/m.img'/><target dev='vda' bus='virtio'/></disk><interface type='bridge'>"
        "<mac address='52:54:00:00:00:01'/><source bridge='br0'/><model type='virtio'/></interface>"
        "<serial type='nmdm'><source master='/dev/nmdm0A' slave='/dev/nmdm0B'/><target port='0'/></serial></devices>",
        {"disks": [{"name": "vda", "disk": {"bus": "virtio"}}]},
        "/var/lib/images/m.img",
    ),
    "Cloud Hypervisor": Dialect(
        "kvm",
        "ch",
        "kvm",
        "<vcpu>2</vcpu><os><type arch='x86_64'>hvm</type><kernel>/boot/vmlinux</kernel><cmdline>root=/dev/vda</cmdline>"
        "</os><devices><emulator>/usr/bin/cloud-hypervisor</emulator><disk type='file'><driver type='raw'/>"
        "<source file='/var/lib/images/m.img'/><target dev='vda' bus='virtio'/></disk>"
        "<serial type='pty'/></devices>",
        {"disks": [{"name": "vda", "disk": {"bus": "virtio"}}]},
        "/var/lib/images/m.img",
    ),
    "Virtuozzo": Dialect(
        "vz",
        "vz",
        "vz",
        "<vcpu>2</vcpu><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os><clock offset='utc'/><devices>"
        "<disk type='file'><driver type='qcow2' cache='writeback'/><source file='/var/lib/images/m.hdd'/>"
        "<target dev='sda' bus='scsi'/></disk><interface type='bridge'><mac address='00:1c:42:00:00:01'/>"
        "<source bridge='br0'/><model type='virtio'/></interface></devices>",
        {"disks": [{"name": "sda", "disk": {"bus": "scsi"}}]},
        "/var/lib/images/m.hdd",
    ),
    "OpenVZ": Dialect(
        "openvz",
        "openvz",
        "openvz",
        "<vcpu>1</vcpu><os><type>exe</type><init>/sbin/init</init></os><devices><filesystem type='mount'>"
        "<source dir='/srv/trees/101'/><target dir='/'/></filesystem></devices>",
        {},
        "/srv/trees/101",
    ),
    "LXC": Dialect(
        "lxc",
        "lxc",
        "lxc",
        "<vcpu>1</vcpu><os><type arch='x86_64'>exe</type><init>/sbin/init</init></os><features><privnet/></features>"
        "<devices><emulator>/usr/libexec/libvirt_lxc</emulator><filesystem type='mount' accessmode='passthrough'>"
        "<source dir='/srv/trees/data'/><target dir='/mnt/data'/></filesystem><filesystem type='mount'>"
        "<source dir='/srv/trees/m'/><target dir='/'/></filesystem><filesystem type='mount'><source dir='/home'/>"
        "<target dir='/home'/></filesystem><interface type='bridge'><mac address='00:16:3e:00:00:02'/>"
        "<source bridge='br0'/></interface><console type='pty'><target type='lxc' port='0'/></console></devices>",
        {},
        "/srv/trees/m",
    ),
}


def converted(dialect: Dialect) -> Conversion:
    mapping = Mapping(storage=POOLS, networks=NETWORKS, kernel_image="registry/kernel:1")
    return convert(f"<domain type='{dialect.kind}'>{HEAD}{dialect.xml}</domain>", mapping)


@pytest.mark.parametrize("dialect", [pytest.param(dialect, id=id_) for id_, dialect in DIALECTS.items()])
def test_domain_becomes_a_machine_of_its_driver(dialect: Dialect) -> None:
    found = converted(dialect)
    spec = found.machine["spec"]["template"]["spec"]
    assert spec["hypervisor"] == {"driver": dialect.driver, "virtType": dialect.virt_type}
    assert found.problems == ()
    assert spec["domain"]["memory"] == {"guest": "1Gi"}
    devices = spec["domain"]["devices"]
    assert {key: devices.get(key) for key in dialect.devices} == dialect.devices
    paths = [volume["spec"]["csi"]["volumeAttributes"]["path"] for volume in found.volumes]
    assert dialect.path in paths
    assert spec["volumes"][0]["name"] in {"root", *(disk["name"] for disk in devices.get("disks") or [])}
    macs = [one["macAddress"] for one in devices.get("interfaces") or []]
    assert macs == [note.value.lower() for note in found.notes if note.path.endswith("/mac/@address")]
    assert [cause for cause in found.causes if not NOT_YET.match(cause)] == []


@pytest.mark.parametrize("dialect", [pytest.param(dialect, id=id_) for id_, dialect in DIALECTS.items()])
def test_every_setting_of_the_domain_is_accounted_for(dialect: Dialect) -> None:
    found = converted(dialect)
    lost = {note.path for note in found.notes if note.outcome is not Outcome.KEPT and not note.path.endswith("()")}
    assert set(found.kept) == lost


def test_containers_own_folders_and_what_is_outside_them() -> None:
    found = converted(DIALECTS["LXC"])
    spec = found.machine["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["root", "data"]
    assert found.kept["devices/filesystem[3]/target/@dir"] == "/home"
    assert [volume["spec"]["volumeMode"] for volume in found.volumes] == ["Filesystem", "Filesystem"]


def test_another_init_of_a_container_is_told() -> None:
    xml = DIALECTS["LXC"].xml.replace("/sbin/init<", "/bin/sh<")
    found = converted(DIALECTS["LXC"]._replace(xml=xml))
    note = next(note for note in found.notes if note.path == "os/init")
    assert (note.outcome, note.text) == (Outcome.CHANGED, "becomes /sbin/init")


def test_a_drive_without_a_disc_is_left_out_where_the_driver_has_none() -> None:
    found = converted(DIALECTS["whole machine of Xen"])
    assert found.kept["devices/disk[2]/target/@dev"] == "hdc"
    assert "no CD-ROM drive without media" in next(n.text for n in found.notes if n.path == "devices/disk[2]/@device")


def test_buses_that_the_api_has_no_word_for_are_left_to_the_driver() -> None:
    found = converted(DIALECTS["whole machine of Xen"])
    bus = next(note for note in found.notes if note.path == "devices/disk[1]/target/@bus")
    assert (bus.value, bus.outcome, bus.text) == ("ide", Outcome.CHANGED, "becomes xen")


def test_models_of_network_cards_are_called_by_the_apis_names() -> None:
    models = {}
    for id_ in ("ESX", "VMware Workstation", "VirtualBox", "whole machine of Xen"):
        interface = converted(DIALECTS[id_]).machine["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"][0]
        models[id_] = interface.get("model")
    assert models == {"ESX": None, "VMware Workstation": "pcnet", "VirtualBox": "e1000", "whole machine of Xen": None}


def test_a_disc_outside_of_datastores_does_not_make_a_host_a_desktop() -> None:
    disk = "<disk type='file' device='{}'><source file='{}'/><target dev='{}' bus='{}'/></disk>"
    disks = disk.format("disk", "[store1] m/m.vmdk", "sda", "scsi")
    disks += disk.format("cdrom", "/vmimages/tools-isoimages/linux.iso", "hda", "ide")
    system = "<vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>"
    found = convert(f"<domain type='vmware'>{HEAD}{system}<devices>{disks}</devices></domain>", Mapping(storage=POOLS))
    assert found.driver == "esx"
    assert "/vmimages/tools-isoimages/linux.iso" in found.problems[0].message
