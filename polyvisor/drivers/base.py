"""The seam: what Polyvisor asks of a hypervisor driver, who asks, and when.

A driver is one folder below ``polyvisor/drivers/`` (or a package that registers under the entry point group
``polyvisor.drivers``) with one subclass of :class:`Driver`. Read from top to bottom it is the life of a machine:

=========================  =========================  ======================================================
asked                      by                         when
=========================  =========================  ======================================================
``features``, ``limits``,  admission, placement,      a manifest arrives; nothing else says what a driver can do
``rules``                  ``explain``, docs, tests
``probe``                  the node agent             at start and from then on: does it really work on this node
``defaults``               admission                  the driver is chosen: fill in what the user left open
``overhead_bytes``         the VMI controller         the launcher Pod's memory request is worked out
``launcher``               agent, Pod template        how the launcher reaches libvirt, and what it may touch
``adapt``                  the domain converter       the shared domain XML is finished for this hypervisor
``offered``                the endpoint's agent       which kinds of guests a connected host runs
``recognizes``,            adoption                   a domain's XML becomes a VirtualMachine: whose it is, and its
``generalize``                                        dialect undone
=========================  =========================  ======================================================

Everything but ``probe`` is pure: values in, values out. A driver with nothing special to say is a table and a name.
Nothing outside this folder may name a hypervisor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.domain.dialect import CardKind as CardKind
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

MIB = 1024 * 1024
DRIVER_API = 1
"""The version of this contract. It rises when a driver of another package has to be changed to go on working; a new
feature of the catalogue is no such change, for an answer that is missing counts as ``UNKNOWN``."""


class Verdict(StrEnum):
    """What a driver says of one feature. ``UNKNOWN`` is treated as unsupported, and says so."""

    SUPPORTED = "supported"
    CONDITIONAL = "conditional"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Support:
    """One cell of the table: a driver's answer for one feature.

    ``reason`` is in the user's words and is required unless the feature is simply supported. ``source`` says where the
    claim comes from (a libvirt document, or source file and function, and the libvirt version read). The conditions
    apply to ``CONDITIONAL``: minimum versions as dotted numbers, virt types (libvirt's ``<domain type>``), machine
    architectures as libvirt names them, ``node_fact``: the node must show the feature in a label, and ``node_cpu``: the
    node must show, in KubeVirt's labels, the CPU model and the CPU features that are asked for. ``node_machine``: so
    with the machine type.
    """

    verdict: Verdict
    source: str
    reason: str = ""
    min_libvirt: str = ""
    min_hypervisor: str = ""
    virt_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    node_fact: bool = False
    node_cpu: bool = False
    node_machine: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The conditions in words, apart from what the node must show."""
        words = (
            (self.virt_types, f"virtType {' or '.join(self.virt_types)}"),
            (self.architectures, f"architecture {' or '.join(self.architectures)}"),
            (self.min_libvirt, f"libvirt {self.min_libvirt} or newer"),
            (self.min_hypervisor, f"the hypervisor in version {self.min_hypervisor} or newer"),
            (self.node_cpu, "a node whose CPU has it"),
            (self.node_machine, "a node that has it"),
        )
        return tuple(text for given, text in words if given)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many of something a machine can have with a driver, and where that is known from; ``reason`` may say why."""

    most: int
    source: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Why a driver does not take a combination of fields, in the user's words, and where that is known from."""

    reason: str
    source: str


class Place(StrEnum):
    """Where the hypervisor's process runs: in the VM's own launcher, or on a host that a connection reaches."""

    LAUNCHER = "launcher"
    HOST = "host"


class RootKind(StrEnum):
    """What a machine boots from: a disk (image), or a tree of files that becomes its root filesystem."""

    DISK = "disk"
    FILESYSTEM = "filesystem"


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPUs and machine types a node can show to guests.

    ``models`` are those that work here, ``features`` all that a guest can have; ``host_model`` is the model that is
    most like the host, which it becomes with ``host_features``.
    """

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    host_model: str = ""
    host_features: tuple[str, ...] = ()
    vendor: str = ""
    machines: tuple[str, ...] = ()
    deprecated: tuple[str, ...] = ()
    """Those of ``machines`` that the hypervisor is to give up."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a node found out about a driver by trying it.

    ``virt_types`` holds those that really run a guest here, best first. ``facts`` are the conditional features that
    hold on this node. ``cpus`` are those of its best virt type, where libvirt tells. ``reason`` says why the driver is
    not available, or why a virt type was left out. ``again``: a time limit passed, so that the driver is worth another
    try soon.
    """

    available: bool
    reason: str = ""
    version: str = ""
    libvirt_version: str = ""
    virt_types: tuple[str, ...] = ()
    facts: frozenset[str] = frozenset()
    cpus: Cpus | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host that a connection reaches, for drivers whose hypervisor runs on such a host.

    ``uri`` is libvirt's connection URI and never holds a password; ``auth_file`` is a file in libvirt's own format for
    credentials (``auth.conf``), readable by the launcher alone.
    """

    uri: str
    auth_file: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What libvirt's library must find in its environment to connect."""
        return {"LIBVIRT_AUTH_FILE": str(self.auth_file)} if self.auth_file else {}


@dataclass(frozen=True, slots=True)
class LauncherPlan:
    """How a launcher reaches libvirt for one machine; plain data that the launcher reads as JSON.

    ``uri`` is libvirt's connection URI. ``files`` are written below the launcher's folder before the connection opens
    (relative path -> text, in which ``@UID@`` and ``@GID@`` stand for the launcher's own user and group, ``@ROOT@``
    for what makes a line a comment unless that is root, ``@PYTHON@``
    and ``@LAUNCHER@`` for its interpreter and the folder of its modules; one that begins with ``#!`` is a program),
    ``links`` made (relative path -> target), and ``seeds`` copied (relative folder -> folder whose files are copied
    where they lack: a warm cache). If ``daemon`` is set, that program is run in a mount
    namespace of its own, with ``binds`` (folder of the host -> folder relative to the launcher's) mounted over,
    ``unmounts`` taken away and ``environment`` added, before ``uri`` is opened; without it libvirt runs inside the
    launcher. ``start_paused`` asks that a new domain waits until its console is attached, so that no early output is
    lost. ``strays`` are beginnings of paths below the launcher's folder; a process with such a path among its arguments
    is what libvirt tries the hypervisor with, and is ended if a launcher was killed meanwhile. ``shutdown`` lists ways
    to ask a guest to power down, first to last: libvirt's modes (``default``, ``acpi``, ``agent``, ``initctl``) or
    ``signal:N,M`` for a container's init, joined by ``+`` if asked together; what libvirt refuses gives way at once,
    one that does not help in some seconds gives way to the next. ``reboot`` lists
    libvirt's modes of asking for a restart; the first that is taken is the one. ``forward`` says how a port of a guest
    on a user-mode network is reached: commands of the hypervisor's monitor that ``open`` and ``close`` a local port and
    ``list`` connections, in which the patterns ``accepted`` and ``answered`` find ours; ``call`` is the function of
    libvirt's Python (``module.name``) that puts a command with ``flags`` to it. ``agent`` is the one that puts a
    command to an agent inside the guest. ``move`` says how a running domain moves to another launcher: ``call`` and
    ``events`` are the functions of libvirt's Python that put a command to the hypervisor's monitor and report its
    ``event``; the others are commands, in which ``@socket@`` and the like stand for values
    (:mod:`polyvisor.launcher.moving`). ``keeps`` says where below the
    launcher's folder libvirt's driver has what a machine may want kept (``tpm``, ``firmware``; ``{uuid}`` is the
    domain's). ``poll_seconds`` is how often to look at the domain where libvirt's driver reports no events; 0 where it
    does. ``own_uuids`` says that the hypervisor gives its machines uuids of its own, so that a domain is known by its
    name alone. ``metrics`` are the ways in which the guest is told of its host (``channel``, ``disk``), and ``node`` is
    that host's name to it. ``share`` is the command in the launcher's image that shares the folder ``{folder}`` with a
    guest by the socket ``{socket}``, for a container of its own. ``forbidden`` are system calls that fail in the
    launcher and in all that it starts, the guest included (:mod:`polyvisor.launcher.syscalls` has their numbers).
    ``devices``, ``capabilities`` and ``privileged`` are what the launcher's container needs from Kubernetes, no more.
    """

    uri: str
    files: Mapping[str, str] = field(default_factory=dict)
    daemon: Sequence[str] = ()
    binds: Mapping[str, str] = field(default_factory=dict)
    unmounts: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, str] = field(default_factory=dict)
    start_paused: bool = False
    strays: Sequence[str] = ()
    shutdown: Sequence[str] = ("default",)
    reboot: Sequence[str] = ("default",)
    forward: Mapping[str, str] = field(default_factory=dict)
    agent: str = ""
    move: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, str] = field(default_factory=dict)
    poll_seconds: float = 0.0
    own_uuids: bool = False
    console_log: bool = True
    metrics: Sequence[str] = ()
    node: str = ""
    share: Sequence[str] = ()
    forbidden: Sequence[str] = ()
    devices: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    privileged: bool = False


class Driver(ABC):
    """A libvirt hypervisor driver as Polyvisor sees it. Class attributes are its description."""

    name: str
    """libvirt's name of the driver, as in ``spec.hypervisor.driver`` and the node label."""
    title: str
    """For people: ``Cloud Hypervisor``."""
    api: int = 0
    """The ``DRIVER_API`` that a driver of another package is written for; Polyvisor's own need not say."""
    links: tuple[str, ...] = ()
    virt_types: tuple[str, ...]
    """Values of ``<domain type=...>`` that the driver takes, best first."""
    emulated_virt_types: frozenset[str] = frozenset()
    """Those of them that emulate a CPU in software; used only where the configuration allows emulation."""
    os_types: tuple[str, ...] = ("hvm",)
    aliases: Mapping[str, str] = {}
    """Other names under which a cluster's configuration may list the driver -> the virt type that each implies."""
    uris: tuple[str, ...] = ()
    """libvirt's connection URIs for it, local first, then those that reach another host; for people."""
    schemes: tuple[UriScheme, ...] = ()
    """The schemes of connection URIs that lead to it; an endpoint's URI must have one of them."""
    place: Place = Place.LAUNCHER
    root: RootKind = RootKind.DISK
    disk_formats: tuple[str, ...] = ("raw",)
    """Formats of disk images that the hypervisor opens, best first."""
    cards: CardKind = CardKind.NONE
    own_user: bool = False
    """Whether a machine's launcher and hypervisor work without root's rights, as a user that no other machine has."""
    own_ids: bool = False
    """Whether a guest's users are users of the node, so that each machine has a range of ids to itself."""
    hides: tuple[str, ...] = ()
    """Files, and folders with a slash at the end, of the node's kernel that a guest must not see."""
    accelerators: tuple[str, ...] = ()
    """Device nodes among the launcher's that a machine does not need whose CPU is emulated in software."""
    hotplug_buses: tuple[str, ...] = ()
    """Buses of disks that can be attached while a machine runs (``lifecycle.hotplug.disk``), the usual one first."""
    graceful_shutdown: bool = True
    keeps_metadata: bool = True
    """Whether libvirt keeps a domain's ``<metadata>``; else an endpoint has the owner's mark in its description."""
    keeps_description: bool = True
    """Whether libvirt keeps a domain's ``<description>``; one that keeps neither takes no machines on endpoints."""
    redefines: bool = True
    """Whether libvirt takes a definition of a domain that is there; where not, that one is undefined before."""
    enabled_by_default: bool = False
    """Whether a cluster has the driver whose administrator lists none."""
    own_domain: str = ""
    """UUID of the domain that is the host itself, for a hypervisor that lists one; its CPUs are not taken from guests,
    its memory is."""
    watched: tuple[str, ...] = ()
    """Device nodes, files and folders whose coming, going or change is a reason to probe again at once."""
    host_screen: bool = False
    """Whether the libvirt of an endpoint's host gives a guest's screen on a socket of its own choice."""
    no_image: str = ""
    """Why there is no launcher image of its own (a ``Containerfile`` in the driver's folder); empty if there is one."""

    @property
    @abstractmethod
    def features(self) -> Mapping[str, Support]:
        """The table: feature id -> answer. An id that is missing counts as ``UNKNOWN``."""

    @property
    def limits(self) -> Mapping[str, Limit]:
        """How many of what a machine can have (:mod:`polyvisor.drivers.limits`); none where no number is known."""
        return {}

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Which combinations of fields it does not take (:mod:`polyvisor.drivers.rules`)."""
        return {}

    @abstractmethod
    def probe(self, scratch: Path) -> ProbeResult:
        """Find out whether the driver works on this node, by using it. Blocking; may take seconds; never raises.

        ``scratch`` is an empty folder with a short path that lasts as long as the host's boot; results that are
        dear to get may be kept there, keyed by host boot, kernel and hypervisor version.
        """

    @abstractmethod
    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """Say how a launcher whose own folder is ``folder`` reaches libvirt.

        ``scratch`` is the folder that ``probe`` was given on this node, where it may have left something warm.
        ``endpoint`` is the host to connect to, for a driver with :attr:`place` ``HOST``; without it this machine.
        """

    @abstractmethod
    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Fill in the driver's best choice, in place, for what the user left open (buses, models)."""

    @abstractmethod
    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Change the shared domain XML, in place, where this hypervisor differs."""

    def offered(self, capabilities: _Element) -> tuple[str, ...]:
        """Return which virt types a host offers, best first; ``capabilities`` is what libvirt says of the host.

        A host that says nothing of guests is taken to offer the best.
        """
        guests = capabilities.findall("guest")
        ours = [guest for guest in guests if (guest.findtext("os_type") or "").strip() in self.os_types]
        found = {domain.get("type") for guest in ours for domain in guest.iterfind("arch/domain")}
        return tuple(kind for kind in self.virt_types if kind in found) if guests else self.virt_types[:1]

    def receive(self, domain: _Element) -> None:
        """Change the XML of a domain that moves, in place, so that it waits for its state when it is started.

        Called for drivers alone that support ``lifecycle.live-migration``.
        """
        raise NotImplementedError(f"{self.title} domains do not move")

    def recognizes(self, domain: _Element) -> str:
        """Return the virt type of a domain that libvirt shows if it is one of this driver's, else an empty text."""
        kind, guest = domain.get("type", ""), (domain.findtext("os/type") or "").strip()
        return kind if kind in self.virt_types and guest in self.os_types else ""

    def generalize(self, domain: _Element) -> None:  # noqa: B027, most drivers' dialect is the shared form
        """Undo :meth:`adapt`, in place: names of models, buses and paths of this hypervisor become the shared ones."""

    def domain_name(self, name: str, uuid: str) -> str:
        """Return the domain's name in libvirt, for a hypervisor that has rules for names."""
        return name

    def volume_name(self, name: str) -> str:
        """Return how a volume that Polyvisor makes in a pool of an endpoint is called there; ``name`` has no folder."""
        return name

    def upload_url(self, uri: str, pool: str, volume: str) -> str:
        """Return where the raw content of a volume is written by HTTPS, for hosts to which libvirt uploads nothing.

        ``uri`` is the endpoint's. Empty: libvirt uploads, in the volume's own format.
        """
        return ""

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Return the memory that a machine needs beside the guest's own: launcher and hypervisor process."""
        return 40 * MIB
