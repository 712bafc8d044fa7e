"""What libvirt's domain XML has no word for, or has one only in newer versions: properties of QEMU's own devices.

libvirt takes ``<qemu:override>`` since 8.2.0. It applies to devices that a domain starts with, not to those that are
attached later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


def add_discard_granularity(domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
    """Write in which steps, in bytes, each disk lets go of unused blocks, where the spec says so; 0 is none at all."""
    from lxml import etree

    override = etree.Element(f"{{{NAMESPACE}}}override", nsmap={"qemu": NAMESPACE})
    there = {alias.get("name") for alias in domain.iterfind("devices/disk/alias")}
    for disk in spec.domain.devices.disks or []:
        custom = disk.block_size.custom if disk.block_size else None
        if custom is None or custom.discard_granularity is None or f"ua-{disk.name}" not in there:
            continue
        device = etree.SubElement(override, f"{{{NAMESPACE}}}device", alias=f"ua-{disk.name}")
        frontend = etree.SubElement(device, f"{{{NAMESPACE}}}frontend")
        value = {"name": "discard_granularity", "type": "unsigned", "value": str(custom.discard_granularity)}
        etree.SubElement(frontend, f"{{{NAMESPACE}}}property", value)
    if len(override):
        domain.append(override)


def move_discard_granularity(domain: _Element) -> None:
    """Undo it: write the steps into each disk's ``<blockio>``, in place."""
    found = {}
    for device in domain.iterfind(f"{{{NAMESPACE}}}override/{{{NAMESPACE}}}device"):
        for one in device.iter(f"{{{NAMESPACE}}}property"):
            if one.get("name") == "discard_granularity":
                found[device.get("alias")] = str(one.get("value"))
    for disk in domain.iterfind("devices/disk"):
        alias, size = disk.find("alias"), disk.find("blockio")
        value = found.get(alias.get("name") if alias is not None else None)
        if value is not None:
            size = disk.makeelement("blockio") if size is None else size
            size.set("discard_granularity", value)
            disk.append(size)
