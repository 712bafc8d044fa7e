"""Which kinds of guests does this Xen run? Its libvirt says so: whole machines need a CPU with virtualisation.

Nothing is started: a host's first domain that libvirt's driver can talk to is Xen at work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.domain.reading import parsed
from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.xen.table import PV, PVH, WHOLE

if TYPE_CHECKING:
    from lxml.etree import _Element

CONTROL = Path("/proc/xen/capabilities")
FIRST_DOMAIN = "control_d"
KINDS = {"hvm": WHOLE, "xenpvh": PVH, "xen": PV, "linux": PV}


def probe(uri: str) -> ProbeResult:
    """Ask, where this is a Xen host's first domain."""
    try:
        if FIRST_DOMAIN not in CONTROL.read_text():
            return ProbeResult(False, "this is a guest of Xen, not its first domain (dom0), which alone runs guests")
    except OSError:
        return ProbeResult(False, f"this is no Xen host ({CONTROL} is not there); boot it under Xen")
    import libvirt

    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        return ProbeResult(False, f"libvirt cannot open {uri}: {error.get_error_message()}")
    try:
        return _ask(connection)
    except (libvirt.libvirtError, ValueError) as error:
        return ProbeResult(False, f"{uri} does not say what it can do: {error}")
    finally:
        connection.close()


def _ask(connection: Any) -> ProbeResult:
    capabilities = parsed(connection.getCapabilities())
    virt_types = guest_kinds(capabilities)
    facts = {"cpu.features"} if capabilities.find("host/cpu/model") is not None else set()
    if WHOLE in virt_types and _has_firmware(connection):
        facts.add("firmware.efi")
    return ProbeResult(
        available=bool(virt_types),
        reason="" if WHOLE in virt_types else "the CPU has no virtualisation that Xen could use for whole machines",
        version=_dotted(connection.getVersion()),
        libvirt_version=_dotted(connection.getLibVersion()),
        virt_types=virt_types,
        facts=frozenset(facts),
    )


def guest_kinds(capabilities: _Element) -> tuple[str, ...]:
    """Return the virt types among the kinds of guests that libvirt lists for 64-bit CPUs, best first."""
    found = {
        KINDS.get(guest.findtext("os_type") or "")
        for guest in capabilities.iterfind("guest")
        if guest.find("arch[@name='x86_64']") is not None
    }
    return tuple(virt_type for virt_type in (WHOLE, PVH, PV) if virt_type in found)


def _has_firmware(connection: Any) -> bool:
    """Say whether the UEFI firmware that libvirt would take is there."""
    answer = parsed(connection.getDomainCapabilities(None, "x86_64", "xenfv", "xen", 0))
    path = answer.findtext("os/loader/value")
    return bool(path and Path(path).is_file())


def _dotted(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
