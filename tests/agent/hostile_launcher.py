"""A launcher that its guest has taken over: it greets, then speaks the protocol as badly as a case says."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.agent.link.launcher_messages import LINE_LIMIT

HELLO = b'{"hello": {"version": 1}}\n'
DEEP = 100_000
Talk = Callable[[socket.socket, int], None]
"""What it does on a connection once it was asked for something, with the number of the question."""


@contextmanager
def hostile(folder: Path, talk: Talk, greeting: bytes = HELLO) -> Iterator[Path]:
    """Listen in a folder, each connection on a thread of its own; afterwards all threads have ended."""
    path = folder / "launcher.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    peers: list[socket.socket] = []
    servers: list[threading.Thread] = []

    def serve(peer: socket.socket) -> None:
        with suppress(OSError, ValueError), peer.makefile("rb") as lines:
            lines.readline()
            peer.sendall(greeting)
            while line := lines.readline():
                talk(peer, json.loads(line)["id"])

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                peers.append(peer)
                servers.append(threading.Thread(target=serve, args=(peer,), daemon=True))
                servers[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for peer in peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for server in servers:
            server.join(5)
        for peer in peers:
            peer.close()


def result(number: int, more: str = "{}") -> bytes:
    """Return a well-formed answer."""
    return b'{"id": %d, "result": %s}\n' % (number, more.encode())


def handing_over(make: Callable[[], int], many: int = 1, line: bytes | None = None) -> Talk:
    """Hand descriptors over beside the answer, or beside another line."""

    def talk(peer: socket.socket, number: int) -> None:
        descriptor = make()
        try:
            socket.send_fds(peer, [line or result(number, '{"type": "image/png"}')], [descriptor] * many)
        finally:
            os.close(descriptor)

    return talk


def saying(line: bytes) -> Talk:
    """Say one thing."""
    return lambda peer, _: peer.sendall(line)


def drip(peer: socket.socket, _number: int) -> None:
    """Say a little, often, and never come to an end."""
    stop = threading.Event()
    while not stop.wait(0.02):
        peer.sendall(b" ")


def flood_of_descriptors(peer: socket.socket, _number: int) -> None:
    """Send descriptors beside events, each message with one, thousands of them."""
    with open(os.devnull) as file:  # noqa: PTH123
        for _ in range(5000):
            socket.send_fds(peer, [b"{}\n"], [file.fileno()])


def flood_of_events(peer: socket.socket, number: int) -> None:
    """Tell of two states in turn, without an end."""
    peer.sendall(result(number, '{"state": "running"}'))
    lines = b'{"event":{"type":"state","state":"paused"}}\n{"event":{"type":"state","state":"running"}}\n' * 1000
    while True:
        peer.sendall(lines)


NONSENSE: dict[str, bytes] = {
    "deep arrays": b"[" * DEEP + b"]" * DEEP + b"\n",
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n",
    "deep result": b'{"id":1,"result":{"state":' + b"[" * 500 + b"]" * 500 + b"}}\n",
    "huge line": b'{"id":1,"result":{"state":"' + b"x" * 2 * LINE_LIMIT + b'"}}\n',
    "huge number": b'{"id":' + b"9" * 10_000 + b"}\n",
    "not UTF-8": b'{"id":1,"result":{"state":"\xff\xfe"}}\n',
    "not JSON": b"hello\n",
    "array": b"[1]\n",
    "cut off": b'{"id":1,"res',
    "nothing": b"\n",
}
ODD: dict[str, bytes] = {
    "id is an array": b'{"id":[],"result":{}}\n',
    "id is an object": b'{"id":{},"result":{}}\n',
    "result is text": b'{"id":1,"result":"done"}\n',
    "error is text": b'{"id":1,"error":"no"}\n',
    "error is a list": b'{"id":1,"error":[1]}\n',
    "error of odd types": b'{"id":1,"error":{"code":[],"message":{}}}\n',
    "event is text": b'{"event":"state"}\n',
    "state is a list": b'{"event":{"type":"state","state":[]}}\n',
}
