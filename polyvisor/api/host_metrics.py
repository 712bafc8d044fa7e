"""In which ways a machine's guest is told of its host: vhostmd's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.reading import nested

if TYPE_CHECKING:
    from polyvisor.api.base import Obj

CHANNEL, DISK = "channel", "disk"


def metrics_disks(spec: Obj) -> list[str]:
    """Return the names of the volumes of metrics that an instance has."""
    return [volume["name"] for volume in spec.get("volumes") or [] if volume.get("downwardMetrics") is not None]


def metrics_ways(spec: Obj) -> tuple[str, ...]:
    """Return the ways that an instance's spec asks for."""
    channel = nested(spec, "domain", "devices").get("downwardMetrics") is not None
    return (*((CHANNEL,) if channel else ()), *((DISK,) if metrics_disks(spec) else ()))
