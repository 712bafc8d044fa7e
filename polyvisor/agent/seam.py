"""The seam between a machine's agent and where it runs.

The agent's steps are the same everywhere: make ready, define, start, watch, report. Where launchers, images, claims and
texts come from is the platform's (:mod:`polyvisor.agent.platform`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from polyvisor.api import Obj
from polyvisor.api.names import Phase

if TYPE_CHECKING:
    from polyvisor.agent.link.connection import Link
    from polyvisor.agent.live.hotplug import Shelves
    from polyvisor.agent.storage.prepared import Prepared
    from polyvisor.drivers.base import Driver

Report = Callable[[str], None]
"""Takes a line on the progress of long work; may be called from any thread."""


class MachinePlatform(Protocol):
    """What the agent of machines asks of where it runs."""

    phases: tuple[Phase, ...]
    """The phases in which a machine is the agent's."""
    hostdisks: Path
    """Where the host disks of all namespaces are."""
    shelves: Shelves
    """Who brings the disks that come while a machine runs."""

    def ready(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """Whether the next step of a machine may be taken, now that its launcher is reached."""

    def launchers_of(self, pod: Obj) -> Iterable[Obj]:
        """Return the launcher Pods whose machines a Pod is of importance to."""

    def at_start(self, vmi: Obj, pod: Obj) -> Obj:
        """Return a machine as it is started: with those of its volumes that are at hand by then."""

    async def prepare(self, vmi: Obj, pod: Obj, driver: Driver, report: Report) -> Prepared:
        """Make all that a machine boots from.

        Raises :class:`polyvisor.agent.errors.AgentError` with a message for the machine's user.
        """

    async def prepared(self, pod: Obj) -> Prepared | None:
        """Return what was made ready for a machine, if it was."""

    async def access_secrets(self, vmi: Obj, pod: Obj | None) -> dict[str, dict[str, bytes]]:
        """Return those of the Secrets with a machine's access credentials that exist, as they are now."""

    def without_effect(self, vmi: Obj) -> list[str]:
        """Return the fields of a spec that nothing heeds here."""
