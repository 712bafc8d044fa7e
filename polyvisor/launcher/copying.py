"""Disks that lie on the node of a domain that moves: the target offers its own, and the source writes into them.

Each disk goes through a unix socket of its own, as the domain's state does. The monitor opens the connection at the
source inside a command that ends only when the other side has answered; so that command runs on a thread, while the
connection is handed to the agent. What isn't obvious: only what the guest has written is copied, not the image below,
so both nodes must have the same image there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from polyvisor.launcher.machine import Refused

ACCEPT_SECONDS = 10.0
END_SECONDS = 60.0
PAUSE_SECONDS = 0.02
"""Between two looks at jobs that are ending; the monitor's events do not name them all."""
SERVED = "disks.sock"
MAX_DISKS = 256
Tell = Callable[..., Any]
"""Puts a word of the plan to the monitor, with values for it; returns what it answers."""


class Copies:
    """The disks of one domain's move; ``place`` gives the path of a socket in the launcher's folder."""

    def __init__(self, tell: Tell, place: Callable[[str], str], say: Callable[[str], None]) -> None:
        self._tell = tell
        self._place = place
        self._say = say
        self._served = False
        self._failed: dict[str, str] = {}
        self._begun: dict[str, str] = {}
        """Alias of a disk -> the number by which the monitor knows its copy: names there are short."""

    @property
    def begun(self) -> bool:
        """Whether disks of this domain are being copied away."""
        return bool(self._begun)

    def serve(self, names: object) -> None:
        """Offer disks, by their aliases, to be written to from outside; once."""
        wanted = _names(names)
        if self._served or not wanted:
            return
        nodes = self._nodes()
        self._tell("serve", socket=self._place(SERVED))
        self._served = True
        for name in wanted:
            self._tell("export", name=name, node=_node(nodes, name))

    def incoming(self) -> dict[str, Any]:
        """Return a connection to the disks that are offered."""
        if not self._served:
            raise Refused("not-waiting", "the domain offers no disks")
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.connect(self._place(SERVED))
        except OSError as error:
            peer.close()
            raise Refused("not-waiting", f"the domain takes no disks: {error}") from None
        return {"descriptor": peer.detach()}

    def withdraw(self) -> None:
        """Offer the disks no longer: the guest is about to write to them."""
        if self._served:
            self._tell("withdraw")
            self._served = False

    def copy(self, name: object) -> dict[str, Any]:
        """Begin to copy a disk; return the connection by which it goes."""
        (alias,) = _names([name])
        node = _node(self._nodes(), alias)
        number = str(len(self._begun))
        place = self._place(f"copy-{number}.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            with suppress(FileNotFoundError):
                os.unlink(place)  # noqa: PTH108
            listener.bind(place)
            listener.listen(1)
            listener.settimeout(ACCEPT_SECONDS)
            self._begun[alias] = number
            self._failed.pop(alias, None)
            threading.Thread(target=self._mirror, args=(alias, node, place), daemon=True, name=alias).start()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                why = self._failed.get(alias) or str(error)
                raise Refused("moving", f"disk {alias}: no connection was opened: {why}") from None
            finally:
                os.unlink(place)  # noqa: PTH108
        connection.setblocking(True)
        return {"descriptor": connection.detach()}

    def states(self) -> dict[str, str]:
        """Return how far each disk is: ``copying``, ``ready``, or why it failed."""
        if not self._begun:
            return {}
        jobs = self._jobs()
        found = {}
        for alias, number in self._begun.items():
            job = jobs.get(f"copy-{number}")
            if alias in self._failed:
                found[alias] = f"failed: {self._failed[alias]}"
            else:
                found[alias] = "ready" if job is not None and job.get("ready") is True else "copying"
        return found

    def complete(self) -> None:
        """End the copying of disks whose guest stands still: they are alike then. Raises if one is not."""
        behind = {alias: state for alias, state in self.states().items() if state != "ready"}
        if behind:
            raise Refused("moving", f"disks are not copied yet: {behind}")
        self._end(force=False)

    def abandon(self) -> None:
        """End the copying wherever it is."""
        self._end(force=True)

    def _mirror(self, alias: str, node: str, place: str) -> None:
        try:
            number = self._begun[alias]
            self._tell("attach-copy", number=number, name=alias, socket=place)
            self._tell("copy", number=number, node=node)
        except Exception as error:
            self._failed[alias] = str(error)
            self._say(f"disk {alias} is not copied: {error}")

    def _end(self, *, force: bool) -> None:
        for number in self._begun.values():
            with suppress(Refused):  # one that has ended by itself
                self._tell("end-copy", number=number, force="true" if force else "false")
        deadline = time.monotonic() + END_SECONDS
        while left := self._jobs().keys() & {f"copy-{number}" for number in self._begun.values()}:
            if time.monotonic() > deadline:
                raise Refused("moving", f"the copying of disks does not end: {', '.join(sorted(left))}")
            time.sleep(PAUSE_SECONDS)
        for number in self._begun.values():
            with suppress(Refused):
                self._tell("detach-copy", number=number)
        self._begun.clear()

    def _jobs(self) -> dict[str, Mapping[str, Any]]:
        found = self._tell("jobs")
        return (
            {str(job.get("device")): job for job in found if isinstance(job, dict)} if isinstance(found, list) else {}
        )

    def _nodes(self) -> list[Any]:
        found = self._tell("disks")
        return found if isinstance(found, list) else []


def _node(blocks: list[Any], alias: str) -> str:
    """Return the monitor's name of what is behind a disk."""
    for block in blocks:
        inserted = block.get("inserted") or {}
        if alias in str(block.get("qdev")).split("/") and inserted.get("node-name"):
            return str(inserted["node-name"])
    raise Refused("no-disk", f"the domain has no disk {alias}")


def _names(given: object) -> list[str]:
    names = given if isinstance(given, list) else []
    if len(names) > MAX_DISKS or not all(isinstance(name, str) and name and '"' not in name for name in names):
        raise Refused("bad-request", "aliases of disks are wanted")
    return names
