"""Devices that come, go and change while the domain runs. What was asked for twice is done once."""

from __future__ import annotations

import re
from typing import Any

import libvirt

from polyvisor.launcher.machine import Machine, Refused

ALIAS = re.compile(r"ua-[A-Za-z0-9._-]{1,128}")
"""The names of devices that are ours to change: libvirt's own begin otherwise."""
DRIVE = re.compile(r"""^<disk [^>]*device=["']cdrom["']""")
CARD = re.compile(r"^<interface ")
LEAVING = "in the process of unplug"
"""What libvirt says of a device that it was asked to detach before and that the guest has not let go of."""


def attach(machine: Machine, xml: Any) -> None:
    """Attach a device, given as libvirt's XML, to the running domain."""
    if not isinstance(xml, str) or not xml:
        raise Refused("bad-request", "attach wants the device's XML")
    machine.domain().attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def update(machine: Machine, xml: Any) -> None:
    """Change a device of the running domain, given as its XML is to be, as far as libvirt can."""
    if not isinstance(xml, str) or not xml:
        raise Refused("bad-request", "update wants the device's XML")
    machine.domain().updateDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def change(machine: Machine, xml: Any) -> None:
    """Give a drive of the running domain the disc that the XML of the drive names, or none."""
    if not isinstance(xml, str) or not DRIVE.search(xml):
        raise Refused("bad-request", "change wants the XML of a CD-ROM drive of ours")
    machine.domain().updateDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def cpus(machine: Machine, count: Any) -> None:
    """Give the running domain so many CPUs, of those that it may come to have."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise Refused("bad-request", "vcpus wants a number of CPUs")
    machine.domain().setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def detach(machine: Machine, alias: Any, xml: Any) -> None:
    """Ask the guest to let go of a device; it is gone when the domain's description no longer shows it.

    A card of a driver that knows no aliases is named by its XML.
    """
    if alias is None and isinstance(xml, str) and CARD.search(xml):
        machine.domain().detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return
    if not isinstance(alias, str) or not ALIAS.fullmatch(alias):
        raise Refused("bad-request", "detach wants the alias of a device of ours")
    domain = machine.domain()
    if f"<alias name='{alias}'/>" not in domain.XMLDesc():
        return
    try:
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_DEVICE_MISSING and LEAVING not in str(error):
            raise
