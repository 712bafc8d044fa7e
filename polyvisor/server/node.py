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
    """An open stream: bytes both ways, read in messages where the other side has such."""

    async def read(self) -> bytes:
        """Return what comes next, empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other end is slow."""

    async def close(self) -> None:
        """Close both ways."""


class NodeSide(Protocol):
    """What a node can be asked about the machines on it."""

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something.

        ``pause``, ``unpause``, ``softreboot``, ``reset``, ``freeze`` (``timeout``: seconds after which it ends by
        itself) and ``unfreeze`` answer with nothing; ``guestosinfo``, ``userlist`` and ``filesystemlist`` with what
        the agent inside the guest says, in KubeVirt's words.
        """

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine.

        ``console``: the serial console; whoever had it before is cut off. ``vnc``: the screen, likewise, or refused
        with ``preserve``. ``screenshot``: a PNG. ``usbredir``: a free slot for a USB device, with usbredir's protocol.
        ``port``: a port of the guest, by ``port`` and ``protocol`` (``tcp``, or ``udp`` with a datagram a message).
        """

    def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Return what a container of a launcher Pod has written."""
