"""What libvirt's Virtuozzo driver does with each feature, as read in its source (9.0.0; 11.3.0 does the same).

It refuses most of what it cannot set; what it neither refuses nor reads is unsupported as well.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, yes
from polyvisor.drivers.base import Rule

DRIVER = "libvirt 9.0.0 src/vz/vz_driver.c"
SDK = "libvirt 9.0.0 src/vz/vz_sdk.c"
UTILS = "libvirt 9.0.0 src/vz/vz_utils.c"
REFUSED = f"{SDK} prlsdkCheckUnsupportedParams"
NOWHERE = "libvirt 9.0.0 src/vz/vz_sdk.c prlsdkDoApplyConfig (nothing there reads it)"
NO_CALLBACK = f"{DRIVER} vzHypervisorDriver (the operation is not in its table)"
LATER = "not wired to Virtuozzo in this release"

RULES = {
    "rule.cdrom.serial": Rule(
        "Virtuozzo gives serial numbers to hard disks alone; leave serial out",
        f"{UTILS} vzCheckDiskUnsupportedParams (Setting disk serial number is supported only for disk devices)",
    ),
}

FEATURES: Table = {
    **yes(
        "https://libvirt.org/drvvirtuozzo.html (virtual machines of a hypervisor)",
        "isolation.kernel",
        "isolation.users",
    ),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **yes(f"{SDK} prlsdkStart", "lifecycle.start"),
    **yes(f"{SDK} prlsdkStop", "lifecycle.shutdown"),
    **yes(f"{SDK} prlsdkKill", "lifecycle.destroy"),
    **yes(f"{SDK} prlsdkPause, prlsdkResume", "lifecycle.pause"),
    **yes(f"{SDK} prlsdkRestart", "lifecycle.reboot"),
    **yes(f"{SDK} prlsdkReset", "lifecycle.reset"),
    **yes(f"{SDK} prlsdkLoadDomains (machines live in the hypervisor, not in libvirt)", "lifecycle.adopt"),
    **yes(f"{SDK} prlsdkEventsHandler", "lifecycle.events"),
    **no(f"{SDK} prlsdkGetMemoryStats, prlsdkGetVcpuStats", f"reading them is {LATER}", "lifecycle.statistics"),
    **no(
        NO_CALLBACK,
        "libvirt's Virtuozzo driver does not have it",
        "lifecycle.console",
        "lifecycle.screenshot",
        "lifecycle.memory-dump",
        "lifecycle.guest-agent",
    ),
    **no(
        f"{SDK} prlsdkApplyGraphicsParams (a port of the host)",
        f"its screen on a port of the host is {LATER}",
        "lifecycle.vnc",
    ),
    **no(f"{SDK} prlsdkStart (no flags)", "a machine starts running", "lifecycle.start-paused"),
    **no(REFUSED, "only a restart on reboot is taken", "lifecycle.reboot-policy"),
    **no(f"{SDK} prlsdkDomainManagedSaveRemove", f"saving is {LATER}", "lifecycle.save"),
    **no(f"{SDK} prlsdkCreateSnapshot", f"snapshots are {LATER}", "lifecycle.snapshot"),
    **no(f"{SDK} prlsdkMigrate", f"migration is {LATER}", "lifecycle.live-migration"),
    **no(f"{SDK} prlsdkAttachDevice", f"attaching devices is {LATER}", *below("lifecycle.hotplug")),
    **yes(f"{SDK} prlsdkConfigureDisk, prlsdkSetBootOrderVm", "boot.disk", "boot.without-kernel"),
    **yes(f"{SDK} prlsdkDoApplyConfig (there may be no disk)", "boot.without-root"),
    **no(REFUSED, "a virtual machine of Virtuozzo has no file systems, only disks", "boot.filesystem"),
    **no(f"{SDK} prlsdkDoApplyConfig", "Virtuozzo runs x86 guests alone", *below("arch")),
    **yes(f"{SDK} prlsdkDoApplyConfig (PrlVmCfg_SetCpuCount)", "cpu.count"),
    **no(
        NOWHERE,
        "the driver does not read how CPUs look, only their number",
        "cpu.topology",
        "cpu.threads",
        "cpu.model.host-passthrough",
        "cpu.model.host-model",
        "cpu.model.named",
        "cpu.features",
        "cpu.numa",
        "cpu.realtime",
    ),
    **no(REFUSED, "room for more CPUs is refused", "cpu.max-sockets"),
    **no(
        f"{SDK} prlsdkDoApplyConfig (one mask for the machine)",
        f"pinning is {LATER}",
        "cpu.pinning",
        "cpu.emulator-pinning",
    ),
    **yes(f"{SDK} prlsdkDoApplyConfig (PrlVmCfg_SetRamSize, whole MiB)", "memory.guest"),
    **no(REFUSED, "the driver refuses it", "memory.max", "memory.hugepages"),
    **no(REFUSED, "the driver takes no machine type", "machine.type", "machine.version"),
    **no(REFUSED, "the driver refuses every setting of the platform", *below("features", "hyperv")),
    **yes(f"{SDK} prlsdkDoApplyConfig (PrlVmCfg_SetUuid)", "firmware.uuid"),
    **no(NOWHERE, "the driver does not read it", "firmware.serial", "firmware.chassis", "firmware.bios"),
    **no(
        REFUSED,
        "the driver refuses settings of the firmware",
        "firmware.bios.serial",
        "firmware.efi",
        "firmware.efi.secure-boot",
        "firmware.efi.persistent",
        "firmware.acpi-tables",
        "firmware.kernel-boot",
        "firmware.kernel-args",
    ),
    **yes(f"{REFUSED} (UTC alone)", "clock.utc"),
    **no(REFUSED, "the driver takes a clock in UTC alone", "clock.timezone", "clock.utc-offset", *below("timer")),
    **yes(f"{SDK} prlsdkConfigureDisk", "disk.bus.scsi", "disk.bus.ide"),
    **no(f"{UTILS} vz7DiskBuses", "Virtuozzo 7 has SCSI and IDE alone; use scsi", "disk.bus.sata"),
    **no(
        f"{UTILS} vzCheckDiskAddressDriveUnsupportedParams",
        "Virtuozzo has no such disks; use scsi",
        "disk.bus.virtio",
        "disk.bus.usb",
    ),
    **yes(f"{SDK} prlsdkConfigureDisk (PDE_OPTICAL_DISK)", "disk.cdrom"),
    **no(
        f"{SDK} prlsdkConfigureDisk (PDE_OPTICAL_DISK)",
        "CD-ROM drives without media come later",
        "disk.cdrom.empty",
    ),
    **no(
        NOWHERE,
        "the driver does not read it",
        "disk.cdrom.tray",
        "disk.readonly",
        "disk.readonly.sata",
        "disk.shareable",
    ),
    **no(NOWHERE, "the driver does not read it", *below("disk.cache"), "disk.multiqueue", "disk.io-threads-policy"),
    **no(
        f"{UTILS} vzCheckDiskUnsupportedParams",
        "the driver refuses it",
        "disk.floppy",
        "disk.lun",
        "disk.lun.reservation",
        "disk.error-policy",
        "disk.block-size",
        "disk.discard-granularity",
        "disk.rotation-rate",
        "disk.io",
        "disk.io-thread",
        "disk.discard",
    ),
    **no(
        f"{UTILS} vzCheckDiskAddressDriveUnsupportedParams", "a disk's place follows from its name", "disk.pci-address"
    ),
    **yes(f"{UTILS} vzCheckUnsupportedDisk (Virtuozzo 7)", "disk.format.qcow2"),
    **no(
        f"{UTILS} vzInitCaps",
        "Virtuozzo 7 takes qcow2 alone",
        "disk.format.raw",
        "disk.format.vmdk",
        "disk.format.vdi",
        "disk.format.vhdx",
        "disk.format.ploop",
    ),
    **yes(f"{SDK} prlsdkConfigureDisk (PrlVmDevHd_SetSerialNumber)", "disk.serial"),
    **no(
        f"{SDK} prlsdkSetBootOrderVm (kinds of devices, not single ones)",
        "disks boot in their order; single ones cannot be chosen",
        "disk.boot-order",
    ),
    **yes(f"{SDK} prlsdkConfigureDisk (image files of the host)", "volume.host-disk"),
    **no(
        f"{SDK} prlsdkConfigureDisk (image files of the host)",
        f"bringing images to a Virtuozzo host is {LATER}; use a hostDisk that is there",
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
    **no(REFUSED, "a virtual machine of Virtuozzo has no file systems, only disks", "filesystem.virtiofs"),
    **no(
        f"{SDK} prlsdkCheckNetUnsupportedParams (virtual networks and bridges alone)",
        f"Virtuozzo's networks are {LATER}",
        *below("network", "interface"),
    ),
    **yes(f"{SDK} prlsdkAddSerial (none is added unless asked)", "console.none"),
    **no(
        NOWHERE, "the driver does not read it", "rng", *below("watchdog", "balloon", "tpm", "vsock", "panic", "iommu")
    ),
    **no(NOWHERE, "the driver does not read it", *below("downward-metrics", "virtio-transitional", "launch-security")),
    **no(REFUSED, "the driver takes mouse and keyboard with a screen alone", *below("input")),
    **no(
        f"{SDK} prlsdkApplyGraphicsParams", f"its screen on a port of the host is {LATER}", *below("graphics", "video")
    ),
    **no(REFUSED, "the driver refuses it", *below("sound", "usb-redirection", "passthrough")),
}
