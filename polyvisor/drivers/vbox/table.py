"""What libvirt's VirtualBox driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

It refuses disks and controllers that VirtualBox lacks, and swallows most of what else it does not know.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.base import Limit, Rule

COMMON = "libvirt 9.0.0 src/vbox/vbox_common.c"
DEFINE = f"{COMMON} vboxDomainDefineXMLFlags"
NOWHERE = f"{DEFINE} (nothing there reads it)"
DRIVES = f"{COMMON} vboxAttachDrives"
NETWORK = f"{COMMON} vboxAttachNetwork"
NO_CALLBACK = f"{COMMON} vboxCommonDriver (the operation is not in its table)"
MANUAL = "https://www.virtualbox.org/manual/topics/storage.html"
DROPPED = "libvirt would drop it"
LATER = "is not wired to VirtualBox in this release"

LIMITS = {
    "limit.cpus": Limit(32, "https://www.virtualbox.org/manual/ch03.html#settings-processor"),
    "limit.disks.sata": Limit(30, MANUAL, "a SATA controller has that many ports"),
    "limit.interfaces": Limit(8, "https://www.virtualbox.org/manual/ch06.html"),
}
RULES = {
    "rule.cpus.apic": Rule(
        "VirtualBox gives a guest several CPUs by its I/O APIC alone; leave features.apic out, or ask for one CPU",
        "https://www.virtualbox.org/manual/ch03.html#settings-motherboard"
        " (Enable I/O APIC: required for more than one virtual CPU)",
    ),
}

LIFECYCLE: Table = {
    **yes(f"{COMMON} vboxDomainCreateWithFlags (LaunchVMProcess)", "lifecycle.start"),
    **yes(f"{COMMON} vboxDomainShutdownFlags (PowerButton)", "lifecycle.shutdown"),
    **yes(f"{COMMON} vboxDomainDestroyFlags (PowerDown)", "lifecycle.destroy"),
    **yes(f"{COMMON} vboxDomainSuspend, vboxDomainResume", "lifecycle.pause"),
    **no(
        f"{COMMON} vboxDomainReboot (Console Reset)",
        "libvirt resets the machine without telling the guest; reboot from inside",
        "lifecycle.reboot",
    ),
    **yes(f"{COMMON} vboxDomainLookupByUUID (machines belong to VirtualBox's service)", "lifecycle.adopt"),
    **no(f"{COMMON} vboxStartMachine (no flags)", "a machine starts running", "lifecycle.start-paused"),
    **no(NOWHERE, DROPPED, "lifecycle.reboot-policy"),
    **no(f"{COMMON} vboxDomainScreenshot", f"taking a screenshot {LATER}", "lifecycle.screenshot"),
    **no(f"{COMMON} vboxDomainSave", f"saving {LATER}", "lifecycle.save"),
    **no(f"{COMMON} vboxDomainSnapshotCreateXML", f"taking snapshots {LATER}", "lifecycle.snapshot"),
    **no(
        f"{COMMON} vboxDomainUpdateDeviceFlags (shared folders alone)",
        "a link is fixed while it runs",
        "lifecycle.hotplug.link",
    ),
    **no(f"{COMMON} vboxDomainSetVcpusFlags", "the number is fixed while it runs", "lifecycle.hotplug.cpu"),
    **no(f"{COMMON} vboxDomainSetMemory", "the memory is fixed while it runs", "lifecycle.hotplug.memory"),
    **no(
        f"{COMMON} vboxDomainAttachDeviceImpl (USB devices and shared folders alone)",
        "libvirt's VirtualBox driver attaches neither disks nor interfaces",
        "lifecycle.hotplug.disk",
        "lifecycle.hotplug.interface",
    ),
    **no(
        NO_CALLBACK,
        "libvirt's VirtualBox driver does not have it",
        "lifecycle.reset",
        "lifecycle.events",
        "lifecycle.statistics",
        "lifecycle.console",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
        "lifecycle.guest-agent",
    ),
    **no(f"{COMMON} vboxAttachDisplay (RDP alone)", "VirtualBox shows a screen by RDP, not VNC", "lifecycle.vnc"),
}

FEATURES: Table = {
    **yes("https://libvirt.org/drvvbox.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **LIFECYCLE,
    **yes(DRIVES, "boot.disk", "boot.without-kernel"),
    **yes(f"{DRIVES} (there may be none)", "boot.without-root"),
    **no(NOWHERE, "VirtualBox boots from a disk image, not from a tree of files", "boot.filesystem"),
    **no(f"{COMMON} vboxCapsInit", "guests are of their host's architecture", *below("arch")),
    **yes(f"{DEFINE} (SetCPUCount)", "cpu.count"),
    **no(f"{DEFINE} (SetCPUCount)", "VirtualBox is told only how many CPUs there are; use cores", "cpu.topology"),
    **no(f"{DEFINE} (SetCPUCount)", "VirtualBox is told only how many CPUs there are; use cores", "cpu.threads"),
    **no(f"{DEFINE} (current vcpu count must equal maximum)", "room for more CPUs is refused", "cpu.max-sockets"),
    **no(NOWHERE, DROPPED, *below("cpu.model"), "cpu.features", "cpu.numa", "cpu.realtime"),
    **no(NOWHERE, DROPPED, "cpu.pinning", "cpu.emulator-pinning"),
    **yes(f"{DEFINE} (SetMemorySize, whole MiB)", "memory.guest"),
    **no(NOWHERE, DROPPED, "memory.max", "memory.hugepages", "machine.type", "machine.version"),
    **yes(f"{DEFINE} (SetACPIEnabled)", "features.acpi"),
    **yes(f"{DEFINE} (SetIOAPICEnabled)", "features.apic"),
    **no(NOWHERE, DROPPED, "features.smm", "features.kvm-hidden", "features.pvspinlock", *below("hyperv")),
    **yes("libvirt 9.0.0 src/vbox/vbox_tmpl.c _virtualboxCreateMachine (its id)", "firmware.uuid"),
    **yes(f"{DEFINE} (GetBIOSSettings)", "firmware.bios"),
    **no(
        f"{COMMON} vboxDomainDefParserConfig (no choice of firmware)",
        "libvirt's VirtualBox driver makes machines with a BIOS",
        *below("firmware.efi"),
    ),
    **no(
        NOWHERE,
        DROPPED,
        "firmware.serial",
        "firmware.chassis",
        "firmware.bios.serial",
        "firmware.acpi-tables",
        *below("clock", "timer"),
    ),
    **no(
        f"{COMMON} vboxSetBootDeviceOrder (kernels are logged, not booted)",
        "VirtualBox boots what is on a disk; there is no direct kernel boot",
        "firmware.kernel-boot",
        "firmware.kernel-args",
    ),
    **yes(DRIVES, "disk.bus.sata", "disk.bus.scsi", "disk.cdrom"),
    **no(f"{DRIVES} (with a controller of a named model)", "disks are put on sata or scsi", "disk.bus.ide"),
    **no(f"{DRIVES} (does not support bus type)", "VirtualBox has no such disks; use sata", "disk.bus.virtio"),
    **no(f"{DRIVES} (does not support bus type)", "VirtualBox has no such disks; use sata", "disk.bus.usb"),
    **no(DRIVES, "KubeVirt's API has no floppy drives", "disk.floppy"),
    **no(f"{DRIVES} (does not support lun)", "volumes are image files", "disk.lun", "disk.lun.reservation"),
    **yes(f"{MANUAL} (VDI, VMDK)", "disk.format.vdi", "disk.format.vmdk"),
    **no(
        f"{MANUAL} (disk image files)",
        "VirtualBox's disks are vdi or vmdk files",
        *(f"disk.format.{name}" for name in ("raw", "qcow2", "vhdx", "ploop")),
    ),
    **no(
        f"{DRIVES} (an immutable medium)",
        "the image would be kept as it is, but the guest could write",
        "disk.readonly",
        "disk.readonly.sata",
    ),
    **no(DRIVES, "a CD-ROM drive without media is not offered in this release", "disk.cdrom.empty"),
    **no(
        f"{DRIVES} (nothing there reads it)",
        DROPPED,
        "disk.cdrom.tray",
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
    **no(
        f"{COMMON} vboxSetBootDeviceOrder (kinds of devices, not single ones)",
        "disks boot in their order; single ones cannot be chosen",
        "disk.boot-order",
    ),
    **yes(
        DRIVES,
        "volume.container-disk",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.cloud-init",
        "volume.config-drive",
        "volume.config-map",
        "volume.secret",
        "volume.downward-api",
        "volume.sysprep",
    ),
    **no(MANUAL, "a kubelet hands out the token, and this hypervisor's nodes have none", "volume.service-account"),
    **no(
        MANUAL,
        "these volumes are raw images in this release and VirtualBox wants vdi; use a containerDisk",
        "volume.host-disk",
        "volume.claim",
        "volume.data-volume",
        "volume.ephemeral",
    ),
    **no(
        f"{COMMON} vboxAttachSharedFolder (VirtualBox's own)",
        "VirtualBox shares folders in a way of its own",
        "filesystem.virtiofs",
    ),
    **yes(f"{NETWORK} (AttachToNAT)", "network.pod", "interface.masquerade"),
    **yes(NETWORK, "interface.mac", "interface.model.virtio", "interface.model.e1000", "interface.model.pcnet"),
    **no(
        f"{NETWORK} (a model that is not known becomes none)",
        "VirtualBox has no such card; use e1000",
        *(f"interface.model.{name}" for name in ("e1000e", "igb", "ne2k_pci", "rtl8139")),
    ),
    **no(
        NETWORK,
        "only the Pod's network with address translation is there in this release",
        "network.multus",
        "network.pod.cidr",
        "interface.bridge",
        "interface.passt",
        "interface.sriov",
        "interface.dhcp-options",
        "interface.ports",
        "interface.absent",
    ),
    **no(
        f"{NETWORK} (nothing there reads it)",
        DROPPED,
        "interface.multiqueue",
        "interface.mtu",
        "interface.pci-address",
        "interface.acpi-index",
        "interface.boot-order",
        "interface.link-down",
    ),
    **yes(f"{COMMON} vboxAttachSerial (only those that there are)", "console.none"),
    **yes(f"{COMMON} vboxStartMachine (gui: a window)", "graphics"),
    **no(f"{COMMON} vboxAttachVideo", "VirtualBox has a graphics card of its own alone", *below("video")),
    **yes(f"{COMMON} vboxAttachSound", "sound.ac97"),
    **no(f"{COMMON} vboxAttachSound", "libvirt knows ac97 alone of VirtualBox's cards", "sound.ich9"),
    **no(f"{COMMON} vboxAttachUSB", f"handing over devices of the host {LATER}", *below("passthrough")),
    **no(
        NOWHERE,
        DROPPED,
        "rng",
        "balloon",
        "vsock",
        "iommu",
        *below("downward-metrics"),
        "virtio-transitional",
        "usb-redirection",
        *below("watchdog", "input", "tpm", "panic", "launch-security"),
    ),
}
