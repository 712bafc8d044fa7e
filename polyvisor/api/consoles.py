"""What a machine's spec says of its serial console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.reading import nested

if TYPE_CHECKING:
    from polyvisor.api.base import Obj


def is_logged(spec: Obj) -> bool:
    """Whether an instance has a serial console whose output is kept for ``logs``."""
    devices = nested(spec, "domain").get("devices") or {}
    return devices.get("autoattachSerialConsole") is not False and devices.get("logSerialConsole") is not False
