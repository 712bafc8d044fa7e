"""Is a FreeBSD host's libvirt there, and does it have UEFI firmware for machines to boot from?"""

from __future__ import annotations

from dataclasses import replace

from polyvisor.domain.reading import parsed
from polyvisor.drivers.ask import versions
from polyvisor.drivers.base import ProbeResult

VIRT_TYPES = ("bhyve",)
NEED_FIRMWARE = frozenset({"boot.without-kernel", "firmware.efi"})


def probe(uri: str) -> ProbeResult:
    """Ask for versions and for firmware."""
    answer = versions(uri, VIRT_TYPES)
    if not answer.available:
        return answer
    if _has_firmware(uri):
        return replace(answer, facts=NEED_FIRMWARE)
    return ProbeResult(False, "there is no UEFI firmware to boot machines from (package edk2-bhyve)")


def _has_firmware(uri: str) -> bool:
    import libvirt

    try:
        connection = libvirt.open(uri)
        try:
            answer = parsed(connection.getDomainCapabilities(None, "x86_64", None, "bhyve", 0))
        finally:
            connection.close()
    except (libvirt.libvirtError, ValueError):
        return False
    return bool(answer.findtext("os/loader/value"))
