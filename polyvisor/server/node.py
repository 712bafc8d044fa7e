"""The seam to the node that a machine runs on: what the subresource API asks of it.

In standalone mode the node is in the same process; in a cluster it is reached over the network. Errors come as
:class:`NodeError` with the HTTP code that the client shall see.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

Obj = dict[str, Any]


class NodeError(Exception):
    """The node cannot do what was asked."""

    def __init__(self, message: str, code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ByteStream(Protocol):
    """An open console: bytes both ways."""

    async def read(self) -> bytes:
        """Return what comes next, empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other end is slow."""

    async def close(self) -> None:
        """Close both ways."""


class NodeSide(Protocol):
    """What a node can be asked about the machines on it."""

    async def open_console(self, vmi: Obj) -> ByteStream:
        """Join a machine's serial console; whoever had it before is cut off."""

    async def pause(self, vmi: Obj) -> None:
        """Stop a machine's processors."""

    async def unpause(self, vmi: Obj) -> None:
        """Let them go on."""

    def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Return what a container of a launcher Pod has written."""
