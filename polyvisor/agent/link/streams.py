"""Streams of bytes to a machine: its console, its screen, a picture of the screen, one of its ports, a USB slot.

A screen has one session at a time, as KubeVirt has it: whoever opens one ends the one before, or, if asked to keep the
peace, is turned away.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.link.descriptors import Readers, ask_for_descriptor, ask_for_socket, read_file
from polyvisor.agent.link.picture import to_png
from polyvisor.api import Obj
from polyvisor.api.reading import nested

CHUNK = 64 * 1024
CONNECT_SECONDS = 5.0
WAKE_SECONDS = 2.0
MOST_DATAGRAMS = 256
MAX_KIND = 100
MAX_NAME = 4096
"""Bytes of a screen's name that are skipped."""
BUSY = "busy"
"""The code of the error for a screen that somebody else looks at."""


class ByteStream(Protocol):
    """Bytes both ways; what is read is a message where the other side has such."""

    async def read(self) -> bytes:
        """Return what comes next, empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the other end is slow."""

    async def encrypt(self) -> None:
        """Go on in TLS, whoever the other end is; raises ``OSError`` where that is not possible."""

    async def close(self) -> None:
        """Close both ways."""


class Stream:
    """A connection as a :class:`ByteStream`; ``closed`` is called once, when it is over."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closed: Callable[[], None] | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.closed = closed

    async def read(self) -> bytes:
        """Return what comes next, empty when the stream has ended."""
        try:
            return await self._reader.read(CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send; an empty message ends the sending."""
        self._writer.write(data)
        await self._writer.drain()

    async def encrypt(self) -> None:
        """Go on in TLS, without asking who the other end is."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await self._writer.start_tls(context)

    async def close(self) -> None:
        """Let go of the other end."""
        self._writer.close()
        closed, self.closed = self.closed, None
        if closed:
            closed()


class Picture:
    """A finished file as a stream that only comes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        """Return the next piece."""
        part, self._data = self._data[:CHUNK], self._data[CHUNK:]
        return part

    async def write(self, data: bytes) -> None:
        """Nobody listens."""

    async def encrypt(self) -> None:
        """There is no TLS here."""
        raise OSError("this stream has no TLS")

    async def close(self) -> None:
        """There is nothing to close."""


class Datagrams(asyncio.DatagramProtocol):
    """A UDP port as a stream of datagrams; what comes faster than it is read is lost, as with UDP."""

    def __init__(self) -> None:
        self._got: deque[bytes] = deque(maxlen=MOST_DATAGRAMS)
        self._news = asyncio.Event()
        self._over = False
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Keep a datagram until it is read."""
        self._got.append(data)
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the reader."""
        self._over = True
        self._news.set()

    async def read(self) -> bytes:
        """Return the next datagram that is not empty; empty at the end."""
        while not self._over:
            while self._got:
                if data := self._got.popleft():
                    return data
            self._news.clear()
            await self._news.wait()
        return b""

    async def write(self, data: bytes) -> None:
        """Send one datagram."""
        if self.transport and data:
            self.transport.sendto(data)

    async def encrypt(self) -> None:
        """There is no TLS here."""
        raise OSError("this stream has no TLS")

    async def close(self) -> None:
        """Give the port up."""
        if self.transport:
            self.transport.close()


class Screens:
    """Who looks at which machine's screen."""

    def __init__(self) -> None:
        self._sessions: dict[str, Stream] = {}

    async def open(self, uid: str, path: Path, *, preserve: bool) -> Stream:
        """Open the screen of the machine whose launcher listens on ``path``."""
        if preserve and uid in self._sessions:
            raise LauncherError("Active VNC connection. Request denied.", BUSY)
        reader, writer = await asyncio.open_connection(sock=await ask_for_socket(path, "screen"))
        if old := self._sessions.pop(uid, None):
            await old.close()
        stream = Stream(reader, writer)
        stream.closed = lambda: self._forget(uid, stream)
        self._sessions[uid] = stream
        return stream

    def _forget(self, uid: str, stream: Stream) -> None:
        if self._sessions.get(uid) is stream:
            del self._sessions[uid]


class UsbSlots:
    """Which of a machine's slots for USB devices are taken; they are free again once their streams have ended."""

    def __init__(self) -> None:
        self._taken: dict[str, set[int]] = {}

    async def open(self, uid: str, path: Path, many: int) -> Stream:
        """Open a free one of a machine's ``many`` slots; its launcher listens on ``path``."""
        taken = self._taken.setdefault(uid, set())
        slot = next((number for number in range(many) if number not in taken), None)
        if slot is None:
            raise LauncherError(f"all {many} slots for USB devices are taken", BUSY)
        taken.add(slot)
        try:
            reader, writer = await asyncio.open_connection(sock=await ask_for_socket(path, "usb", slot=slot))
        except BaseException:
            self._free(uid, slot)
            raise
        return Stream(reader, writer, lambda: self._free(uid, slot))

    def _free(self, uid: str, slot: int) -> None:
        taken = self._taken.get(uid, set())
        taken.discard(slot)
        if not taken:
            self._taken.pop(uid, None)


async def screenshot(path: Path, readers: Readers, *, wake: bool) -> Picture:
    """Return a picture of the screen, as PNG whatever the hypervisor makes; ``wake`` moves the pointer before."""
    if wake:
        await _wake(path)
    found, told = await ask_for_descriptor(path, "screenshot")
    kind = str(told.get("type"))[:MAX_KIND]
    return Picture(await readers.run(str(path), lambda: to_png(read_file(found), kind)))


async def _wake(path: Path) -> None:
    """Move the pointer as a VNC client, and see that the screen answers; a screen that does not is left alone."""
    reader, writer = await asyncio.open_connection(sock=await ask_for_socket(path, "screen"))
    try:
        async with asyncio.timeout(WAKE_SECONDS):
            await reader.readexactly(12)
            writer.write(b"RFB 003.008\n")
            await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\1")  # no password
            await reader.readexactly(4)
            writer.write(b"\1")  # beside others
            width, height, *_, name = struct.unpack(">HH16sI", await reader.readexactly(24))
            await reader.readexactly(min(name, MAX_NAME))
            for place in (0, 1):
                writer.write(struct.pack(">BBHH", 5, 0, place, place))
            writer.write(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
            await reader.readexactly(1)
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


Connect = Callable[[socket.SocketKind], tuple[socket.socket, str] | None]
"""Gives a socket from which a machine is reached and its address, as the agent worked it out; None: there is no way."""


def no_way(_: socket.SocketKind) -> None:
    """Know of no address."""


async def port_of(
    vmi: Obj,
    path: Path,
    port: int,
    protocol: str,
    connect: Connect = no_way,
    *,
    answer_seconds: float = 0,
) -> ByteStream:
    """Open a port of a machine: with the socket and the address that ``connect`` gives, or by its launcher.

    What a machine's status says of addresses is never connected to: a guest's agent says it, or a user. The launcher at
    ``path`` is asked where this agent knows of no address. With ``answer_seconds`` the guest itself
    must have taken the connection within that time.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    inner = await asyncio.to_thread(connect, kind)
    try:
        _let_through(vmi, port, protocol)
        if inner:
            return await dial(inner[1], port, protocol, inner[0])
    except BaseException:
        if inner:
            inner[0].close()
        raise
    if protocol != "tcp":
        raise LauncherError(f"without an address of its own the machine has no {protocol} ports that can be forwarded")
    connection = await ask_for_socket(path, "port", port=port, answer=answer_seconds)
    return Stream(*await asyncio.open_connection(sock=connection))


def _let_through(vmi: Obj, port: int, protocol: str) -> None:
    declared = _declared(vmi)
    if declared and (port, protocol) not in declared:
        known = ", ".join(f"{number}/{name}" for number, name in sorted(declared))
        raise LauncherError(f"the machine's network interface lets only its declared ports through: {known}")


async def dial(address: str, port: int, protocol: str, out: socket.socket) -> ByteStream:
    """Open a port of a machine with the socket ``out``."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            out.setblocking(False)
            await loop.sock_connect(out, (address, port))
            if protocol == "udp":
                _, datagrams = await loop.create_datagram_endpoint(Datagrams, sock=out)
                return datagrams
            return Stream(*await asyncio.open_connection(sock=out))
    except (OSError, TimeoutError) as error:
        why = str(error) or f"no answer in {CONNECT_SECONDS:g} s"
        raise LauncherError(f"dialing the machine: {address} port {port}/{protocol}: {why}", "dial") from None


def _declared(vmi: Obj) -> set[tuple[int, str]]:
    """Return the ports that the first network card declares; none means that all are let through."""
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    cards = devices.get("interfaces") or [{}]
    if "bridge" in cards[0]:
        return set()  # nothing stands between such a guest and its network
    ports = cards[0].get("ports") or []
    return {(int(port["port"]), str(port.get("protocol") or "TCP").lower()) for port in ports}
