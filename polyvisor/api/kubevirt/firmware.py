"""Firmware, boot, clock, CPU features and launch security.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf


class ACPI(Model):
    """``ACPI`` of KubeVirt's API."""

    msdm_name_ref: str | None = None
    slic_name_ref: str | None = None


class FeatureState(Model):
    """``FeatureState`` of KubeVirt's API."""

    enabled: bool | None = None


class BIOS(Model):
    """``BIOS`` of KubeVirt's API."""

    use_serial: bool | None = None


class EFI(Model):
    """``EFI`` of KubeVirt's API."""

    persistent: bool | None = None
    secure_boot: bool | None = None


class Bootloader(Model):
    """``Bootloader`` of KubeVirt's API."""

    bios: BIOS | None = None
    efi: EFI | None = None


class Chassis(Model):
    """``Chassis`` of KubeVirt's API."""

    asset: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    sku: str | None = None
    version: str | None = None


class HPETTimer(Model):
    """``HPETTimer`` of KubeVirt's API."""

    present: bool | None = None
    tick_policy: Annotated[str | None, OneOf("delay", "catchup", "merge", "discard")] = None


class HypervTimer(Model):
    """``HypervTimer`` of KubeVirt's API."""

    present: bool | None = None


class KVMTimer(Model):
    """``KVMTimer`` of KubeVirt's API."""

    present: bool | None = None


class PITTimer(Model):
    """``PITTimer`` of KubeVirt's API."""

    present: bool | None = None
    tick_policy: Annotated[str | None, OneOf("delay", "catchup", "discard")] = None


class RTCTimer(Model):
    """``RTCTimer`` of KubeVirt's API."""

    present: bool | None = None
    tick_policy: Annotated[str | None, OneOf("delay", "catchup")] = None
    track: Annotated[str | None, OneOf("guest", "wall")] = None


class Timer(Model):
    """``Timer`` of KubeVirt's API."""

    hpet: HPETTimer | None = None
    hyperv: HypervTimer | None = None
    kvm: KVMTimer | None = None
    pit: PITTimer | None = None
    rtc: RTCTimer | None = None


class ClockOffsetUTC(Model):
    """``ClockOffsetUTC`` of KubeVirt's API."""

    offset_seconds: Int32 | None = None


class Clock(Model):
    """``Clock`` of KubeVirt's API."""

    timer: Timer | None = None
    timezone: str | None = None
    utc: ClockOffsetUTC | None = None


class ClockOffset(Model):
    """``ClockOffset`` of KubeVirt's API."""

    timezone: str | None = None
    utc: ClockOffsetUTC | None = None


class FeatureAPIC(Model):
    """``FeatureAPIC`` of KubeVirt's API."""

    enabled: bool | None = None
    end_of_interrupt: bool | None = None


class FeatureSpinlocks(Model):
    """``FeatureSpinlocks`` of KubeVirt's API."""

    enabled: bool | None = None
    spinlocks: Int64 | None = None


class SyNICTimer(Model):
    """``SyNICTimer`` of KubeVirt's API."""

    direct: FeatureState | None = None
    enabled: bool | None = None


class TLBFlush(Model):
    """``TLBFlush`` of KubeVirt's API."""

    direct: FeatureState | None = None
    enabled: bool | None = None
    extended: FeatureState | None = None


class FeatureVendorID(Model):
    """``FeatureVendorID`` of KubeVirt's API."""

    enabled: bool | None = None
    vendorid: str | None = None


class FeatureHyperv(Model):
    """``FeatureHyperv`` of KubeVirt's API."""

    evmcs: FeatureState | None = None
    frequencies: FeatureState | None = None
    ipi: FeatureState | None = None
    reenlightenment: FeatureState | None = None
    relaxed: FeatureState | None = None
    reset: FeatureState | None = None
    runtime: FeatureState | None = None
    spinlocks: FeatureSpinlocks | None = None
    synic: FeatureState | None = None
    synictimer: SyNICTimer | None = None
    tlbflush: TLBFlush | None = None
    vapic: FeatureState | None = None
    vendorid: FeatureVendorID | None = None
    vpindex: FeatureState | None = None


class HyperVPassthrough(Model):
    """``HyperVPassthrough`` of KubeVirt's API."""

    enabled: bool | None = None


class FeatureKVM(Model):
    """``FeatureKVM`` of KubeVirt's API."""

    hidden: bool | None = None


class Features(Model):
    """``Features`` of KubeVirt's API."""

    acpi: FeatureState | None = None
    apic: FeatureAPIC | None = None
    hyperv: FeatureHyperv | None = None
    hyperv_passthrough: HyperVPassthrough | None = None
    kvm: FeatureKVM | None = None
    pvspinlock: FeatureState | None = None
    smm: FeatureState | None = None


class KernelBootContainer(Model):
    """``KernelBootContainer`` of KubeVirt's API."""

    image: str
    image_pull_policy: Annotated[str | None, OneOf("Always", "IfNotPresent", "Never")] = None
    image_pull_secret: str | None = None
    initrd_path: str | None = None
    kernel_path: str | None = None


class KernelBoot(Model):
    """``KernelBoot`` of KubeVirt's API."""

    container: KernelBootContainer | None = None
    kernel_args: str | None = None


class Firmware(Model):
    """``Firmware`` of KubeVirt's API."""

    acpi: ACPI | None = None
    bootloader: Bootloader | None = None
    kernel_boot: KernelBoot | None = None
    serial: str | None = None
    uuid: str | None = None


class SEVAttestation(Model):
    """``SEVAttestation`` of KubeVirt's API."""


class SEVPolicy(Model):
    """``SEVPolicy`` of KubeVirt's API."""

    encrypted_state: bool | None = None


class SEV(Model):
    """``SEV`` of KubeVirt's API."""

    attestation: SEVAttestation | None = None
    dh_cert: str | None = None
    policy: SEVPolicy | None = None
    session: str | None = None


class SEVSNP(Model):
    """``SEVSNP`` of KubeVirt's API."""


class TDX(Model):
    """``TDX`` of KubeVirt's API."""


class LaunchSecurity(Model):
    """``LaunchSecurity`` of KubeVirt's API."""

    sev: SEV | None = None
    snp: SEVSNP | None = None
    tdx: TDX | None = None


class Machine(Model):
    """``Machine`` of KubeVirt's API."""

    type: str | None = None


class InitrdInfo(Model):
    """``InitrdInfo`` of KubeVirt's API."""

    checksum: Int64 | None = None


class KernelInfo(Model):
    """``KernelInfo`` of KubeVirt's API."""

    checksum: Int64 | None = None


class KernelBootStatus(Model):
    """``KernelBootStatus`` of KubeVirt's API."""

    initrd_info: InitrdInfo | None = None
    kernel_info: KernelInfo | None = None
