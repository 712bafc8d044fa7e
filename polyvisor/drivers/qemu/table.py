"""What libvirt's QEMU driver does with each feature, as read in its source (9.0.0 to 11.3.0) for x86_64."""

from __future__ import annotations

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
    **_yes("lifecycle.start", source=f"{DRIVER} qemuDomainCreateWithFlags"),
    **_yes("lifecycle.start-paused", source=f"{DRIVER} qemuDomainCreateWithFlags (VIR_DOMAIN_START_PAUSED)"),
    **_yes("lifecycle.shutdown", source=f"{DRIVER} qemuDomainShutdownFlags"),
    **_yes("lifecycle.destroy", source=f"{DRIVER} qemuDomainDestroyFlags"),
    **_yes("lifecycle.pause", source=f"{DRIVER} qemuDomainSuspend"),
    **_yes("lifecycle.adopt", source="libvirt 9.0.0 src/qemu/qemu_process.c qemuProcessReconnect"),
    **_yes("lifecycle.events", source=f"{DRIVER} qemuConnectDomainEventRegisterAny"),
    **_yes("console.none", source=f"{COMMAND} qemuBuildConsoleCommandLine (none is built)"),
    **_yes("lifecycle.console", source=f"{COMMAND} qemuBuildChrDeviceCommandLine"),
    **_yes("boot.disk", "boot.without-kernel", source=f"{COMMAND} qemuBuildDisksCommandLine"),
    **_no("boot.filesystem", "a machine boots from a disk image or a kernel, not from a tree of files", COMMAND),
    **_yes("cpu.count", "cpu.topology", source=f"{COMMAND} qemuBuildSmpCommandLine"),
    **_kvm(
        "cpu.model.host-passthrough",
        "the host's own CPU needs hardware virtualisation",
        "libvirt 9.0.0 src/qemu/qemu_capabilities.c virQEMUCapsIsCPUModeSupported",
    ),
    **_yes("cpu.model.host-model", "cpu.model.named", source=f"{COMMAND} qemuBuildCpuCommandLine"),
    **_yes("memory.guest", source=f"{COMMAND} qemuBuildMemCommandLine"),
    **_yes("machine.type", source=f"{COMMAND} qemuBuildMachineCommandLine"),
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
        "disk.cdrom.tray",
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
    **_no(
        "disk.lun",
        "a LUN must be a SCSI device of the host; volumes are image files in this release",
        f"{VALIDATE} qemuValidateDomainDeviceDefDiskFrontend",
    ),
    **_yes(
        "disk.cache.none",
        "disk.cache.writethrough",
        "disk.cache.writeback",
        source="libvirt 9.0.0 src/qemu/qemu_block.c qemuBlockStorageSourceGetBlockdevProps",
    ),
    **_yes("disk.io", source=f"{FORMAT}#hard-drives-floppy-disks-cdroms, driver io"),
    **_yes(
        "volume.container-disk",
        "volume.empty-disk",
        "volume.host-disk",
        "volume.claim",
        "volume.cloud-init",
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
    **_no(
        "interface.ports",
        "nothing forwards ports into the user-mode network yet",
        f"{COMMAND} qemuBuildHostNetProps: user networks take no forwarded ports",
    ),
    **_yes("interface.link-down", source=f"{FORMAT}#modifying-virtual-link-state"),
    **_no("interface.absent", "taking out a network card of a running machine comes later", DRIVER),
    **_yes("rng", source=f"{COMMAND} qemuBuildRNGCommandLine"),
    **_yes("watchdog.i6300esb", source=f"{VALIDATE} qemuValidateDomainWatchdogDef"),
    **_no("watchdog.diag288", "this watchdog exists on s390x only", f"{VALIDATE} qemuValidateDomainWatchdogDef"),
    **_yes("input.tablet", source=f"{COMMAND} qemuBuildInputCommandLine"),
    **_yes("graphics", source=f"{COMMAND} qemuBuildGraphicsCommandLine"),
    **_yes("balloon", source=f"{COMMAND} qemuBuildMemballoonCommandLine"),
}
