"""Asking a connection who it is: the probe of drivers for which opening one shows that the hypervisor is at work."""

from __future__ import annotations

from polyvisor.drivers.base import ProbeResult


def versions(uri: str, virt_types: tuple[str, ...]) -> ProbeResult:
    """Open ``uri`` and return the versions behind it. Blocking; never raises."""
    import libvirt

    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        return ProbeResult(False, f"libvirt cannot open {uri}: {error.get_error_message()}")
    try:
        return ProbeResult(
            available=True,
            version=_dotted(connection.getVersion()),
            libvirt_version=_dotted(connection.getLibVersion()),
            virt_types=virt_types,
        )
    except libvirt.libvirtError as error:
        return ProbeResult(False, f"{uri} does not tell its version: {error.get_error_message()}")
    finally:
        connection.close()


def _dotted(number: int) -> str:
    """Write out libvirt's number for a version, which is major * 1000000 + minor * 1000 + release."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
