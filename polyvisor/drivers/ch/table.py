"""What libvirt's Cloud Hypervisor driver does with each feature, as read in its source (9.0.0 and 11.3.0);
what later ones can, up to 12.5.0, is from libvirt's release notes and says so.

The driver tells Cloud Hypervisor the number of CPUs, the memory, a kernel, disks and a terminal, and refuses most other
devices by name. What it takes and does not tell (serial numbers, cache modes, clocks, CPU models) is unsupported here.
It has no rules: what libvirt's checks bind to each other (src/ch/ch_domain.c chValidateDomainDeviceDef: serial port and
console, one of each) a manifest cannot ask for.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, since, when, yes

MIN_LIBVIRT = "11.1.0"
"""Older ones do not notice that a guest has powered itself off, and cannot give it a serial port alone."""
DRIVER = "libvirt 11.3.0 src/ch/ch_driver.c"
MONITOR = "libvirt 11.3.0 src/ch/ch_monitor.c"
PROCESS = "libvirt 11.3.0 src/ch/ch_process.c"
NO_CALLBACK = f"{DRIVER} chHypervisorDriver (the operation is not in its table)"
REFUSED = "libvirt 11.3.0 src/ch/ch_domain.c chValidateDomainDeviceDef"
NOT_TOLD = f"{MONITOR} virCHMonitorBuildVMJson (nothing there reads it)"
DISK = f"{MONITOR} virCHMonitorBuildDiskJson"
NET = f"{PROCESS} chProcessAddNetworkDevices (libvirt has ethernet, bridge and network)"
MODEL = "https://github.com/cloud-hypervisor/cloud-hypervisor/blob/main/docs/device_model.md"

FEATURES: Table = {
    **yes("https://www.cloudhypervisor.org/ (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"),
    **no("https://libvirt.org/drvch.html", "libvirt's daemon needs a privileged Pod", "isolation.launcher"),
    **yes(f"{PROCESS} virCHProcessStart", "lifecycle.start"),
    **yes(f"{DRIVER} chDomainSuspend (at once after the start)", "lifecycle.start-paused"),
    **no(
        f"{DRIVER} chDomainShutdownFlags (vm.shutdown, which does not ask the guest)",
        "libvirt switches the machine off without telling the guest; power down from inside",
        "lifecycle.shutdown",
    ),
    **yes(f"{DRIVER} chDomainDestroyFlags", "lifecycle.destroy"),
    **yes(f"{DRIVER} chDomainSuspend, chDomainResume", "lifecycle.pause"),
    **no(
        f"{DRIVER} chDomainReboot (vm.reboot, which does not ask the guest)",
        "libvirt resets the machine without telling the guest; reboot from inside",
        "lifecycle.reboot",
    ),
    **no(NO_CALLBACK, "libvirt's Cloud Hypervisor driver does not have it", "lifecycle.reset"),
    **yes(f"{DRIVER} chConnectListAllDomains (the launcher's libvirt daemon outlives it)", "lifecycle.adopt"),
    **when(
        since(
            "11.8.0", "libvirt 11.3.0 src/ch/ch_events.c virCHEventStopProcess (the state changes, no event is sent)"
        ),
        "older ones send no event when a guest powers off, so the launcher looks once a second",
        "lifecycle.events",
        min_libvirt="11.8.0",
    ),
    **when(
        f"{MONITOR} virCHMonitorBuildConsoleJson (a serial port, ttyS0)",
        "older ones refuse a serial port without a console",
        "lifecycle.console",
        min_libvirt=MIN_LIBVIRT,
    ),
    **no(
        f"{DRIVER} chDomainSaveFlags (libvirt has it since 10.2.0)",
        "saving machines is not there in this release",
        "lifecycle.save",
    ),
    **no(
        NO_CALLBACK,
        "libvirt's Cloud Hypervisor driver does not have it",
        "lifecycle.statistics",
        "lifecycle.vnc",
        "lifecycle.screenshot",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
        "lifecycle.snapshot",
        "lifecycle.guest-agent",
        "lifecycle.hotplug.cpu",
        "lifecycle.hotplug.memory",
        "lifecycle.hotplug.link",
    ),
    **no(
        since("11.8.0", NO_CALLBACK),
        "libvirt attaches disks since 11.8.0, and Polyvisor does not do it with this driver in this release",
        "lifecycle.hotplug.disk",
    ),
    **no(
        since("11.9.0", NO_CALLBACK),
        "libvirt attaches interfaces since 11.9.0, and Polyvisor does not do it with this driver in this release",
        "lifecycle.hotplug.interface",
    ),
    **no(NOT_TOLD, "the guest always restarts when it reboots", "lifecycle.reboot-policy"),
    **yes(f"{DISK} (the firmware that is named as kernel boots it)", "boot.disk"),
    **no(
        f"{MONITOR} virCHMonitorBuildPayloadJson",
        "there is no firmware by itself; name a kernel, or a firmware such as hypervisor-fw, in kernelBoot",
        "boot.without-kernel",
    ),
    **yes(f"{MONITOR} virCHMonitorBuildDisksJson (there may be none)", "boot.without-root"),
    **no(REFUSED, "a machine boots a kernel with disks, not a tree of files", "boot.filesystem"),
    **no(
        "libvirt 11.3.0 src/ch/ch_conf.c virCHDriverCapsInit (guests have the host's architecture)",
        "guests of another architecture than x86_64 are not offered in this release",
        *below("arch"),
    ),
    **yes(f"{MONITOR} virCHMonitorBuildCPUJson (boot_vcpus)", "cpu.count"),
    **no(
        f"{MONITOR} virCHMonitorBuildCPUJson (numbers of CPUs alone)",
        "libvirt tells only how many CPUs there are; use cores",
        "cpu.topology",
        "cpu.threads",
    ),
    **no(
        NO_CALLBACK,
        "the number of CPUs cannot be changed later, so room for more is of no use",
        "cpu.max-sockets",
    ),
    **yes(f"{MONITOR} virCHMonitorBuildCPUJson (guests run on the host's CPU as it is)", "cpu.model.host-passthrough"),
    **no(
        f"{MONITOR} virCHMonitorBuildCPUJson (no model, no features)",
        "the guest always has the host's CPU unchanged; use host-passthrough",
        "cpu.model.host-model",
        "cpu.model.named",
        "cpu.features",
    ),
    **no(
        f"{PROCESS} virCHProcessSetupPid (libvirt has it)",
        "which CPUs of the node a machine may have is not handed out in this release",
        "cpu.pinning",
        "cpu.emulator-pinning",
    ),
    **no(NOT_TOLD, "libvirt does not tell Cloud Hypervisor of it", "cpu.numa", "cpu.realtime"),
    **yes(f"{MONITOR} virCHMonitorBuildMemoryJson", "memory.guest"),
    **no(f"{MONITOR} virCHMonitorBuildMemoryJson (a size alone)", "the memory cannot be changed later", "memory.max"),
    **no(
        f"{MONITOR} virCHMonitorBuildMemoryJson (a size alone)",
        "libvirt does not ask Cloud Hypervisor for huge pages; leave it out",
        "memory.hugepages",
    ),
    **no(NOT_TOLD, "there is one machine type, without a name; leave it out", "machine.type", "machine.version"),
    **no(NOT_TOLD, "the platform cannot be changed: ACPI and APIC are always there", *below("features")),
    **no(NOT_TOLD, "libvirt does not ask Cloud Hypervisor for enlightenments; leave them out", *below("hyperv")),
    **no(
        f"{MONITOR} virCHMonitorBuildPlatformJson",
        "libvirt does not tell the guest; it can be written into a cloud-init volume",
        "firmware.uuid",
        "firmware.serial",
        "firmware.chassis",
    ),
    **no(
        f"{MONITOR} virCHMonitorBuildPayloadJson",
        "Cloud Hypervisor has no BIOS; name a kernel or a firmware in kernelBoot",
        "firmware.bios",
        "firmware.bios.serial",
    ),
    **no(
        f"{MONITOR} virCHMonitorBuildPayloadJson",
        "UEFI is chosen by naming its image (CLOUDHV.fd) as the kernel of kernelBoot, without variables that are kept",
        "firmware.efi",
        "firmware.efi.secure-boot",
        "firmware.efi.persistent",
    ),
    **no(NOT_TOLD, "the guest's ACPI tables are Cloud Hypervisor's own", "firmware.acpi-tables"),
    **yes(f"{MONITOR} virCHMonitorBuildPayloadJson", "firmware.kernel-boot", "firmware.kernel-args"),
    **yes(f"{NOT_TOLD}; Cloud Hypervisor's clock is in UTC", "clock.utc"),
    **no(
        NOT_TOLD,
        "the guest's clock is in UTC; set the time zone inside",
        "clock.timezone",
        "clock.utc-offset",
    ),
    **no(NOT_TOLD, "timers cannot be chosen; leave them out", *below("timer")),
    **yes(DISK, "disk.bus.virtio", "disk.readonly"),
    **no(DISK, "disks are on virtio alone", "disk.bus.sata", "disk.bus.scsi", "disk.bus.usb", "disk.bus.ide"),
    **no(DISK, "there are no CD-ROM drives; use a read-only disk", "disk.cdrom", "disk.cdrom.empty", "disk.cdrom.tray"),
    **no(DISK, "there are no floppy drives", "disk.floppy"),
    **no(DISK, "disks are image files alone", "disk.lun", "disk.lun.reservation"),
    **no(DISK, "disks are on virtio alone", "disk.readonly.sata"),
    **yes(DISK, "disk.format.raw"),
    **no(
        f"{DISK} (the format is not told)",
        "libvirt does not tell Cloud Hypervisor the format, which must not be guessed; use raw images",
        "disk.format.qcow2",
        "disk.format.vmdk",
        "disk.format.vdi",
        "disk.format.vhdx",
        "disk.format.ploop",
    ),
    **no(
        f"{DISK} (path and read-only alone)",
        "libvirt tells Cloud Hypervisor the file alone; leave it out",
        "disk.serial",
        *below("disk.cache"),
        "disk.io",
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
        f"{DISK} (no order)",
        "the kernel finds its root disk by its arguments, and a firmware takes the first disk that boots",
        "disk.boot-order",
    ),
    **no(DISK, "a volume belongs to one machine in this release", "disk.shareable"),
    **yes(
        f"{DISK} (image files)",
        "volume.container-disk",
        "volume.container-disk.further",
        "volume.empty-disk",
        "volume.host-disk",
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
    **no(REFUSED, "libvirt's Cloud Hypervisor driver refuses shared folders; use a disk", "filesystem.virtiofs"),
    **no(
        NET,
        "it has no user-mode network, and bridges of the node are not offered in this release",
        *(id_ for id_ in below("network", "interface") if not id_.startswith("interface.model.")),
        "interface.model.virtio",
    ),
    **no(
        f"{MONITOR} virCHMonitorBuildNetJson (no model)",
        "interfaces are virtio alone",
        *(id_ for id_ in below("interface.model") if id_ != "interface.model.virtio"),
    ),
    **yes(f"{MONITOR} virCHMonitorBuildConsoleJson", "console.none"),
    **yes(f"{MODEL} (virtio-rng is always there; libvirt leaves it as it is)", "rng"),
    **no(
        REFUSED,
        "libvirt's Cloud Hypervisor driver refuses the device",
        *below("watchdog", "input", "graphics", "video", "sound", "balloon", "tpm", "panic", "iommu"),
    ),
    **no(REFUSED, "libvirt's Cloud Hypervisor driver refuses the device", "usb-redirection"),
    **no(f"{NOT_TOLD}; it passes validation", "libvirt takes it and does not tell Cloud Hypervisor", "vsock"),
    **no(NOT_TOLD, "the host's metrics are not offered", *below("downward-metrics")),
    **no(NOT_TOLD, "its devices are those of virtio 1.0 alone", "virtio-transitional"),
    **no(
        f"{MONITOR} virCHMonitorBuildDeviceJson (libvirt has PCI devices, no others)",
        "no devices of the node are handed out in this release",
        *below("passthrough"),
    ),
    **no(
        f"{MONITOR} virCHMonitorBuildPlatformJson (libvirt has SEV-SNP from 11.2.0)",
        "memory encryption is not offered in this release",
        "launch-security.snp",
    ),
    **no(
        f"{MONITOR} virCHMonitorBuildPlatformJson (SEV-SNP alone)",
        "Cloud Hypervisor's driver does not have it",
        "launch-security.sev",
        "launch-security.tdx",
    ),
}
