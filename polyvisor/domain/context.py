"""What the agent made ready on its node for one machine, as far as the domain XML has to name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskSource:
    """An image file and its format (``raw``, ``qcow2``)."""

    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class DomainContext:
    """Prepared things by volume name, and the choices that placement and the node made.

    ``disks`` are image files, ``folders`` trees that are mounted into a machine that has a root filesystem; ``root`` is
    that filesystem, made of the volume ``root_volume``. ``graphics_socket`` is where a graphical console listens.
    """

    virt_type: str
    architecture: str = "x86_64"
    disks: Mapping[str, DiskSource] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    root: Path | None = None
    root_volume: str = ""
    kernel: Path | None = None
    initrd: Path | None = None
    graphics_socket: Path | None = None
    agent_socket: Path | None = None
