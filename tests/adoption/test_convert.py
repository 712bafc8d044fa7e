"""A domain as libvirt's users have them, setting by setting, and what a mapping has to say of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polyvisor.adoption import Conversion, Mapping, NetworkMapping, Outcome, PoolMapping, convert
from polyvisor.api.names import KEPT_ANNOTATION

IMAGES = PoolMapping("fast", "images", "/var/lib/libvirt/images")
POD = NetworkMapping("pod", "default")
MAPPED = Mapping(storage=(IMAGES, PoolMapping("lvm", "vg")), networks=(POD, NetworkMapping("infra/lan", "br0")))
HEAD = "<name>web</name><uuid>4dea22b3-1d52-48f3-a516-782e98ab3fa0</uuid>"
SIZES = "<memory unit='MiB'>512</memory><vcpu>2</vcpu>"
SYSTEM = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><features><acpi/><apic/></features>"
LESS = "<feature policy='disable' name='vmx'/>"
OTHER = "<interface type='network'><source network='{}'/></interface>"
GIB = "<memory unit='GiB'>1</memory>"
PAGES = "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>"
FILE = "<source file='/var/lib/libvirt/images/{}'/>"


def domain(inner: str = "", devices: str = "", *, sizes: str = SIZES, system: str = SYSTEM) -> str:
    return f"<domain type='kvm'>{HEAD}{sizes}{system}{inner}<devices>{devices}</devices></domain>"


def of(inner: str = "", devices: str = "", mapping: Mapping = MAPPED, **parts: str) -> Conversion:
    return convert(domain(inner, devices, **parts), mapping)


def topology(sockets: int, cores: int, threads: int = 1, dies: int = 1) -> str:
    counts = f"sockets='{sockets}' dies='{dies}' cores='{cores}' threads='{threads}'"
    return f"<cpu><topology {counts}/></cpu>"


def disk(source: str, *, kind: str = "file", device: str = "disk", dev: str = "vda", bus: str = "virtio") -> str:
    return f"<disk type='{kind}' device='{device}'>{source}<target dev='{dev}' bus='{bus}'/></disk>"


def spec(found: Conversion) -> dict[str, Any]:
    inner: dict[str, Any] = found.machine["spec"]["template"]["spec"]
    return inner


def outcomes(found: Conversion) -> dict[str, tuple[Outcome, str]]:
    return {note.path: (note.outcome, note.text) for note in found.notes}


def test_machine_is_halted_and_names_its_driver_and_passes_admission() -> None:
    found = of()
    assert found.machine["spec"]["runStrategy"] == "Halted"
    assert spec(found)["hypervisor"] == {"driver": "qemu", "virtType": "kvm"}
    assert spec(found)["domain"]["firmware"]["uuid"] == "4dea22b3-1d52-48f3-a516-782e98ab3fa0"
    assert spec(found)["domain"]["machine"] == {"type": "pc-q35-7.2"}
    assert found.causes == ()
    assert found.explanation.runs


@pytest.mark.parametrize(
    ("sizes", "memory", "cpu"),
    [
        ("<memory>1048576</memory><vcpu>1</vcpu>", {"guest": "1Gi"}, (1, 1, 1, None)),
        ("<memory unit='GB'>1</memory><vcpu>4</vcpu>", {"guest": "1000000000"}, (4, 1, 1, None)),
        (f"{GIB}<vcpu>8</vcpu>{topology(2, 2, 2)}", {"guest": "1Gi"}, (2, 2, 2, None)),
        (f"{GIB}<vcpu current='2'>8</vcpu>", {"guest": "1Gi"}, (2, 1, 1, 8)),
        (f"{GIB}<vcpu current='4'>8</vcpu>{topology(4, 2)}", {"guest": "1Gi"}, (2, 2, 1, 4)),
        (f"{GIB}<vcpu>4</vcpu>{topology(1, 2, dies=2)}", {"guest": "1Gi"}, (2, 2, 1, None)),
        (f"{GIB}{PAGES}", {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}, (1, 1, 1, None)),
    ],
)
def test_memory_and_cpus(sizes: str, memory: dict[str, Any], cpu: tuple[int, int, int, int | None]) -> None:
    found = spec(of(sizes=sizes))["domain"]
    assert found["memory"] == memory
    shown = found["cpu"]
    assert (shown["sockets"], shown["cores"], shown["threads"], shown.get("maxSockets")) == cpu


def test_room_for_more_memory_is_told_where_the_driver_has_none() -> None:
    found = of(sizes=f"<maxMemory unit='GiB' slots='2'>4</maxMemory>{GIB}")
    assert spec(found)["domain"]["memory"] == {"guest": "1Gi"}
    assert outcomes(found)["maxMemory"] == (Outcome.BESIDE, "the driver does not have it")


def test_memory_that_is_no_amount_is_a_cause_and_no_traceback() -> None:
    for text in ("", "<memory>lots</memory>", "<memory unit='EiBiB'>1</memory>", f"<memory>{'9' * 40}</memory>"):
        found = of(sizes=text)
        assert found.causes[0].startswith("memory: the domain has no memory size")


@pytest.mark.parametrize(
    ("inner", "field", "value"),
    [
        ("<cpu mode='host-passthrough'/>", "cpu.model", "host-passthrough"),
        ("<cpu mode='custom' match='exact'><model fallback='forbid'>Nehalem</model></cpu>", "cpu.model", "Nehalem"),
        (f"<cpu mode='host-model'>{LESS}</cpu>", "cpu.features", [{"name": "vmx", "policy": "disable"}]),
        ("<clock offset='timezone' timezone='Europe/Berlin'/>", "clock", {"timezone": "Europe/Berlin"}),
        ("<clock offset='variable' adjustment='-60' basis='utc'/>", "clock", {"utc": {"offsetSeconds": -60}}),
        ("<clock><timer name='hpet' present='no'/></clock>", "clock.timer", {"hpet": {"present": False}}),
        ("<on_reboot>destroy</on_reboot>", "rebootPolicy", "Terminate"),
        ("<sysinfo type='smbios'><system><entry name='serial'>S1</entry></system></sysinfo>", "firmware.serial", "S1"),
        ("<sysinfo><chassis><entry name='asset'>A1</entry></chassis></sysinfo>", "chassis", {"asset": "A1"}),
    ],
)
def test_settings_of_the_platform(inner: str, field: str, value: Any) -> None:
    found: Any = spec(of(inner))["domain"]
    for step in field.split("."):
        found = found[step]
    assert found == value


def test_features_and_enlightenments() -> None:
    lights = (
        "<hyperv mode='custom'><relaxed state='on'/><vapic state='off'/><spinlocks state='on' retries='4096'/>"
        "<vpindex state='on'/><synic state='on'/><stimer state='on'><direct state='on'/></stimer>"
        "<vendor_id state='on' value='KVM Hv'/></hyperv>"
    )
    system = f"<os><type>hvm</type></os><features><apic eoi='on'/>{lights}<kvm><hidden state='on'/></kvm></features>"
    found = of(system=system)
    features = spec(found)["domain"]["features"]
    assert features["acpi"] == {"enabled": False}
    assert features["apic"] == {"endOfInterrupt": True}
    assert features["kvm"] == {"hidden": True}
    assert features["hyperv"]["vapic"] == {"enabled": False}
    assert features["hyperv"]["spinlocks"] == {"spinlocks": 4096}
    assert features["hyperv"]["synictimer"] == {"direct": {}}
    assert features["hyperv"]["vendorid"] == {"vendorid": "KVM Hv"}
    lost = {path for path, (outcome, _) in outcomes(found).items() if outcome is not Outcome.KEPT}
    assert lost == set()


def test_disk_becomes_a_static_volume_and_the_one_claim_that_may_have_it() -> None:
    driver = "<driver name='qemu' type='qcow2' cache='none'/>"
    xml = disk(f"{driver}{FILE.format('a/web.qcow2')}<serial>S</serial>")
    sizes = {"/var/lib/libvirt/images/a/web.qcow2": 20 << 30}
    mapping = Mapping(namespace="shop", endpoint="rack4", storage=(IMAGES,), sizes=sizes)
    found = of("", xml, mapping)
    assert found.causes == ()
    volume, claim = found.volumes[0], found.claims[0]
    assert volume["metadata"]["name"] == "shop.web-vda"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["claimRef"] == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": "shop",
        "name": "web-vda",
    }
    assert volume["spec"]["csi"]["volumeHandle"] == "rack4/images/a/web.qcow2"
    term = {"key": "hypervisor.kubevirt.io/endpoint", "operator": "In", "values": ["rack4"]}
    assert volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] == [{"matchExpressions": [term]}]
    assert volume["spec"]["capacity"] == claim["spec"]["resources"]["requests"] == {"storage": "20Gi"}
    assert claim["metadata"] == {"name": "web-vda", "namespace": "shop"}
    assert claim["spec"]["volumeName"] == "shop.web-vda"
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == "fast"
    assert spec(found)["volumes"] == [{"name": "vda", "persistentVolumeClaim": {"claimName": "web-vda"}}]
    wanted = {"name": "vda", "disk": {"bus": "virtio"}, "cache": "none", "serial": "S"}
    assert spec(found)["domain"]["devices"]["disks"] == [wanted]


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (disk("<source file='/srv/x.img'/>"), "disk vda (/srv/x.img) is in no mapped pool; map its pool: --storage "),
        (disk("<source file='/srv/x.img'/>"), "--storage STORAGECLASS=POOL:/srv"),
        (disk("<source file='/var/lib/libvirt/images/../../x'/>"), "is in no mapped pool"),
        (disk("<source file='/var/lib/libvirt/images'/>"), "is in no mapped pool"),
        (disk("<source file='web.img'/>"), "disk vda (web.img) is in no mapped pool; write its whole path"),
        (disk("<source pool='vg' volume='../x'/>", kind="volume"), "disk vda names the volume '../x'"),
        (disk("<source pool='vg' volume='/etc/x'/>", kind="volume"), "disk vda names the volume '/etc/x'"),
        (disk("<source pool='other' volume='v'/>", kind="volume"), "disk vda is in pool 'other'"),
        (disk("<source pool='other' volume='v'/>", kind="volume"), "map it: --storage STORAGECLASS=other"),
        (disk("<source protocol='rbd' name='p/i'/>", kind="network"), "disk vda is of type 'rbd'"),
        (disk(""), "disk vda names no source"),
        (disk("<source file='/root/x.iso'/>", device="cdrom", dev="sda", bus="sata"), "or eject it"),
    ],
)
def test_disk_outside_the_mapped_pools_is_refused_with_the_mapping_to_add(xml: str, said: str) -> None:
    found = of("", xml)
    assert [said in cause for cause in found.causes][:1] == [True], found.causes
    assert found.problems[0].field == "devices/disk"
    assert found.volumes == ()


def test_volume_of_a_pool_and_an_empty_drive() -> None:
    disks = (
        "<disk type='volume'><source pool='vg' volume='data'/><target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
        "<disk type='file' device='floppy'><source file='/x'/><target dev='fda' bus='fdc'/></disk>"
    )
    found = of("", disks)
    assert found.causes == ()
    assert found.volumes[0]["spec"]["csi"]["volumeAttributes"]["pool"] == "vg"
    assert [one["name"] for one in spec(found)["domain"]["devices"]["disks"]] == ["vda", "sda"]
    assert outcomes(found)["devices/disk[3]/source/@file"] == (Outcome.BESIDE, "the API has no floppy drives")


def test_order_of_boot_devices_becomes_one_of_disks() -> None:
    disks = disk(FILE.format("w")) + disk(FILE.format("i"), device="cdrom", dev="sda", bus="sata")
    system = "<os><type>hvm</type><boot dev='cdrom'/><boot dev='hd'/></os>"
    found = spec(of("", disks, system=system))["domain"]["devices"]["disks"]
    assert {one["name"]: one["bootOrder"] for one in found} == {"vda": 2, "sda": 1}


def test_interfaces_join_mapped_networks_and_keep_their_addresses() -> None:
    cards = (
        "<interface type='network'><mac address='52:54:00:AA:00:01'/><source network='default'/>"
        "<model type='virtio'/></interface>"
        "<interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br0'/>"
        "<link state='down'/></interface>"
    )
    found = of("", cards)
    assert found.causes == ()
    assert spec(found)["domain"]["devices"]["interfaces"] == [
        {"name": "default", "masquerade": {}, "macAddress": "52:54:00:aa:00:01", "model": "virtio"},
        {"name": "lan", "bridge": {}, "macAddress": "52:54:00:aa:00:02", "state": "down"},
    ]
    assert spec(found)["networks"] == [
        {"name": "default", "pod": {}},
        {"name": "lan", "multus": {"networkName": "infra/lan"}},
    ]


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (OTHER.format("other"), "joins 'other', which no network of the cluster stands for"),
        (OTHER.format("other"), "map it: --network NAME=other"),
        ("<interface type='ethernet'/>", "is of type 'ethernet' and names no network"),
        (OTHER.format("default") * 2, "a machine joins the Pod's network once"),
    ],
)
def test_interface_without_a_mapping_is_refused_with_the_mapping_to_add(cards: str, said: str) -> None:
    assert said in of("", cards).causes[0]


def test_machine_without_interfaces_gets_none() -> None:
    assert spec(of())["domain"]["devices"]["autoattachPodInterface"] is False


def test_devices() -> None:
    devices = (
        "<serial type='pty'/><console type='pty'/><input type='tablet' bus='usb'/><sound model='ich9'/>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon model='none'/>"
        "<watchdog model='i6300esb' action='poweroff'/><panic model='isa'/><graphics type='vnc'/>"
        "<video><model type='virtio'/></video><vsock model='virtio'><cid auto='no' address='7'/></vsock>"
    )
    found = spec(of("", devices))["domain"]["devices"]
    assert found["inputs"] == [{"name": "tablet", "type": "tablet", "bus": "usb"}]
    assert found["sound"] == {"name": "sound", "model": "ich9"}
    assert found["rng"] == {}
    assert found["autoattachMemBalloon"] is False
    assert found["watchdog"] == {"name": "watchdog", "i6300esb": {"action": "poweroff"}}
    assert found["panicDevices"] == [{"model": "isa"}]
    assert found["autoattachGraphicsDevice"] is True
    assert found["video"] == {"type": "virtio"}
    assert found["autoattachVSOCK"] is True
    assert "autoattachSerialConsole" not in found
    bare = spec(of())["domain"]["devices"]
    assert bare["autoattachSerialConsole"] is False
    assert bare["autoattachGraphicsDevice"] is False


def test_tpm_of_another_keeps_its_state_on_the_host_and_that_is_said() -> None:
    found = of("", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")
    assert spec(found)["domain"]["devices"]["tpm"] == {"persistent": True}
    assert "begins with an empty one" in outcomes(found)["devices/tpm/backend/@type"][1]
    passed = of("", "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>")
    assert "tpm" not in spec(passed)["domain"]["devices"]


def test_what_the_api_cannot_express_is_kept_beside_the_machine_whole() -> None:
    inner = (
        "<title>The web server</title><genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>"
        "<metadata><a:one xmlns:a='http://example.com/a'><a:two x='1'>three</a:two></a:one></metadata>"
        "<pm><suspend-to-disk enabled='no'/></pm>"
    )
    devices = "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/></source></hostdev>"
    found = of(inner, devices)
    kept = json.loads(found.machine["metadata"]["annotations"][KEPT_ANNOTATION])
    assert kept == found.kept
    assert kept["title"] == "The web server"
    assert kept["metadata/a:one/a:two"] == "three"
    assert kept["metadata/a:one/a:two/@x"] == "1"
    assert kept["pm/suspend-to-disk/@enabled"] == "no"
    assert kept["devices/hostdev/source/vendor/@id"] == "0x1234"
    assert "hostDevices" in outcomes(found)["devices/hostdev/@mode"][1]
    assert {note.path for note in found.notes} >= set(kept)


def test_password_of_a_screen_is_in_no_object_and_no_note() -> None:
    found = of("", "<graphics type='vnc' port='5900' passwd='hunter2'/><graphics type='spice' passwd='hunter2'/>")
    assert "hunter2" not in json.dumps([found.machine, found.kept])
    assert "hunter2" not in repr(found.notes)


def test_more_than_an_annotation_holds_is_refused() -> None:
    found = of(f"<description>{'x' * 210_000}</description>")
    assert "at most 200 KiB can be kept beside the machine" in found.causes[0]
    assert "annotations" not in found.machine["metadata"]


def test_kernel_on_the_host_needs_an_image_that_has_it() -> None:
    system = (
        "<os><type>hvm</type><kernel>/boot/vmlinuz</kernel><initrd>/boot/initrd</initrd><cmdline>quiet</cmdline></os>"
    )
    without = of(system=system)
    assert "firmware" in spec(without)["domain"]
    assert "kernelBoot" not in spec(without)["domain"]["firmware"]
    assert without.kept["os/kernel"] == "/boot/vmlinuz"
    boot = spec(of(system=system, mapping=Mapping(kernel_image="registry/kernel:1")))["domain"]["firmware"][
        "kernelBoot"
    ]
    assert boot == {
        "container": {"image": "registry/kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"},
        "kernelArgs": "quiet",
    }


def test_uefi_and_its_variables() -> None:
    system = (
        "<os><type machine='q35'>hvm</type><loader secure='yes' type='pflash'>/usr/share/OVMF/X.fd</loader>"
        "<nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>"
        "<features><acpi/><apic/><smm state='on'/></features>"
    )
    found = of(system=system)
    assert spec(found)["domain"]["firmware"]["bootloader"] == {"efi": {"secureBoot": True, "persistent": True}}
    assert found.causes == ()
    assert "stays on the host" in outcomes(found)["os/nvram"][1]


@pytest.mark.parametrize("name", ["Web_1", "web 1", "-web.1-", "WEB-1"])
def test_names_become_labels(name: str) -> None:
    found = convert(domain().replace("<name>web<", f"<name>{name}<"), MAPPED)
    assert found.machine["metadata"]["name"] == "web-1"
    assert found.domain == name
    assert outcomes(found)["name"] == (Outcome.CHANGED, "the machine is called web-1")


def test_architecture() -> None:
    arm = of(system="<os><type arch='aarch64' machine='virt'>hvm</type></os>")
    assert spec(arm)["architecture"] == "arm64"
    other = of(system="<os><type arch='ppc64le'>hvm</type></os>")
    assert "architecture 'ppc64le' is not supported" in other.causes[0]


def test_values_that_admission_refuses_are_named() -> None:
    system = "<os><type>hvm</type></os><features><hyperv><spinlocks state='on' retries='12'/></hyperv></features>"
    assert any("hyperv.spinlocks.spinlocks: found 12" in cause for cause in of(system=system).causes)
