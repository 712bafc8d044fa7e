"""What the agent made ready on its node for one machine, as far as the domain XML has to name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from polyvisor.domain.ids import TRIAL


@dataclass(frozen=True, slots=True)
class HostPath:
    """A place on the host of an endpoint, in that host's words: never a file of this machine, so nothing opens it."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class DiskSource:
    """An image file and its format (``raw``, ``qcow2``), or a block device.

    ``logical`` and ``physical`` are sizes of blocks in bytes that the guest is to see where the disk names none; 0: the
    hypervisor's own. ``readonly``: whatever the disk says.
    """

    path: Path | HostPath
    format: str
    block: bool = False
    logical: int = 0
    physical: int = 0
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A folder that is to be shared with the guest, or the socket of a program that shares it already."""

    path: Path
    socket: bool = False


@dataclass(frozen=True, slots=True)
class CardSource:
    """What a network card is joined to: a tap device that is there, on a bridge; and what the guest is to have."""

    tap: str
    bridge: str
    mac: str
    mtu: int
    queues: int = 1
    address: IPv4Interface | None = None
    gateway: IPv4Address | None = None
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What a network card of a machine on an endpoint is joined to: a network of libvirt's there, or a bridge."""

    name: str
    mac: str
    bridge: bool = False


@dataclass(frozen=True, slots=True)
class DomainContext:
    """Prepared things by volume name, and the choices that placement and the node made.

    ``disks`` are image files, ``folders`` trees that are mounted into a machine that has a root filesystem; ``root`` is
    that filesystem, made of the volume ``root_volume``. ``shares`` are folders that a guest with disks mounts by the
    volume's name. ``cards`` are those that the node, or an endpoint's host,
    joins to something, by name. ``graphics_socket`` is where a
    graphical console listens, ``metrics_socket`` where the launcher answers a guest that asks for the host's metrics,
    ``usb_sockets`` where clients bring USB devices. ``screen_at_host``, ``agent_at_host``: the libvirt of an endpoint's
    host chooses where the screen and the agent of the guest are reached.
    ``cpus`` are those of the node that a machine has to itself, one for each of the guest's, and one more for the rest
    of the hypervisor if that was asked for. ``first_id`` begins the range of the node's ids that is the guest's, with
    drivers whose guests need one; ``shifted``: the files of ``root`` have these ids on disk. ``hidden`` are files and
    folders (with a slash at the end) of the node's kernel that are there and that the guest must not see.
    """

    virt_type: str
    architecture: str = "x86_64"
    disks: Mapping[str, DiskSource] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    root: Path | None = None
    root_volume: str = ""
    kernel: Path | HostPath | None = None
    initrd: Path | HostPath | None = None
    graphics_socket: Path | None = None
    agent_socket: Path | None = None
    metrics_socket: Path | None = None
    screen_at_host: bool = False
    agent_at_host: bool = False
    usb_sockets: tuple[Path, ...] = ()
    cards: Mapping[str, CardSource | HostNetwork] = field(default_factory=dict)
    cpus: tuple[int, ...] = ()
    first_id: int = TRIAL
    shifted: bool = False
    hidden: tuple[str, ...] = ()
