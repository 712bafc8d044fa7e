"""What is common to hypervisors whose machines libvirt writes down as VMX files: the answers, and the domain XML.

One function of libvirt, ``virVMXFormatConfig``, reads the domain and writes the file. It refuses some of what it cannot
write and passes over the rest in silence, so the table below says which is which, and :func:`adapt` leaves only what it
reads. CD-ROMs go on IDE, where every guest's installer finds them, disks on a SCSI controller that every guest knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from string import ascii_lowercase
from typing import TYPE_CHECKING

from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.base import Limit, Rule
from polyvisor.drivers.pruning import keep, keep_attributes, part

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

VMX = "libvirt 9.0.0 src/vmx/vmx.c"
FORMAT = f"{VMX} virVMXFormatConfig"
NOWHERE = f"{FORMAT} (nothing there reads it)"
DISK = f"{VMX} virVMXFormatDisk"
ETHERNET = f"{VMX} virVMXFormatEthernet"

HARDWARE = (
    "https://docs.vmware.com/en/VMware-vSphere/8.0/vsphere-vm-administration/"
    "GUID-789C3913-1053-4850-A0F0-E29C3D32B6DA.html"
)
"""VMware's page on what each version of its virtual hardware has."""

CONTROLLER = "lsilogic"
IDE_DISKS = 4
TOO_MANY = "sdzz"
"""Where a disk goes for which there is no place left: libvirt refuses it ("SCSI disk index is too large")."""
KEPT = ("name", "uuid", "memory", "vcpu", "os", "cpu", "on_poweroff", "on_reboot", "on_crash", "devices")
KEPT_OF_DISK = ("driver", "source", "target", "alias")
KEPT_OF_INTERFACE = ("mac", "source", "model", "alias")
MODELS = {"pcnet": "vlance"}
"""KubeVirt's names of network cards -> VMware's, where they differ: both are AMD's PCnet."""
BEST_CARD = "vmxnet3"

COMMON: Table = {
    **yes(f"{DISK}, virVMXFormatVNC (BIOS machines boot their first disk)", "boot.disk", "boot.without-kernel"),
    **no(NOWHERE, "VMware's machines boot from a disk image, not from a tree of files", "boot.filesystem"),
    **no(f"{FORMAT} (guestOS)", "the driver writes machines for x86 alone", *below("arch")),
    **yes(f"{FORMAT} (numvcpus)", "cpu.count"),
    **yes(f"{FORMAT} (cpuid.coresPerSocket)", "cpu.topology"),
    **no(f"{FORMAT} (Only 1 thread per core is supported)", "a core has one thread; use cores", "cpu.threads"),
    **no(f"{FORMAT} (vcpu attribute current)", "libvirt takes no room for more CPUs", "cpu.max-sockets"),
    **no(
        f"{FORMAT} (Expecting domain XML CPU mode custom)",
        "libvirt refuses it: guests see the host's CPU as VMware passes it on",
        "cpu.model.host-passthrough",
        "cpu.model.host-model",
    ),
    **no(NOWHERE, "libvirt would drop it: it writes how many CPUs there are, not which", "cpu.model.named"),
    **no(NOWHERE, "libvirt would drop it", "cpu.features", "cpu.numa", "cpu.realtime", "cpu.emulator-pinning"),
    **no(f"{FORMAT} (sched.cpu.affinity)", "CPUs of its own are not wired to VMware's in this release", "cpu.pinning"),
    **yes(f"{FORMAT} (memsize, in steps of 4 MiB)", "memory.guest"),
    **no(f"{FORMAT} (memsize)", "the memory cannot be raised later", "memory.max"),
    **no(NOWHERE, "libvirt would drop it", "memory.hugepages", "machine.type", "machine.version"),
    **no(NOWHERE, "libvirt would drop it: VMware decides about its platform", *below("features", "hyperv")),
    **yes(f"{FORMAT} (uuid.bios)", "firmware.uuid"),
    **no(
        f"{FORMAT} (smbios.reflecthost: the host's values or VMware's)",
        "libvirt would drop it: a guest sees VMware's own values",
        "firmware.serial",
        "firmware.chassis",
    ),
    **yes(f"{FORMAT} (BIOS unless firmware is efi)", "firmware.bios"),
    **no(NOWHERE, "libvirt would drop it", "firmware.bios.serial", "firmware.acpi-tables"),
    **no(
        NOWHERE,
        "VMware boots what is on a disk; there is no direct kernel boot",
        "firmware.kernel-boot",
        "firmware.kernel-args",
    ),
    **no(NOWHERE, "libvirt would drop it: the guest's clock is VMware's affair", *below("clock", "timer")),
    **yes(DISK, "disk.bus.scsi", "disk.bus.ide", "disk.cdrom"),
    **no(f"{DISK} (Unsupported bus type)", "libvirt writes SCSI and IDE disks; use scsi", "disk.bus.sata"),
    **no(f"{DISK} (Unsupported bus type)", "VMware has no such disks; use scsi", "disk.bus.virtio", "disk.bus.usb"),
    **no(DISK, "a CD-ROM drive without media is not offered in this release", "disk.cdrom.empty"),
    **no(NOWHERE, "libvirt would drop it", "disk.cdrom.tray", "disk.readonly", "disk.readonly.sata", "disk.serial"),
    **no(f"{VMX} virVMXFormatFloppy", "KubeVirt's API has no floppy drives", "disk.floppy"),
    **no(f"{DISK} (host devices alone)", "volumes are image files", "disk.lun", "disk.lun.reservation"),
    **yes(f"{DISK} (Image file has unsupported suffix, expecting .vmdk)", "disk.format.vmdk"),
    **no(
        f"{DISK} (Image file has unsupported suffix, expecting .vmdk)",
        "VMware's disks are vmdk files",
        *(f"disk.format.{name}" for name in ("raw", "qcow2", "vdi", "vhdx", "ploop")),
    ),
    **yes(f"{DISK} (writeThrough)", "disk.cache.writethrough"),
    **no(f"{DISK} (unsupported cache mode)", "libvirt takes writethrough alone", "disk.cache.none"),
    **no(f"{DISK} (unsupported cache mode)", "libvirt takes writethrough alone", "disk.cache.writeback"),
    **no(
        NOWHERE,
        "libvirt would drop it",
        "disk.io",
        "disk.shareable",
        "disk.error-policy",
        "disk.block-size",
        "disk.discard-granularity",
        "disk.rotation-rate",
        "disk.pci-address",
        "disk.io-thread",
        "disk.io-threads-policy",
        "disk.multiqueue",
        "disk.discard",
    ),
    **no(NOWHERE, "libvirt would drop it: disks boot in VMware's order", "disk.boot-order"),
    **no(
        f"{VMX} virVMXFormatFileSystem (VMware's own shared folders)",
        "VMware shares folders in a way of its own",
        "filesystem.virtiofs",
    ),
    **yes(f"{FORMAT} (a serial port is written only if there is one)", "console.none"),
    **yes("https://libvirt.org/drvesx.html#domain-xml-format (VMware's machines always have vmvga)", "graphics"),
    **no(f"{VMX} virVMXFormatSVGA", "VMware has a graphics card of its own alone", *below("video")),
    **no(f"{FORMAT} (inputs, sounds, hostdevs: left out)", "libvirt would drop it", *below("input", "sound")),
    **no(f"{FORMAT} (inputs, sounds, hostdevs: left out)", "libvirt would drop it", *below("passthrough")),
    **no(
        NOWHERE,
        "libvirt would drop it",
        "rng",
        "balloon",
        "vsock",
        "iommu",
        *below("downward-metrics"),
        "virtio-transitional",
        "usb-redirection",
        *below("watchdog", "tpm", "panic", "launch-security"),
    ),
    **no(NOWHERE, "libvirt would drop it", "interface.multiqueue", "interface.mtu", "interface.pci-address"),
    **no(NOWHERE, "libvirt would drop it", "interface.acpi-index", "interface.boot-order", "interface.link-down"),
}

RULES = {
    "rule.cdrom.cache": Rule(
        "libvirt writes the cache mode of SCSI disks alone, and CD-ROMs are on IDE; leave cache out",
        f"{DISK} (writeThrough)",
    ),
}


def limits(scsi_disks: int, cpus: Limit) -> dict[str, Limit]:
    """Return the limits of machines in VMX files, of which ``scsi_disks`` is how many one SCSI bus takes."""
    places = f"{VMX} virVMXSCSIDiskNameToControllerAndUnit, virVMXIDEDiskNameToBusAndUnit"
    why = f"{scsi_disks} on the SCSI controller and {IDE_DISKS} on IDE"
    return {
        "limit.cpus": cpus,
        "limit.disks": Limit(scsi_disks + IDE_DISKS, places, why),
        "limit.disks.cached": Limit(scsi_disks, f"{DISK} (writeThrough)", "on the SCSI controller, not on IDE"),
        "limit.interfaces": Limit(10, f"{ETHERNET} (Ethernet controller index)"),
    }


def choose(spec: VirtualMachineInstanceSpec) -> None:
    """Put disks that name no bus on SCSI, and give network cards that name no model VMware's own.

    A CD-ROM is left open: KubeVirt has no word for IDE, where :func:`adapt` puts it.
    """
    for disk in spec.domain.devices.disks or []:
        if disk.disk is not None:
            disk.disk.bus = disk.disk.bus or "scsi"
    for interface in spec.domain.devices.interfaces or []:
        interface.model = interface.model or BEST_CARD


def adapt(
    domain: _Element, spec: VirtualMachineInstanceSpec, scsi_disks: int, name: Callable[[str], str] = str
) -> None:
    """Leave what is written into a VMX file; ``scsi_disks`` is how many one SCSI bus takes by libvirt's count.

    ``name`` turns the path of an image into what the hypervisor calls it.
    """
    keep(domain, KEPT)
    system, devices = part(domain, "os"), part(domain, "devices")
    keep(system, ("type",))
    keep_attributes(part(system, "type"), ("arch",))
    keep_attributes(part(domain, "vcpu"), ("placement",))
    _adapt_cpu(domain, spec)
    keep(devices, ("disk", "interface"))
    _adapt_disks(devices, scsi_disks, name)
    for interface in devices.iterfind("interface"):
        keep(interface, KEPT_OF_INTERFACE)
        for model in interface.iterfind("model"):
            model.set("type", MODELS.get(model.get("type", ""), model.get("type", "")))


def generalize(domain: _Element, name: Callable[[str], str] = str) -> None:
    """Undo :func:`adapt`; ``name`` turns what the hypervisor calls an image into a path."""
    for source in domain.iterfind("devices/disk/source[@file]"):
        source.set("file", name(source.get("file", "")))
    shared = {theirs: ours for ours, theirs in MODELS.items()}
    for model in domain.iterfind("devices/interface/model"):
        model.set("type", shared.get(model.get("type", ""), model.get("type", "")))


def _adapt_cpu(domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
    """Keep the topology, which is read only where there is one to tell."""
    cpu = part(domain, "cpu")
    if spec.domain.cpu is not None and (spec.domain.cpu.sockets or 1) > 1:
        keep(cpu, ("topology",))
        cpu.attrib.clear()
    else:
        domain.remove(cpu)


def _on_ide(disks: Sequence[_Element], scsi_disks: int) -> set[int]:
    """Return which disks go on IDE: drives that name no bus, and the last of more disks than SCSI has places.

    A disk with a cache mode stays on SCSI, for which alone libvirt writes the mode.
    """
    drives = {
        number
        for number, disk in enumerate(disks)
        if (disk.get("device") == "cdrom" or PurePosixPath(part(disk, "source").get("file", "")).suffix == ".iso")
        and part(disk, "target").get("bus") != "scsi"
    }
    others = [number for number in range(len(disks)) if number not in drives]
    movable = [number for number in reversed(others) if part(disks[number], "driver").get("cache") is None]
    return drives | set(movable[: max(0, len(others) - scsi_disks)])


def _adapt_disks(devices: _Element, scsi_disks: int, name: Callable[[str], str]) -> None:
    ide = [f"hd{letter}" for letter in ascii_lowercase[:IDE_DISKS]]
    scsi = [f"sd{letter}" for letter in ascii_lowercase[:scsi_disks]]
    on_ide = _on_ide(devices.findall("disk"), scsi_disks)
    for number, disk in enumerate(devices.iterfind("disk")):
        keep(disk, KEPT_OF_DISK)
        driver, target, source = (part(disk, tag) for tag in ("driver", "target", "source"))
        path = source.get("file", "")
        if PurePosixPath(path).suffix == ".iso":
            disk.set("device", "cdrom")
        places = [*ide, *scsi] if number in on_ide else [*scsi, *ide]
        place = places[0] if places else TOO_MANY
        for free in (ide, scsi):
            if place in free:
                free.remove(place)
        keep_attributes(driver, ("cache",) if place.startswith("sd") else ())
        target.attrib.clear()
        target.set("dev", place)
        target.set("bus", "scsi" if place.startswith("sd") else "ide")
        if path:  # a device of the host has none
            source.set("file", name(path))
    if devices.find("disk/target[@bus='scsi']") is not None:
        devices.append(devices.makeelement("controller", {"type": "scsi", "index": "0", "model": CONTROLLER}))
