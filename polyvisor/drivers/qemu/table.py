"""What libvirt's QEMU driver does with each feature, as read in its source (9.0.0 to 11.3.0) for x86_64."""

from __future__ import annotations

from polyvisor.drivers.answers import below, no, when, yes
from polyvisor.drivers.base import Support, Verdict

KVM = ("kvm",)
COMMAND = "libvirt 9.0.0 src/qemu/qemu_command.c"
VALIDATE = "libvirt 9.0.0 src/qemu/qemu_validate.c"
DRIVER = "libvirt 9.0.0 src/qemu/qemu_driver.c"
FORMAT = "https://libvirt.org/formatdomain.html"


def _yes(*names: str, source: str) -> dict[str, Support]:
    return {name: Support(Verdict.SUPPORTED, source) for name in names}


def _no(name: str, reason: str, source: str) -> dict[str, Support]:
    return {name: Support(Verdict.UNSUPPORTED, source, reason)}


def _kvm(name: str, reason: str, source: str) -> dict[str, Support]:
    return {name: Support(Verdict.CONDITIONAL, source, reason, virt_types=KVM)}


FEATURES: dict[str, Support] = {
    **_yes("isolation.kernel", "isolation.users", source="https://www.qemu.org/docs/master/system/security.html"),
    **_yes("isolation.launcher", source="https://libvirt.org/drvqemu.html (embedded, as an ordinary user)"),
    **_yes("lifecycle.start", source=f"{DRIVER} qemuDomainCreateWithFlags"),
    **_yes("lifecycle.start-paused", source=f"{DRIVER} qemuDomainCreateWithFlags (VIR_DOMAIN_START_PAUSED)"),
    **_yes("lifecycle.shutdown", source=f"{DRIVER} qemuDomainShutdownFlags"),
    **_yes("lifecycle.destroy", source=f"{DRIVER} qemuDomainDestroyFlags"),
    **_yes("lifecycle.pause", source=f"{DRIVER} qemuDomainSuspend"),
    **_yes("lifecycle.reboot", source=f"{DRIVER} qemuDomainReboot"),
    **_yes("lifecycle.reset", source=f"{DRIVER} qemuDomainReset"),
    **_yes("lifecycle.vnc", source=f"{DRIVER} qemuDomainOpenGraphicsFD"),
    **_yes("lifecycle.screenshot", source=f"{DRIVER} qemuDomainScreenshot"),
    **_yes("lifecycle.guest-agent", source=f"{DRIVER} qemuDomainQemuAgentCommand, qemuDomainFSFreeze"),
    **_yes("lifecycle.adopt", source="libvirt 9.0.0 src/qemu/qemu_process.c qemuProcessReconnect"),
    **_yes("lifecycle.statistics", source=f"{DRIVER} qemuConnectGetAllDomainStats"),
    **_yes("lifecycle.hotplug.disk", source=f"{DRIVER} qemuDomainAttachDeviceFlags, qemuDomainDetachDeviceAlias"),
    **_yes("lifecycle.events", source=f"{DRIVER} qemuConnectDomainEventRegisterAny"),
    **_yes("console.none", source=f"{COMMAND} qemuBuildConsoleCommandLine (none is built)"),
    **_yes("lifecycle.console", source=f"{COMMAND} qemuBuildChrDeviceCommandLine"),
    **_yes("boot.disk", "boot.without-kernel", source=f"{COMMAND} qemuBuildDisksCommandLine"),
    **_yes("boot.without-root", source=f"{COMMAND} qemuBuildDisksCommandLine (there may be none)"),
    **_no("boot.filesystem", "a machine boots from a disk image or a kernel, not from a tree of files", COMMAND),
    **_yes("cpu.count", "cpu.topology", "cpu.threads", source=f"{COMMAND} qemuBuildSmpCommandLine"),
    **_kvm(
        "cpu.model.host-passthrough",
        "the host's own CPU needs hardware virtualisation",
        "libvirt 9.0.0 src/qemu/qemu_capabilities.c virQEMUCapsIsCPUModeSupported",
    ),
    **_yes("cpu.model.host-model", source=f"{COMMAND} qemuBuildCpuCommandLine"),
    **when(
        f"{COMMAND} qemuBuildCpuCommandLine",
        "libvirt tells which models a host's CPU, or the emulator, can be",
        "cpu.model.named",
        node_cpu=True,
    ),
    **_yes("memory.guest", source=f"{COMMAND} qemuBuildMemCommandLine"),
    **_yes("machine.type", source=f"{COMMAND} qemuBuildMachineCommandLine"),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_domain.c qemuDomainDefPostParse (does not support machine type)",
        "libvirt tells which machine types the installed QEMU has",
        "machine.version",
        node_machine=True,
    ),
    **_yes("features.acpi", "features.apic", source=f"{VALIDATE} qemuValidateDomainDefFeatures"),
    **_yes("firmware.uuid", source=f"{COMMAND} qemuBuildCommandLine"),
    **_yes("firmware.serial", source=f"{COMMAND} qemuBuildSmbiosCommandLine"),
    **_yes("firmware.bios", source=f"{COMMAND} qemuBuildBootCommandLine"),
    **_yes("firmware.bios.serial", source=f"{FORMAT}#bios-bootloader, <bios useserial>"),
    "firmware.efi": Support(
        Verdict.CONDITIONAL,
        "libvirt 9.0.0 src/qemu/qemu_firmware.c qemuFirmwareFillDomain",
        "the node needs UEFI firmware (package ovmf)",
        node_fact=True,
    ),
    "firmware.efi.secure-boot": Support(
        Verdict.CONDITIONAL,
        "libvirt 9.0.0 src/qemu/qemu_firmware.c qemuFirmwareMatchDomain",
        "the node needs UEFI firmware with secure boot (package ovmf)",
        node_fact=True,
    ),
    **_yes("firmware.kernel-boot", "firmware.kernel-args", source=f"{COMMAND} qemuBuildBootCommandLine"),
    **_yes("clock.timezone", "clock.utc", "clock.utc-offset", source=f"{COMMAND} qemuBuildClockCommandLine"),
    **_yes("timer.hpet", "timer.pit", "timer.rtc", source=f"{VALIDATE} qemuValidateDomainDefClockTimers"),
    **_kvm("timer.kvm", "the KVM clock is a part of KVM", f"{VALIDATE} qemuValidateDomainDefClockTimers"),
    **_kvm("timer.hyperv", "the Hyper-V clock is emulated by KVM", f"{VALIDATE} qemuValidateDomainDefClockTimers"),
    **_yes(
        "disk.bus.virtio",
        "disk.bus.sata",
        "disk.bus.scsi",
        "disk.bus.usb",
        "disk.cdrom",
        "disk.cdrom.empty",
        "disk.serial",
        "disk.boot-order",
        source=f"{COMMAND} qemuBuildDiskDeviceProps",
    ),
    **_yes("disk.readonly", source=f"{VALIDATE} qemuValidateDomainDeviceDefDiskFrontend"),
    **_no(
        "disk.readonly.sata",
        "a SATA disk cannot be read-only; use virtio or scsi",
        f"{VALIDATE} qemuValidateDomainDeviceDefDiskFrontend",
    ),
    **_yes("disk.lun", source=f"{VALIDATE} qemuValidateDomainDeviceDefDiskFrontend (block devices on the bus scsi)"),
    **_yes(
        "disk.cache.none",
        "disk.cache.writethrough",
        "disk.cache.writeback",
        source="libvirt 9.0.0 src/qemu/qemu_block.c qemuBlockStorageSourceGetBlockdevProps",
    ),
    **_yes("disk.io", source=f"{FORMAT}#hard-drives-floppy-disks-cdroms, driver io"),
    **_yes(
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
        source=f"{COMMAND} qemuBuildDisksCommandLine (image files)",
    ),
    **_yes("network.pod", "interface.masquerade", source=f"{COMMAND} qemuBuildInterfaceCommandLine (type user)"),
    **_yes(
        "interface.model.virtio",
        "interface.model.e1000",
        "interface.model.e1000e",
        "interface.model.ne2k_pci",
        "interface.model.pcnet",
        "interface.model.rtl8139",
        "interface.mac",
        "interface.boot-order",
        source=f"{COMMAND} qemuBuildNicDevProps",
    ),
    "interface.model.igb": Support(
        Verdict.CONDITIONAL,
        "libvirt 9.3.0 src/conf/domain_conf.c virDomainNetModel",
        "the igb card came with libvirt 9.3 and QEMU 8.0",
        min_libvirt="9.3.0",
        min_hypervisor="8.0.0",
    ),
    **_yes("interface.ports", source="https://www.qemu.org/docs/master/system/monitor.html, hostfwd_add"),
    **_yes("interface.link-down", source=f"{FORMAT}#modifying-virtual-link-state"),
    **_yes(
        "lifecycle.hotplug.interface",
        "interface.absent",
        source=f"{DRIVER} qemuDomainAttachDeviceFlags, qemuDomainDetachDeviceAlias",
    ),
    **_yes("lifecycle.hotplug.link", source="libvirt 9.0.0 src/qemu/qemu_hotplug.c qemuDomainChangeNetLinkState"),
    **_yes("rng", source=f"{COMMAND} qemuBuildRNGCommandLine"),
    **_yes("watchdog.i6300esb", source=f"{VALIDATE} qemuValidateDomainWatchdogDef"),
    **_no("watchdog.diag288", "this watchdog exists on s390x only", f"{VALIDATE} qemuValidateDomainWatchdogDef"),
    **_yes("input.tablet", source=f"{COMMAND} qemuBuildInputCommandLine"),
    **_yes("graphics", source=f"{COMMAND} qemuBuildGraphicsCommandLine"),
    **_yes("balloon", source=f"{COMMAND} qemuBuildMemballoonCommandLine"),
    **yes(f"{DRIVER} qemuDomainCoreDumpWithFormat (memory only)", "lifecycle.memory-dump"),
    **yes(
        "libvirt 9.0.0 src/libvirt-qemu.c virDomainQemuMonitorCommand; QEMU 7.2 migration/migration.c qmp_migrate",
        "lifecycle.live-migration",
    ),
    **no(
        f"{DRIVER} qemuHypervisorDriver (libvirt has it)",
        "QEMU can, and Polyvisor does not do it yet",
        "lifecycle.save",
        "lifecycle.hotplug.memory",
    ),
    **yes(
        f"{DRIVER} qemuDomainSetVcpusFlags, libvirt 9.0.0 src/qemu/qemu_hotplug.c qemuDomainHotplugAddVcpu",
        "lifecycle.hotplug.cpu",
    ),
    **yes(f"{DRIVER} qemuDomainSuspend (disks are flushed; their files are copied then)", "lifecycle.snapshot"),
    **yes("libvirt 9.0.0 src/qemu/qemu_process.c qemuProcessHandleReset (on_reboot)", "lifecycle.reboot-policy"),
    **no(
        "libvirt 9.0.0 src/qemu/qemu_capabilities.c virQEMUCapsInitGuestFromBinary",
        "guests of another architecture than the node's are not offered in this release",
        *below("arch"),
    ),
    **yes(f"{COMMAND} qemuBuildSmpCommandLine (maxcpus)", "cpu.max-sockets"),
    **when(
        f"{COMMAND} qemuBuildCpuModelArgStr (features)",
        "libvirt tells which features a host's CPU, or the emulator, has",
        "cpu.features",
        node_cpu=True,
    ),
    **no(
        "libvirt 9.0.0 src/qemu/qemu_process.c qemuProcessSetupPid (libvirt has it)",
        "guests are not shown the NUMA nodes of their host in this release, nor scheduled in real time",
        "cpu.numa",
        "cpu.realtime",
    ),
    **no(
        f"{DRIVER} qemuDomainAttachDeviceLive (memory devices; libvirt has it)",
        "memory is not added to running machines in this release",
        "memory.max",
    ),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_process.c qemuProcessSetupVcpu, qemuProcessSetupEmulator",
        "the node has to give whole CPUs away (a kubelet with cpuManagerPolicy: static, or a host with two at least)",
        "cpu.pinning",
        "cpu.emulator-pinning",
        node_fact=True,
    ),
    **yes(f"{COMMAND} qemuBuildMemoryBackendProps (memory-backend-memfd, hugetlbsize)", "memory.hugepages"),
    **yes(f"{COMMAND} qemuBuildMachineCommandLine (smm)", "features.smm"),
    **when(
        f"{COMMAND} qemuBuildCpuCommandLine (kvm=off, kvm_pv_unhalt)",
        "it is a part of KVM",
        "features.kvm-hidden",
        "features.pvspinlock",
        virt_types=KVM,
    ),
    **when(
        f"{COMMAND} qemuBuildCpuCommandLine (hv-*)",
        "the enlightenments are given by KVM",
        *below("hyperv"),
        virt_types=KVM,
    ),
    **yes(f"{COMMAND} qemuBuildSmbiosChassisStr", "firmware.chassis"),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_domain.c qemuDomainNVRAMPathFormat",
        "the node needs UEFI firmware (package ovmf)",
        "firmware.efi.persistent",
        node_fact=True,
    ),
    **no(
        f"{COMMAND} qemuBuildMachineACPI (SLIC alone)",
        "tables of one's own are not passed on yet",
        "firmware.acpi-tables",
    ),
    **no(
        f"{COMMAND} qemuBuildDiskDeviceProps (tray is not passed on; a guest was seen to find its disc)",
        "libvirt starts a machine with every tray closed",
        "disk.cdrom.tray",
    ),
    **no(
        f"{VALIDATE} qemuValidateDomainDeviceDefControllerIDE", "the machine q35 has no IDE; use sata", "disk.bus.ide"
    ),
    **no(
        f"{COMMAND} qemuBuildFloppyCommandLineControllerOptions", "KubeVirt's API has no floppy drives", "disk.floppy"
    ),
    **no(
        f"{COMMAND} qemuBuildPRManagerInfoProps",
        "no persistent reservation helper runs beside a machine",
        "disk.lun.reservation",
    ),
    **yes(
        "libvirt 9.0.0 src/qemu/qemu_block.c qemuBlockStorageSourceGetBlockdevFormatProps",
        "disk.format.raw",
        "disk.format.qcow2",
    ),
    **no(
        "libvirt 9.0.0 src/qemu/qemu_block.c qemuBlockStorageSourceGetBlockdevFormatProps (libvirt has it)",
        "a containerDisk or an import in this format is converted, and QEMU given qcow2 or raw",
        "disk.format.vmdk",
        "disk.format.vdi",
        "disk.format.vhdx",
        "disk.format.ploop",
    ),
    **yes(f"{COMMAND} qemuBuildDiskDeviceProps (share-rw), raw images alone", "disk.shareable"),
    **yes(
        f"{COMMAND} qemuBuildDiskDeviceProps",
        "disk.error-policy",
        "disk.block-size",
        "disk.rotation-rate",
        "disk.pci-address",
        "disk.io-thread",
        "disk.io-threads-policy",
        "disk.multiqueue",
    ),
    **yes(
        "https://libvirt.org/drvqemu.html#overriding-properties-of-qemu-devices (discard_granularity)",
        "disk.discard-granularity",
    ),
    **yes(
        "libvirt 9.0.0 src/qemu/qemu_block.c qemuBlockStorageSourceGetBlockdevProps (discard, always on)",
        "disk.discard",
    ),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_virtiofs.c qemuVirtioFSStart, qemuVirtioFSPrepareDomain",
        "the node needs virtiofsd (Debian 12: package qemu-system-common, later: virtiofsd) and an agent that is root",
        "filesystem.virtiofs",
        node_fact=True,
    ),
    **no(
        f"{COMMAND} qemuBuildInterfaceConnect (libvirt has it)",
        "interfaces of the node are not handed out in this release",
        "interface.sriov",
    ),
    **no(
        "libvirt 9.0.0 src/conf/domain_conf.c virDomainNetBackend (Debian's patch takes passt out)",
        "Debian 12's libvirt refuses passt (\"Invalid value for attribute 'type'\"); masquerade reaches as far",
        "interface.passt",
    ),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_interface.c qemuInterfaceEthernetConnect (managed='no')",
        "the node needs networks of its own for machines (a kubelet's node, or `polyvisor up --network bridge`)",
        "network.pod.cidr",
        "network.multus",
        "interface.bridge",
        "interface.multiqueue",
        "interface.mtu",
        "interface.dhcp-options",
        node_fact=True,
    ),
    **yes(f"{COMMAND} qemuBuildNicDevProps", "interface.pci-address", "interface.acpi-index"),
    **yes(f"{COMMAND} qemuBuildInputVirtioDevProps", "input.bus.virtio"),
    **yes(f"{COMMAND} qemuBuildDeviceVideoCmd", "video.type"),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_validate.c qemuValidateDomainDeviceDefVideo",
        "the node's QEMU needs its module for qxl (Debian 12: package qemu-system-common, later:"
        " qemu-system-modules-spice); leave video.type out, or use vga or virtio",
        "video.qxl",
        node_fact=True,
    ),
    **yes(f"{COMMAND} qemuBuildSoundDevCmd", "sound.ich9", "sound.ac97"),
    **when(
        "libvirt 9.0.0 src/qemu/qemu_tpm.c qemuTPMEmulatorStart",
        "the node needs a TPM emulator (packages swtpm and swtpm-tools)",
        "tpm",
        "tpm.persistent",
        node_fact=True,
    ),
    **when(
        f"{COMMAND} qemuBuildVsockCommandLine",
        "the node needs the kernel's module vhost_vsock (/dev/vhost-vsock)",
        "vsock",
        node_fact=True,
    ),
    **yes(f"{COMMAND} qemuBuildPanicCommandLine", "panic"),
    **when(
        "libvirt 11.3.0 docs/formatdomain.rst (panic model pvpanic)",
        "it came with libvirt 9.1",
        "panic.pvpanic",
        min_libvirt="9.1.0",
    ),
    **yes(f"{COMMAND} qemuBuildChrDeviceCommandLine (a channel org.github.vhostmd.1)", "downward-metrics"),
    **yes("https://github.com/vhostmd/vhostmd (a disk of 256 KiB)", "downward-metrics.disk"),
    **yes(
        "libvirt 9.0.0 src/qemu/qemu_domain_address.c qemuDomainDeviceCalculatePCIConnectFlags (virtio-transitional)",
        "virtio-transitional",
    ),
    **no(f"{COMMAND} qemuBuildIOMMUCommandLine", "KubeVirt's API has no IOMMU for guests", "iommu"),
    **yes(f"{COMMAND} qemuBuildRedirdevCommandLine", "usb-redirection"),
    **no(
        f"{COMMAND} qemuBuildHostdevCommandLine (libvirt has it)",
        "no devices of the node are handed out yet",
        *below("passthrough"),
    ),
    **no(
        f"{COMMAND} qemuBuildSecCommandLine (libvirt has SEV)",
        "memory encryption could not be tried on any node yet, so it is not offered",
        *below("launch-security"),
    ),
}
