"""How many of what a QEMU machine can have, and which combinations of fields it does not take."""

from __future__ import annotations

from polyvisor.drivers.base import Limit, Rule
from polyvisor.drivers.qemu.table import COMMAND, VALIDATE

LIMITS: dict[str, Limit] = {
    "limit.cpus": Limit(
        255,
        f"{VALIDATE} qemuValidateDomainVCpuTopology (QEMU_MAX_VCPUS_WITHOUT_EIM)",
        "with more the guest needs an IOMMU, for which KubeVirt's API has no word; libvirt before 10.10.0 adds none",
    ),
    "limit.interfaces": Limit(
        32,
        "libvirt 9.0.0 src/qemu/qemu_domain_address.c qemuDomainAssignDevicePCISlots",
        "each needs a place on the PCI bus",
    ),
    "limit.disks.virtio": Limit(
        128,
        "libvirt 9.0.0 src/qemu/qemu_domain_address.c qemuDomainAssignDevicePCISlots",
        "each needs a port of PCI Express of its own; SCSI disks share one controller",
    ),
    "limit.disks.scsi": Limit(
        256,
        "libvirt 9.0.0 src/qemu/qemu_command.c qemuBuildDiskDeviceBusProps (lun; virtio-scsi)",
        "they share one virtio-scsi controller",
    ),
    "limit.disks.sata.named": Limit(
        24,
        "libvirt 9.0.0 src/conf/domain_conf.c virDomainDiskDefAssignAddress (six on an AHCI controller)",
        "six on each of four AHCI controllers; use virtio or scsi",
    ),
    "limit.usb": Limit(
        15,
        "libvirt 9.0.0 src/conf/domain_addr.c virDomainUSBAddressControllerModelToPorts; QEMU's qemu-xhci has 15 ports",
        "the USB controller has 15 ports; use virtio or scsi",
    ),
    "limit.serial.virtio": Limit(
        20, "https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html (VIRTIO_BLK_T_GET_ID)", "virtio carries 20"
    ),
    "limit.serial.scsi": Limit(
        36, "https://gitlab.com/qemu-project/qemu/-/blob/v7.2.0/hw/scsi/scsi-disk.c (page 0x80)", "QEMU tells 36"
    ),
    "limit.serial.sata": Limit(
        20, "https://gitlab.com/qemu-project/qemu/-/blob/v7.2.0/hw/ide/core.c (drive_serial_str)", "ATA carries 20"
    ),
    "limit.serial.usb": Limit(
        36, "https://gitlab.com/qemu-project/qemu/-/blob/v7.2.0/hw/scsi/scsi-disk.c (page 0x80)", "QEMU tells 36"
    ),
}

RULES: dict[str, Rule] = {
    "rule.machine.board": Rule(
        "accepted are q35, pc and their versions, such as pc-q35-7.2; the others have no PCI bus for the devices",
        "libvirt 9.0.0 src/qemu/qemu_domain_address.c qemuDomainSupportsPCI",
    ),
    "rule.disk.io-thread": Rule(
        "libvirt gives threads of their own to virtio disks alone; leave dedicatedIOThread out, or use bus virtio",
        f"{VALIDATE} (IOThreads not available for bus)",
    ),
    "rule.disk.pci-address": Rule(
        "only a virtio disk is a PCI device; leave pciAddress out, or use bus virtio",
        "libvirt 9.0.0 src/conf/domain_validate.c virDomainDiskAddressDiskBusCompatibility",
    ),
    "rule.disk.rotation-rate": Rule(
        "virtio and USB disks tell none; leave rotationRate out, or use bus scsi or sata",
        f"{VALIDATE} qemuValidateDomainDeviceDefDiskFrontend (rotation rate is only valid for SCSI/IDE/SATA bus)",
    ),
    "rule.disk.discard-granularity": Rule(
        "a LUN tells its own, and libvirt gives it to disks that a machine starts with alone; leave it out",
        "libvirt 9.0.0 src/qemu/qemu_command.c qemuBuildDeviceCommandlineHandleOverrides",
    ),
    "rule.disk.match-volume": Rule(
        "disks that a machine starts with alone get it; give custom, with logical and physical",
        f"{COMMAND} qemuBuildDiskDeviceProps (blockio; read when the machine is prepared)",
    ),
    "rule.pci.place": Rule(
        "the board has no such place. With machine type q35 there are 0000:00:02.0 to 0000:00:1e.0, and one on each"
        " bus from 0000:01:00.0 to 0000:40:00.0; with pc there are 0000:00:03.0 to 0000:00:1f.0",
        "libvirt 9.0.0 src/qemu/qemu_domain_address.c qemuDomainValidateDevicePCISlotsQ35",
    ),
    "rule.pci.twice": Rule(
        "each device needs an address of its own",
        "libvirt 9.0.0 src/conf/domain_addr.c virDomainPCIAddressReserveAddrInternal (double use)",
    ),
    "rule.cdrom.usb": Rule(
        "QEMU starts no USB drive without media (drive property not set); use bus sata or scsi, or name a volume",
        "libvirt 11.3.0 src/qemu/qemu_validate.c ('usb' disk must not be empty)",
    ),
    "rule.efi.acpi": Rule("UEFI needs ACPI on x86; leave features.acpi out", f"{VALIDATE} qemuValidateDomainDef"),
    "rule.efi.machine": Rule(
        "firmware with secure boot is there for q35 alone; leave machine.type out, or set secureBoot: false",
        "libvirt 9.0.0 src/qemu/qemu_firmware.c qemuFirmwareMatchDomain",
    ),
    "rule.efi.smm": Rule(
        "secure boot needs system management mode; leave features.smm out, or set secureBoot: false",
        f"{VALIDATE} qemuValidateDomainDefBoot (Secure boot requires SMM feature enabled)",
    ),
    "rule.bios.serial": Rule(
        "there is no serial port to write to; leave autoattachSerialConsole out",
        f"{VALIDATE} qemuValidateDomainDef (useserial)",
    ),
}
