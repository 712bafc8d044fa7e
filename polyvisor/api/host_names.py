"""The name by which a guest knows itself."""

from __future__ import annotations

from polyvisor.api.base import Obj

MAX_LABEL = 63


def host_name(vmi: Obj) -> str:
    """Return the host name that is asked for, else the first part of the machine's name, cut to 63 characters."""
    given = vmi["spec"].get("hostname")
    return str(given or vmi["metadata"]["name"].partition(".")[0])[:MAX_LABEL].rstrip("-")
