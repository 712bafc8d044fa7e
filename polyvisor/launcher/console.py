"""The guest's console: every byte to the log, if one is kept, and both ways to at most one client.

The terminal is read whatever the client does: a client that cannot follow is dropped, so it never holds up the guest.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

LOG_BYTES = 1024 * 1024
BUFFER_BYTES = 256 * 1024
CHUNK = 16 * 1024


class Console:
    """Owned by the main loop's thread alone."""

    def __init__(
        self, folder: Path, selector: selectors.BaseSelector, say: Callable[[str], None], *, log: bool = True
    ) -> None:
        self._log = folder / "console.log"
        self._selector = selector
        self._say = say
        self._path = ""
        self._terminal = -1
        self._client: socket.socket | None = None
        self._to_guest = bytearray()
        self._to_client = bytearray()
        self._file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if log else -1
        self._size = os.fstat(self._file).st_size if log else 0

    def follow(self, path: str) -> None:
        """Attach to the terminal at ``path``; nothing happens if that is the one attached."""
        if self._terminal >= 0 and path == self._path:
            return
        self._detach()
        if not path:
            return
        self._terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._path = path
        self._selector.register(self._terminal, selectors.EVENT_READ, self._on_terminal)

    def take(self, client: socket.socket, first: bytes, unsent: bytes) -> None:
        """Make ``client`` the console's other end; a former one is closed. ``unsent`` goes out before the console."""
        self.drop()
        client.setblocking(False)
        self._client = client
        self._to_guest += first
        self._to_client += unsent
        self._selector.register(client, selectors.EVENT_READ, self._on_client)
        self._flush_guest()

    def drop(self) -> None:
        """Close the client, if there is one."""
        if self._client:
            self._selector.unregister(self._client)
            self._client.close()
        self._client = None
        self._to_client.clear()
        self._to_guest.clear()

    def finish(self) -> None:
        """Read what the ended guest left in the terminal, then let go of both ends."""
        while self._terminal >= 0 and self._read():
            pass
        self._detach()
        self.drop()

    def _on_terminal(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush_guest()
        if mask & selectors.EVENT_READ:
            self._read()

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._detach()
            return False
        self._append(data)
        if self._client:
            self._to_client += data
            if len(self._to_client) > BUFFER_BYTES:
                self._say("console client too slow, dropped")
                self.drop()
            else:
                self._flush_client()
        return True

    def _append(self, data: bytes) -> None:
        if self._file < 0:
            return
        try:
            if self._size + len(data) > LOG_BYTES:
                os.close(self._file)
                self._log.replace(self._log.with_name("console.log.1"))
                self._file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._size = 0
            self._size += os.write(self._file, data)
        except OSError as error:  # a full disk costs log lines, not the guest
            self._say(f"console log: {error}")

    def _on_client(self, mask: int) -> None:
        assert self._client is not None
        if mask & selectors.EVENT_WRITE:
            self._flush_client()
        if self._client and mask & selectors.EVENT_READ:
            try:
                data = self._client.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.drop()
                return
            self._to_guest += data
            self._flush_guest()

    def _flush_client(self) -> None:
        assert self._client is not None
        try:
            del self._to_client[: self._client.send(self._to_client)]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            return
        self._watch()

    def _flush_guest(self) -> None:
        try:
            if self._terminal >= 0:
                del self._to_guest[: os.write(self._terminal, self._to_guest)]
        except BlockingIOError:
            pass
        except OSError:
            self._to_guest.clear()
        self._watch()

    def _watch(self) -> None:
        """Ask the selector for what can be served: no reading from a client while the guest takes nothing."""
        if self._terminal >= 0:
            want = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_guest else 0)
            self._selector.modify(self._terminal, want, self._on_terminal)
        if self._client:
            full = len(self._to_guest) > CHUNK
            want = (0 if full else selectors.EVENT_READ) | (selectors.EVENT_WRITE if self._to_client else 0)
            self._selector.modify(self._client, want or selectors.EVENT_WRITE, self._on_client)

    def _detach(self) -> None:
        if self._terminal >= 0:
            self._selector.unregister(self._terminal)
            os.close(self._terminal)
        self._terminal = -1
        self._path = ""
