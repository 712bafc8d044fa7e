"""Domains that libvirt is still taking over from a former launcher.

libvirt's embedded drivers open at once and reach running domains on a thread of their own. What isn't obvious: one that
cannot be reached, or that is destroyed meanwhile, is ended by that thread without an event (libvirt's functions named
``...ProcessReconnect``), after it was seen running. So the domain has to be looked at once more when that is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt


def when_taken_over(domain: Any, changed: Callable[[], None]) -> None:
    """Call ``changed`` on another thread once libvirt has taken the domain over, or has given it up."""

    def wait() -> None:
        while _busy(domain):
            pass
        changed()

    threading.Thread(target=wait, daemon=True, name="takeover").start()


def _busy(domain: Any) -> bool:
    """Ask what has to wait for everything that libvirt is doing with the domain; it gives up after 30 s."""
    try:
        domain.memoryStats()
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT)
    return False
