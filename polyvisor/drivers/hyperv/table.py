"""What libvirt's Hyper-V driver does with each feature, as read in its source (11.3.0; 9.0.0 does the same);
what later ones can, up to 12.5.0, is from libvirt's release notes and says so.

It refuses almost nothing: a domain's name, CPUs, memory, disks, serial ports and network cards are sent to the host,
and everything else is passed over in silence. So nearly every refusal here is for being dropped.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, since, yes
from polyvisor.drivers.base import Limit

DRIVER = "libvirt 11.3.0 src/hyperv/hyperv_driver.c"
DEFINE = f"{DRIVER} hypervDomainDefineXML"
NOWHERE = f"{DEFINE} (nothing there reads it)"
STORAGE = f"{DRIVER} hypervDomainAttachStorage"
NO_CALLBACK = f"{DRIVER} hypervHypervisorDriver (the operation is not in its table)"
ABOUT = "https://learn.microsoft.com/en-us/windows-server/virtualization/hyper-v/plan/should-i-create-a-generation-1-or-2-virtual-machine-in-hyper-v"
DROPPED = "libvirt would drop it"
LATER = "is not wired to Hyper-V in this release"

SCALE = "https://learn.microsoft.com/windows-server/virtualization/hyper-v/maximum-scale-limits"
LIMITS = {
    "limit.cpus": Limit(64, SCALE, "a machine of generation 1, which libvirt makes, has no more"),
    "limit.disks": Limit(32, SCALE, "4 on IDE, and 7 on each of 4 SCSI controllers as libvirt counts"),
    "limit.disks.scsi": Limit(
        28,
        "libvirt 9.0.0 src/conf/domain_conf.c virDomainDiskDefAssignAddress (seven units of a bus),"
        " src/hyperv/hyperv_driver.c hypervDomainAttachStorage (HYPERV_MAX_SCSI_CONTROLLERS)",
        "7 on each of 4 SCSI controllers as libvirt counts",
    ),
}

FEATURES: Table = {
    **yes(
        "https://libvirt.org/drvhyperv.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"
    ),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **yes(f"{DRIVER} hypervDomainCreateWithFlags", "lifecycle.start"),
    **yes(f"{DRIVER} hypervDomainShutdownFlags (InitiateShutdown, by the guest's services)", "lifecycle.shutdown"),
    **yes(f"{DRIVER} hypervDomainDestroyFlags", "lifecycle.destroy"),
    **yes(f"{DRIVER} hypervDomainSuspend, hypervDomainResume", "lifecycle.pause"),
    **yes(f"{DRIVER} hypervDomainReboot", "lifecycle.reboot"),
    **yes(f"{DRIVER} hypervDomainReset", "lifecycle.reset"),
    **yes(f"{DRIVER} hypervDomainLookupByName (machines live on the host, not in libvirt)", "lifecycle.adopt"),
    **no(f"{DRIVER} hypervDomainCreateWithFlags (no flags)", "a machine starts running", "lifecycle.start-paused"),
    **no(NOWHERE, DROPPED, "lifecycle.reboot-policy"),
    **no(f"{DRIVER} hypervDomainGetInfo (time of CPUs alone)", f"reading them {LATER}", "lifecycle.statistics"),
    **no(f"{DRIVER} hypervDomainScreenshot", f"taking a screenshot {LATER}", "lifecycle.screenshot"),
    **no(f"{DRIVER} hypervDomainManagedSave (kept on the host)", f"saving {LATER}", "lifecycle.save"),
    **no(f"{DRIVER} hypervDomainAttachDeviceFlags", f"attaching {LATER}", *below("lifecycle.hotplug.disk")),
    **no(f"{DRIVER} hypervDomainAttachDeviceFlags", f"attaching {LATER}", *below("lifecycle.hotplug.interface")),
    **no(NO_CALLBACK, "libvirt's Hyper-V driver does not have it", "lifecycle.hotplug.link"),
    **no(f"{DRIVER} hypervDomainSetVcpusFlags", f"changing a running machine {LATER}", "lifecycle.hotplug.cpu"),
    **no(f"{DRIVER} hypervDomainSetMemoryFlags", f"changing a running machine {LATER}", "lifecycle.hotplug.memory"),
    **no(
        NO_CALLBACK,
        "libvirt's Hyper-V driver does not have it",
        "lifecycle.events",
        "lifecycle.console",
        "lifecycle.vnc",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
    ),
    **no(
        since("12.2.0", NO_CALLBACK),
        f"libvirt lists snapshots since 12.2.0 and takes none; showing them {LATER}",
        "lifecycle.snapshot",
    ),
    **no(
        since("12.3.0", NO_CALLBACK),
        f"libvirt tells what a guest reports since 12.3.0; asking it {LATER}",
        "lifecycle.guest-agent",
    ),
    **yes(f"{STORAGE} (IDE, as machines of generation 1 boot)", "boot.disk", "boot.without-kernel"),
    **yes(f"{STORAGE} (there may be no disk)", "boot.without-root"),
    **no(NOWHERE, "Hyper-V's machines boot from a disk image, not from a tree of files", "boot.filesystem"),
    **no(f"{DRIVER} hypervCapsInit", "Hyper-V runs x86 guests by libvirt", *below("arch")),
    **yes(f"{DEFINE} (hypervDomainSetVcpus)", "cpu.count"),
    **no(NOWHERE, "libvirt tells only how many CPUs there are; use cores", "cpu.topology", "cpu.threads"),
    **no(NOWHERE, "libvirt tells only how many CPUs there are", "cpu.max-sockets", "cpu.features", "cpu.numa"),
    **no(NOWHERE, "libvirt tells only how many CPUs there are", *below("cpu.model"), "cpu.realtime"),
    **no(NOWHERE, DROPPED, "cpu.pinning", "cpu.emulator-pinning"),
    **yes(f"{DEFINE} (hypervDomainSetMemory)", "memory.guest"),
    **no(f"{DEFINE} (hypervDomainSetMaxMemory)", f"dynamic memory {LATER}", "memory.max"),
    **no(NOWHERE, DROPPED, "memory.hugepages", "machine.type", "machine.version", *below("features")),
    **no(NOWHERE, "Hyper-V itself decides what guests see of it", *below("hyperv")),
    **no(
        f"{DEFINE} (DefineSystem is given the name alone)",
        "Hyper-V gives its machines uuids of its own",
        "firmware.uuid",
    ),
    **yes(f"{ABOUT} (machines of generation 1, which libvirt makes, have a BIOS)", "firmware.bios"),
    **no(
        f"{DEFINE} (no VirtualSystemSubType)",
        "libvirt makes machines of generation 1, which have a BIOS",
        "firmware.efi",
        "firmware.efi.persistent",
    ),
    **no(
        since("12.1.0", f"{DEFINE} (no VirtualSystemSubType)"),
        f"libvirt makes machines with secure boot since 12.1.0; UEFI {LATER}",
        "firmware.efi.secure-boot",
    ),
    **no(
        NOWHERE,
        DROPPED,
        "firmware.serial",
        "firmware.chassis",
        "firmware.bios.serial",
        "firmware.acpi-tables",
        "firmware.kernel-boot",
        "firmware.kernel-args",
        *below("clock", "timer"),
    ),
    **yes(STORAGE, "disk.bus.scsi", "disk.bus.ide", "disk.cdrom"),
    **no(
        f"{STORAGE} (Unsupported controller type)",
        "Hyper-V has IDE and SCSI disks alone; name no bus, or scsi",
        "disk.bus.virtio",
        "disk.bus.sata",
        "disk.bus.usb",
    ),
    **no(f"{DRIVER} hypervDomainAttachFloppy", "KubeVirt's API has no floppy drives", "disk.floppy"),
    **no(f"{DRIVER} hypervDomainAttachPhysicalDisk", "volumes are image files", "disk.lun", "disk.lun.reservation"),
    **yes(f"{DRIVER} hypervDomainAddVirtualHardDisk (Hyper-V tells the format itself)", "disk.format.vhdx"),
    **no(
        f"{DRIVER} hypervDomainAddVirtualHardDisk (Virtual Hard Disk)",
        "Hyper-V's disks are vhdx files",
        *(f"disk.format.{name}" for name in ("raw", "qcow2", "vmdk", "vdi", "ploop")),
    ),
    **no(
        f"{DRIVER} hypervDomainAddOpticalDrive",
        "CD-ROM drives without media come later",
        "disk.cdrom.empty",
    ),
    **no(
        f"{DRIVER} hypervDomainAddVirtualHardDisk (the path alone)",
        DROPPED,
        "disk.cdrom.tray",
        "disk.readonly",
        "disk.readonly.sata",
        "disk.serial",
        *below("disk.cache"),
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
    **no(NOWHERE, "libvirt would drop it: machines boot the first disk", "disk.boot-order"),
    **yes(f"{DRIVER} hypervDomainAddVirtualHardDisk (a file of the host)", "volume.host-disk"),
    **no(
        f"{DRIVER} hypervDomainAddVirtualHardDisk (a file of the host)",
        "bringing images to a Hyper-V host comes later; use a hostDisk that is there",
        "volume.container-disk",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.claim",
        "volume.cloud-init",
        "volume.data-volume",
        "volume.ephemeral",
        "volume.config-drive",
        "volume.config-map",
        "volume.secret",
        "volume.service-account",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **no(NOWHERE, DROPPED, "filesystem.virtiofs"),
    **no(
        f"{DRIVER} hypervDomainAttachSyntheticEthernetAdapter (one kind of card, on a virtual switch)",
        f"joining a virtual switch {LATER}",
        *below("network", "interface"),
    ),
    **yes(f"{DEFINE} (a serial port is connected only if there is one)", "console.none"),
    **no(
        NOWHERE,
        DROPPED,
        "rng",
        "balloon",
        "vsock",
        "iommu",
        "graphics",
        *below("downward-metrics"),
        "virtio-transitional",
        "usb-redirection",
        *below("watchdog", "input", "video", "sound", "tpm", "panic", "passthrough", "launch-security"),
    ),
}
