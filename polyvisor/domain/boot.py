"""What the machine starts with: firmware, a kernel of its own, and what it reads about itself (SMBIOS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.domain.xml import add, yes_no

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import DomainSpec
    from polyvisor.domain.context import DomainContext

MANUFACTURER = "KubeVirt"
PRODUCT = "Polyvisor"


def add_sysinfo(domain: _Element, spec: DomainSpec, uuid: str) -> None:
    """Write what the guest reads as its maker, product and serial number, and of its chassis."""
    sysinfo = add(domain, "sysinfo", type="smbios")
    system = add(sysinfo, "system")
    add(system, "entry", MANUFACTURER, name="manufacturer")
    add(system, "entry", PRODUCT, name="product")
    if spec.firmware and spec.firmware.serial:
        add(system, "entry", spec.firmware.serial, name="serial")
    add(system, "entry", uuid, name="uuid")
    if spec.chassis:
        chassis = add(sysinfo, "chassis")
        for name in ("manufacturer", "version", "serial", "asset", "sku"):
            if value := getattr(spec.chassis, name):
                add(chassis, "entry", value, name=name)


def add_os(domain: _Element, spec: DomainSpec, os_type: str, context: DomainContext) -> None:
    """Write type, firmware and kernel."""
    system = add(domain, "os")
    firmware = spec.firmware
    loader = firmware.bootloader if firmware else None
    machine = spec.machine.type if spec.machine else None
    if loader and loader.efi:
        system.set("firmware", "efi")
    add(system, "type", os_type, arch=context.architecture, machine=machine or None)
    if loader and loader.efi:
        secure = loader.efi.secure_boot is not False
        features = add(system, "firmware")
        add(features, "feature", enabled=yes_no(secure), name="secure-boot")
    if context.kernel:
        add(system, "kernel", str(context.kernel))
        if context.initrd:
            add(system, "initrd", str(context.initrd))
        arguments = firmware.kernel_boot.kernel_args if firmware and firmware.kernel_boot else None
        if arguments:
            add(system, "cmdline", arguments)
    if loader and loader.bios and loader.bios.use_serial:
        add(system, "bios", useserial="yes")
    add(system, "smbios", mode="sysinfo")
