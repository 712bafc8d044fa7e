"""Consoles of domains by libvirt's streams: every byte to a log, and both ways to at most one client.

libvirt's thread reads; a client is written to by a thread of its own, through a queue of bounded length, and one that
cannot follow is dropped, so that it holds up neither guests nor libvirt. A console belongs to its domain's run: it ends
when the domain does, and the next run's is another.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import libvirt

from polyvisor.launcher.endpoint.owned import Refused

LOG_BYTES = 1024 * 1024
CHUNK = 64 * 1024
MAX_WAITING = 64
"""Pieces that a client may be behind."""
SEND_SECONDS = 30.0
_UID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Consoles:
    """All consoles that are read, by the domain's UUID; their logs are below ``logs``, by the machine's uid.

    A UUID can be any machine's that says so, and the next one's after it is gone; a uid never is.
    """

    def __init__(self, logs: Path, new_stream: Callable[[], Any]) -> None:
        self._logs = logs
        self._new_stream = new_stream
        self._mutex = threading.Lock()
        self._open: dict[str, Console] = {}

    def follow(self, domain: Any, machine: str) -> Console:
        """Return the console of a machine's domain that runs, opened if it is not open.

        Raises ``libvirtError``, and :class:`Refused` for a machine whose uid cannot be one.
        """
        if not _UID.fullmatch(machine):
            raise Refused("bad-request", "machine: the uid of a machine is expected")
        uuid = domain.UUIDString()
        with self._mutex:
            found = self._open.get(uuid)
            if found is not None and not found.over and found.machine == machine:
                return found
            if found is not None:
                found.close()
            stream = self._new_stream()
            domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
            self._logs.mkdir(mode=0o700, exist_ok=True)
            console = self._open[uuid] = Console(stream, self._logs / f"{machine}.log", machine)
        console.start()
        return console

    def forget(self, uuid: str) -> None:
        """Let go of a domain's console; its log stays."""
        with self._mutex:
            console = self._open.pop(uuid, None)
        if console is not None:
            console.close()

    def close(self) -> None:
        """Let go of all: the connection is gone."""
        with self._mutex:
            consoles, self._open = list(self._open.values()), {}
        for console in consoles:
            console.close()


class Console:
    """One console; events come on libvirt's thread, clients from others."""

    def __init__(self, stream: Any, log: Path, machine: str = "") -> None:
        self.machine = machine
        self._stream = stream
        self._log = log
        self._mutex = threading.Lock()
        self._writable = threading.Event()
        self._client: _Client | None = None
        self.over = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(log, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def start(self) -> None:
        """Begin to read."""
        self._stream.eventAddCallback(_READ, self._on_event, None)

    def serve(self, connection: socket.socket) -> None:
        """Make a socket the console's other end until either ends; a client that was there before is dropped."""
        client = _Client(connection)
        with self._mutex:
            old, self._client = self._client, client
            over = self.over
        if old is not None:
            old.close()
        if over:
            client.close()
        try:
            while data := connection.recv(CHUNK):
                self._to_guest(data)
        except (OSError, libvirt.libvirtError):
            pass  # the client, the domain or the connection is gone
        finally:
            with self._mutex:
                if self._client is client:
                    self._client = None
            client.close()

    def close(self) -> None:
        """Let go of stream, client and log."""
        with self._mutex:
            if self.over:
                return
            self.over = True
            client, self._client = self._client, None
        with suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with suppress(libvirt.libvirtError):
            self._stream.abort()
        self._writable.set()
        if client is not None:
            client.close()
        os.close(self._file)

    def _on_event(self, _stream: Any, events: int, _opaque: Any) -> None:
        try:
            if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
                self._stream.eventUpdateCallback(_READ)
                self._writable.set()
            if events & (libvirt.VIR_STREAM_EVENT_READABLE | _END):
                self._read()
            if events & _END:
                self.close()
        except libvirt.libvirtError:
            self.close()

    def _read(self) -> None:
        while True:
            data = self._stream.recv(CHUNK)
            if data == WOULD_BLOCK:
                return
            if not data or not isinstance(data, bytes):
                self.close()
                return
            self._append(data)
            with self._mutex:
                client = self._client
            if client is not None and not client.put(data):
                client.close()

    def _append(self, data: bytes) -> None:
        try:
            if self._size + len(data) > LOG_BYTES:
                os.close(self._file)
                self._log.replace(self._log.with_name(f"{self._log.name}.1"))
                self._file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._size = 0
            self._size += os.write(self._file, data)
        except OSError:
            return  # a full disk costs log lines, not the guest

    def _to_guest(self, data: bytes) -> None:
        while data and not self.over:
            self._writable.clear()
            sent = self._stream.send(data)
            if sent >= 0:
                data = data[sent:]
                continue
            self._stream.eventUpdateCallback(_READ | libvirt.VIR_STREAM_EVENT_WRITABLE)
            if not self._writable.wait(SEND_SECONDS):
                raise OSError("the guest reads nothing")


class _Client:
    """A socket that is written to by a thread of its own."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._over = False
        threading.Thread(target=self._write, daemon=True, name="console-client").start()

    def put(self, data: bytes) -> bool:
        """Have a piece written; false if the client is too far behind."""
        if self._over or self._queue.qsize() >= MAX_WAITING:
            return False
        self._queue.put(data)
        return True

    def close(self) -> None:
        """End both ways, after what was put before."""
        self._over = True
        self._queue.put(b"")

    def _write(self) -> None:
        with suppress(OSError):
            while data := self._queue.get():
                self._connection.sendall(data)
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


WOULD_BLOCK = -2
_READ = libvirt.VIR_STREAM_EVENT_READABLE
_END = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
