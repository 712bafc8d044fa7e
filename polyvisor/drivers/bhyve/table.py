"""What libvirt's bhyve driver does with each feature, as read in its source (9.0.0 and 11.3.0); what later ones
can, up to 12.5.0, is from libvirt's release notes and says so.

The driver writes a command line for bhyve; what its writer does not read is lost without a word, such as whether a disk
is read-only. Machines boot by UEFI here: without it libvirt would run a loader on the host that knows FreeBSD alone.
"""

from __future__ import annotations

from polyvisor.drivers.answers import Table, below, no, since, when, yes
from polyvisor.drivers.base import Rule

DRIVER = "libvirt 11.3.0 src/bhyve/bhyve_driver.c"
COMMAND = "libvirt 11.3.0 src/bhyve/bhyve_command.c"
BUILD = f"{COMMAND} virBhyveProcessBuildBhyveCmd"
NOWHERE = f"{BUILD} (nothing there reads it)"
DISK = f"{COMMAND} bhyveBuildVirtIODiskArgStr, bhyveBuildAHCIControllerArgStr"
NET = f"{COMMAND} bhyveBuildNetArgStr (bridge and network alone)"
PROCESS = "libvirt 11.3.0 src/bhyve/bhyve_process.c"
MONITOR = "libvirt 11.3.0 src/bhyve/bhyve_monitor.c bhyveMonitorIO"
FIRMWARE = "libvirt 11.3.0 src/bhyve/bhyve_firmware.c bhyveFirmwareFillDomain"
CAPS = "libvirt 11.3.0 src/bhyve/bhyve_capabilities.c"
NO_CALLBACK = f"{DRIVER} bhyveHypervisorDriver (the operation is not in its table)"
LATER = "is not there in this release"
NOT_READ = "libvirt's bhyve driver does not read it; leave it out"

RULES = {
    "rule.inputs.several": Rule(
        "bhyve has one USB tablet; leave the others out",
        f"{COMMAND} bhyveBuildUSBControllerArgStr (only single input device is supported)",
    ),
}

FEATURES: Table = {
    **yes(
        "https://libvirt.org/drvbhyve.html (virtual machines of a hypervisor)", "isolation.kernel", "isolation.users"
    ),
    **yes("https://libvirt.org/uri.html (a connection alone)", "isolation.launcher"),
    **yes(f"{DRIVER} bhyveDomainCreateWithFlags", "lifecycle.start"),
    **no(
        f"{DRIVER} bhyveDomainCreateWithFlags",
        "a machine starts running, and cannot be paused",
        "lifecycle.start-paused",
    ),
    **yes(f"{PROCESS} virBhyveProcessShutdown (the ACPI button)", "lifecycle.shutdown"),
    **yes(f"{PROCESS} virBhyveProcessStop", "lifecycle.destroy"),
    **yes(f"{PROCESS} virBhyveProcessReconnectAll", "lifecycle.adopt"),
    **no(f"{DRIVER} bhyveDomainReboot (libvirt has it)", f"asking a guest to reboot {LATER}", "lifecycle.reboot"),
    **no(
        f"{MONITOR} (the state changes, no event is sent)",
        "libvirt sends no event when a guest powers off, so the launcher looks once a second",
        "lifecycle.events",
    ),
    **no(
        f"{DRIVER} bhyveDomainOpenConsole (libvirt has it)",
        f"reaching the console, a null-modem device of the FreeBSD host, {LATER}",
        "lifecycle.console",
    ),
    **no(
        f"{COMMAND} bhyveBuildGraphicsArgStr (a TCP port of the host)",
        f"the screen on a port of the host {LATER}",
        "lifecycle.vnc",
    ),
    **no(
        NO_CALLBACK,
        "libvirt's bhyve driver does not have it",
        "lifecycle.pause",
        "lifecycle.reset",
        "lifecycle.screenshot",
        "lifecycle.save",
        "lifecycle.memory-dump",
        "lifecycle.live-migration",
        "lifecycle.snapshot",
        *below("lifecycle.hotplug"),
    ),
    **no(
        since("11.7.0", NO_CALLBACK),
        f"libvirt counts disks, interfaces and memory since 11.7.0; reading them {LATER}",
        "lifecycle.statistics",
    ),
    **no(
        since("12.4.0", NO_CALLBACK),
        f"libvirt reaches an agent in the guest since 12.4.0; asking it {LATER}",
        "lifecycle.guest-agent",
    ),
    **when(
        since("12.5.0", f"{MONITOR} (a guest that reboots is started again)"),
        "older ones always start a guest again that reboots",
        "lifecycle.reboot-policy",
        min_libvirt="12.5.0",
    ),
    **yes(f"{BUILD} (bootrom)", "boot.disk"),
    **when(
        FIRMWARE,
        "the host needs UEFI firmware (package edk2-bhyve)",
        "boot.without-kernel",
        "firmware.efi",
        node_fact=True,
    ),
    **yes(f"{BUILD} (with firmware there may be no disk)", "boot.without-root"),
    **no(BUILD, "a machine boots from a disk image, not from a tree of files", "boot.filesystem"),
    **no(
        f"{CAPS} virBhyveCapsBuild (guests have the host's architecture)",
        "guests of another architecture than x86_64 are not offered in this release",
        *below("arch"),
    ),
    **yes(f"{BUILD} (-c)", "cpu.count", "cpu.topology", "cpu.threads"),
    **no(
        f"{BUILD} (-c)", "the number of CPUs cannot be changed later, so room for more is of no use", "cpu.max-sockets"
    ),
    **yes(f"{BUILD} (no CPU model is told: guests see the host's)", "cpu.model.host-passthrough"),
    **no(
        f"{BUILD} (no CPU model is told)",
        "the guest always has the host's CPU; use host-passthrough",
        "cpu.model.host-model",
        "cpu.model.named",
        "cpu.features",
    ),
    **no(
        NOWHERE,
        NOT_READ,
        "cpu.emulator-pinning",
        "cpu.numa",
        "cpu.realtime",
        "memory.max",
        "memory.hugepages",
        "machine.type",
        "machine.version",
        "features.smm",
        "features.kvm-hidden",
        "features.pvspinlock",
        *below("hyperv"),
        *below("timer"),
    ),
    **no(
        since("12.1.0", NOWHERE),
        f"libvirt pins CPUs since 12.1.0; handing out the host's CPUs {LATER}",
        "cpu.pinning",
    ),
    **yes(f"{BUILD} (-m, in whole MiB)", "memory.guest"),
    **yes(f"{BUILD} (-A, -I)", "features.acpi", "features.apic"),
    **no(
        NOWHERE,
        "libvirt does not tell the guest; it can be written into a cloud-init volume",
        "firmware.uuid",
    ),
    **no(
        since("12.5.0", NOWHERE),
        f"libvirt tells the guest since 12.5.0; writing it for this driver {LATER}",
        "firmware.serial",
        "firmware.chassis",
    ),
    **no(
        f"{BUILD} (bootrom)",
        "bhyve has no BIOS; use efi with secureBoot: false, or name no firmware",
        "firmware.bios",
        "firmware.bios.serial",
    ),
    **no(FIRMWARE, "there is no secure boot; set efi.secureBoot to false", "firmware.efi.secure-boot"),
    **no(
        since("11.4.0", FIRMWARE),
        f"libvirt keeps UEFI variables since 11.4.0; asking for them {LATER}",
        "firmware.efi.persistent",
    ),
    **no(NOWHERE, NOT_READ, "firmware.acpi-tables"),
    **no(
        f"{COMMAND} virBhyveProcessBuildLoadCmd (nothing there reads the kernel)",
        "libvirt's bhyve driver boots from disks alone; put the kernel into the disk image",
        "firmware.kernel-boot",
        "firmware.kernel-args",
    ),
    **yes(f"{BUILD} (-u)", "clock.utc"),
    **no(BUILD, "the guest's clock is in UTC; set the time zone inside", "clock.timezone", "clock.utc-offset"),
    **yes(DISK, "disk.bus.virtio", "disk.bus.sata", "disk.cdrom"),
    **no(
        f"{COMMAND} bhyveBuildDiskArgStr",
        "disks are on virtio or sata",
        "disk.bus.usb",
        "disk.bus.ide",
    ),
    **no(
        since("12.0.0", f"{COMMAND} bhyveBuildDiskArgStr"),
        "disks are on virtio or sata; libvirt's virtio-scsi, since 12.0.0, is for devices of FreeBSD's CTL alone",
        "disk.bus.scsi",
    ),
    **no(f"{DISK} (unsupported disk device)", "there are no floppy drives", "disk.floppy"),
    **no(f"{DISK} (unsupported disk device)", "disks are image files alone", "disk.lun", "disk.lun.reservation"),
    **no(DISK, "a CD-ROM drive without media is not offered in this release", "disk.cdrom.empty"),
    **no(
        f"{DISK} (the path alone)",
        "libvirt does not tell bhyve, and the guest could write; use a cdrom",
        "disk.readonly",
        "disk.readonly.sata",
    ),
    **yes(DISK, "disk.format.raw"),
    **no(
        f"{DISK} (the path alone)",
        "bhyve knows raw images alone (`qemu-img convert -O raw`)",
        "disk.format.qcow2",
        "disk.format.vmdk",
        "disk.format.vdi",
        "disk.format.vhdx",
        "disk.format.ploop",
    ),
    **no(
        f"{DISK} (the path alone)",
        "libvirt does not tell bhyve; leave it out",
        "disk.cdrom.tray",
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
    **no(f"{BUILD} (UEFI is not told)", "the firmware takes the first disk that boots", "disk.boot-order"),
    **no(DISK, "a volume belongs to one machine in this release", "disk.shareable"),
    **yes(f"{DISK} (image files of the host)", "volume.host-disk"),
    **no(
        f"{DISK} (image files of the host)",
        "bringing images to a FreeBSD host is not there in this release; use a hostDisk that is there",
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
    **no(
        f"{COMMAND} bhyveBuildFSArgStr (libvirt has 9p)",
        f"shared folders by 9p are something else; virtiofs {LATER}",
        "filesystem.virtiofs",
    ),
    **no(
        since("12.0.0", NET),
        f"libvirt has a user-mode network since 12.0.0; joining machines to it or to bridges of the host {LATER}",
        *(id_ for id_ in below("network", "interface") if not id_.startswith("interface.model.")),
        "interface.model.virtio",
        "interface.model.e1000",
    ),
    **no(
        f"{COMMAND} bhyveBuildNetArgStr (NIC model is not supported)",
        "interfaces are virtio or e1000",
        "interface.model.e1000e",
        "interface.model.igb",
        "interface.model.ne2k_pci",
        "interface.model.pcnet",
        "interface.model.rtl8139",
    ),
    **yes(f"{COMMAND} bhyveBuildConsoleArgStr", "console.none"),
    **when(
        f"{COMMAND} bhyveBuildRNGArgStr",
        "older ones have no random number generator",
        "rng",
        min_libvirt="11.3.0",
    ),
    **yes(f"{COMMAND} bhyveBuildUSBControllerArgStr (one USB tablet)", "input.tablet"),
    **no(f"{COMMAND} bhyveBuildUSBControllerArgStr", "pointer devices are on USB alone", "input.bus.virtio"),
    **no(
        f"{COMMAND} bhyveBuildGraphicsArgStr (a TCP port of the host)",
        f"the screen on a port of the host {LATER}",
        "graphics",
        "video.type",
        "video.qxl",
    ),
    **no(f"{COMMAND} bhyveBuildSoundArgStr", "bhyve does not have this sound card", *below("sound")),
    **no(
        NOWHERE,
        NOT_READ,
        *below("watchdog", "balloon", "tpm", "vsock", "panic", "iommu", "launch-security"),
        *below("downward-metrics"),
        "virtio-transitional",
        "usb-redirection",
    ),
    **no(
        f"{CAPS} virBhyveDomainCapsFill (hostdev is not supported)",
        "libvirt's bhyve driver ignores host devices",
        *below("passthrough"),
    ),
}
