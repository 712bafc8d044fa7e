"""What an agent is given to build its platform from, and what it asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, Link
from polyvisor.agent.network.pods import Networks
from polyvisor.agent.node.cpus import CpuSource
from polyvisor.agent.node.prober import Prober
from polyvisor.agent.node.registration import NodeKeeper
from polyvisor.agent.seam import MachinePlatform
from polyvisor.agent.settings import Settings
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.agent.storage.sources import Places
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Controller, EventRecorder, Informer, KubeClient, WorkQueue

K = TypeVar("K", bound=Hashable)
SLOW_SECONDS = 5.0
"""How long a machine may keep a worker from the others: its launcher may take a minute for each answer."""


@dataclass(frozen=True)
class Parts:
    """The agent's parts that both platforms are built from."""

    client: KubeClient
    events: EventRecorder
    registry: DriverRegistry
    settings: Settings
    images: ImageStore
    places: Places
    pods: Informer
    vmis: Informer
    claims: Informer
    claim_keeper: ClaimKeeper
    launcher_changed: Callable[[str], None]
    """Called with a launcher's id when it came, went or told something."""
    look: Callable[[str], None]
    """Looks at the machine with this uid soon."""
    moved: Callable[[Obj, Obj, Link], Awaitable[bool]]
    """Sees to a launcher that a machine has left, or is to come into; returns whether it is such a one."""
    address: Callable[[], str]
    """Gives the node's address."""

    @property
    def state(self) -> Path:
        """The agent's state folder."""
        return self.settings.state


class PodKeeper(Protocol):
    """Keeps launcher Pods and launchers in line, one id at a time."""

    queue: WorkQueue[str]

    def adopt(self) -> None:
        """Look at all that a former agent left; call once the informers are synced."""

    async def reconcile(self, id_: str) -> float | None:
        """Bring one launcher and its Pod in line; return the seconds until it is to be looked at again, if any."""


class Platform(Protocol):
    """Where an agent runs."""

    @property
    def node_keeper(self) -> type[NodeKeeper]:
        """What keeps the Node's object."""

    @property
    def networks(self) -> Networks:
        """How Pods are joined to networks."""

    @property
    def launchers(self) -> Launchers:
        """The launchers of this node."""

    @property
    def cpus(self) -> CpuSource:
        """Where dedicated CPUs come from."""

    @property
    def machines(self) -> MachinePlatform:
        """Where the bytes of machines come from."""

    @property
    def pods(self) -> PodKeeper:
        """What keeps launcher Pods and launchers in line."""

    def set_up_probing(self, prober: Prober) -> None:
        """Tell the prober where the drivers of this node are tried."""

    def followed(self) -> Sequence[Informer]:
        """Return the informers that have to be synced before the agent works."""

    async def open(self) -> None:
        """Get ready to start launchers."""

    def work(self, group: asyncio.TaskGroup) -> None:
        """Start what only this platform does; it ends with the group."""


def controller(
    name: str, queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], workers: int
) -> Controller[K]:
    """Make a controller of the agent's: launchers end when they like, and what they refuse is no defect."""
    slow = SLOW_SECONDS if workers > 1 else None  # one alone is one at a time
    return Controller(name, queue, reconcile, workers, expected=(LauncherError,), slow=slow)
