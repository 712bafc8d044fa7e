"""``port-forward``: local ports, or standard input and output, joined with ports of a machine.

Each local connection is a websocket of its own; with UDP each local peer is one, a datagram a message.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError, ExitCode, explain
from polyvisor.cli.lifecycle import PLURALS, subresource
from polyvisor.cli.output import note
from polyvisor.cli.streams import CHUNK, join, opened, over
from polyvisor.kube.errors import ApiError

MOST_PEERS = 1024
SILENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Port:
    """One forwarded port."""

    protocol: str
    local: int
    remote: int


@dataclass(frozen=True, slots=True)
class Target:
    """A machine that ports are forwarded to."""

    client: Client
    plural: str
    name: str
    namespace: str

    def path(self, port: Port) -> str:
        """Return the path of a port's stream."""
        return subresource(self.namespace, self.plural, self.name, f"portforward/{port.remote}/{port.protocol}")


def parse_target(text: str, namespace: str) -> tuple[str, str, str]:
    """Return plural, name and namespace of ``NAME``, ``TYPE/NAME`` or ``TYPE/NAME/NAMESPACE``.

    The older form ``TYPE/NAME.NAMESPACE`` is not taken: names may hold dots.
    """
    parts = text.split("/")
    if len(parts) == 1:
        parts = ["vmi", *parts]
    plural = PLURALS.get(parts[0])
    if plural is None or len(parts) > 3 or not all(parts):
        raise CliError(f"{text!r} is not a machine: TYPE/NAME or TYPE/NAME/NAMESPACE, TYPE vm or vmi", ExitCode.USAGE)
    return plural, parts[1], parts[2] if len(parts) == 3 else namespace


def parse_port(text: str) -> Port:
    """Read ``[PROTOCOL/]LOCAL[:REMOTE]``."""
    protocol, slash, numbers = text.rpartition("/")
    local, _, remote = numbers.partition(":")
    found = [int(each) if each.isascii() and each.isdigit() else -1 for each in (local, remote or local)]
    if (slash and protocol not in ("tcp", "udp")) or not 0 <= found[0] < 65536 or not 0 < found[1] < 65536:
        raise CliError(f"{text!r} is not a port: [tcp/|udp/]LOCAL[:REMOTE]", ExitCode.USAGE)
    return Port(protocol or "tcp", found[0], found[1])


def forward(target: Target, ports: list[Port], address: str, *, stdio: bool) -> None:
    """Forward until interrupted; with ``stdio`` until either side ends."""
    if stdio:
        if len(ports) != 1 or ports[0].protocol != "tcp":
            raise CliError("--stdio takes one TCP port", ExitCode.USAGE)
        asyncio.run(_standard(target, ports[0]))
    else:
        asyncio.run(_listen(target, ports, address))


async def _standard(target: Target, port: Port) -> None:
    websocket = await opened(target.client, target.path(port))
    typed: asyncio.Queue[bytes] = asyncio.Queue(4)
    threading.Thread(target=_read_input, args=(asyncio.get_running_loop(), typed), daemon=True).start()
    heard = asyncio.Event()
    silent = True

    async def read() -> bytes:
        if data := await typed.get():
            return data
        with suppress(TimeoutError):  # what the machine still has to say after our end is waited for
            while True:
                heard.clear()
                async with asyncio.timeout(SILENT_SECONDS):
                    await heard.wait()
        return b""

    async def write(data: bytes) -> None:
        nonlocal silent
        silent = False
        heard.set()
        while data:
            data = data[await asyncio.to_thread(os.write, 1, data) :]

    await join(websocket, read, write)
    if silent:  # a user-mode network takes a connection before it knows whether the guest does
        note(f"{target.name} said nothing on port {port.remote}: does anything listen there?")


def _read_input(loop: asyncio.AbstractEventLoop, typed: asyncio.Queue[bytes]) -> None:
    """Read standard input on a thread, for an event loop cannot wait for a file; empty is its end."""
    data = b"-"
    while data:
        try:
            data = os.read(0, CHUNK)
        except OSError:
            data = b""
        putting = typed.put(data)
        try:
            asyncio.run_coroutine_threadsafe(putting, loop).result()
        except (RuntimeError, CancelledError):  # the loop has ended, and the process with it
            putting.close()
            return


async def _listen(target: Target, ports: list[Port], address: str) -> None:
    servers: list[Any] = []
    try:
        for port in ports:
            servers.append(await (_udp if port.protocol == "udp" else _tcp)(target, port, address))
        await asyncio.Event().wait()
    except OSError as error:
        raise CliError(f"cannot listen on {address}: {error.strerror or error}") from error
    finally:
        for server in servers:
            server.close()


async def _tcp(target: Target, port: Port, address: str) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await join(await opened(target.client, target.path(port)), *over(reader, writer))
        except ApiError as error:
            note(f"port {port.remote}: {explain(error).message}")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, address, port.local)
    note(f"forwarding tcp {address}:{server.sockets[0].getsockname()[1]} to {port.remote}")
    return server


class _Peers(asyncio.DatagramProtocol):
    """A local UDP port; each peer that sends to it has a websocket, opened when it first sends."""

    def __init__(self, target: Target, port: Port) -> None:
        self._target = target
        self._port = port
        self._peers: dict[Any, tuple[asyncio.Queue[bytes], asyncio.Task[None]]] = {}
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr not in self._peers:
            if len(self._peers) >= MOST_PEERS:
                return
            queue: asyncio.Queue[bytes] = asyncio.Queue(256)
            self._peers[addr] = (queue, asyncio.create_task(self._serve(addr, queue)))
        with suppress(asyncio.QueueFull):  # what cannot be sent on is lost, as with UDP
            self._peers[addr][0].put_nowait(data)

    async def _serve(self, addr: Any, queue: asyncio.Queue[bytes]) -> None:
        async def write(data: bytes) -> None:
            self._transport.sendto(data, addr)

        try:
            await join(await opened(self._target.client, self._target.path(self._port)), queue.get, write)
        except ApiError as error:
            note(f"port {self._port.remote}: {explain(error).message}")
        finally:
            self._peers.pop(addr, None)


async def _udp(target: Target, port: Port, address: str) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Peers(target, port), local_addr=(address, port.local))
    note(f"forwarding udp {address}:{transport.get_extra_info('sockname')[1]} to {port.remote}")
    return transport
