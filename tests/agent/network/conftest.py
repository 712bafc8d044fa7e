"""A Pod's network namespace on a network of the test's own, and guests that are namespaces too."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.network.namespace import Namespace
from tests.needs import need_root

POD = "192.0.2.2"
OUTSIDE = "192.0.2.1"
POD6 = "2001:db8::2"
OUTSIDE6 = "2001:db8::1"


class Space:
    """A network namespace, held by a process that sleeps in it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--net", "--", "/bin/sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
        )
        assert self.process.stdout
        self.process.stdout.readline()
        self.process.stdout.close()
        self.namespace = Namespace.open(Path(f"/proc/{self.process.pid}/ns/net"))
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self.process.pid

    def run(self, *command: str, text: str = "") -> str:
        return self.namespace.run(command, text)

    def batch(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def close(self) -> None:
        self.namespace.close()
        self.process.kill()
        self.process.wait()


@dataclass
class Net:
    """Outside and a Pod, which are joined."""

    outside: Space
    pod: Space

    def guest(self, bridge: str, mac: str) -> Space:
        """Join a guest to a bridge in the Pod; it has no address."""
        guest = Space()
        self.pod.batch(
            f"link add g{len(mac)} type veth peer name eth0 address {mac} netns {guest.pid}",
            f"link set g{len(mac)} master {bridge} up",
        )
        guest.run("ip", "link", "set", "eth0", "up")
        return guest


@pytest.fixture
def net() -> Iterator[Net]:
    need_root()
    outside, pod = Space(), Space()
    outside.batch(
        f"link add p0 type veth peer name eth0 netns {pod.pid}", f"address add {OUTSIDE}/24 dev p0", "link set p0 up"
    )
    pod.batch(
        f"address add {POD}/24 dev eth0",
        "link set eth0 address 02:aa:00:00:00:01 mtu 1400 up",
        f"route add default via {OUTSIDE}",
    )
    yield Net(outside, pod)
    for space in (outside, pod):
        space.close()


@contextmanager
def listening(
    space: Space, port: int, kind: socket.SocketKind = socket.SOCK_STREAM, version: int = 4
) -> Iterator[None]:
    """Answer what comes to a port with what the other end's address is."""
    listener = space.namespace.socket(kind, version)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::" if version == 6 else "0.0.0.0", port))

    def serve() -> None:
        with suppress(OSError):
            while kind == socket.SOCK_DGRAM:
                data, peer = listener.recvfrom(100)
                if not data:
                    return
                listener.sendto(peer[0].encode(), peer)
            listener.listen()
            while True:
                connection, peer = listener.accept()
                with connection:
                    connection.sendall(peer[0].encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def ask(space: Space, address: str, port: int, seconds: float = 5) -> str:
    """Connect from a namespace; return what is said, or the name of the error."""
    with space.namespace.socket(socket.SOCK_STREAM, 6 if ":" in address else 4) as peer:
        peer.settimeout(seconds)
        try:
            peer.connect((address, port))
            return peer.recv(100).decode()
        except OSError as error:
            return type(error).__name__


def with_ipv6(net: Net, *, only: bool = False) -> None:
    """Give outside and the Pod IPv6 too, or alone."""
    net.outside.batch(f"address add {OUTSIDE6}/64 dev p0 nodad")
    net.pod.batch(
        *(("address flush dev eth0",) if only else ()),
        f"address add {POD6}/64 dev eth0 nodad",
        f"route add default via {OUTSIDE6}",
    )


def vmi(*cards: tuple[dict[str, Any], dict[str, Any]], **devices: Any) -> dict[str, Any]:
    """A machine with cards and their networks."""
    named = [(f"card{number}", card, network) for number, (card, network) in enumerate(cards)]
    interfaces = [{"name": name, **card} for name, card, _ in named]
    return {
        "metadata": {"name": "one", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {
            "domain": {"devices": {"interfaces": interfaces, **devices}},
            "networks": [{"name": name, **network} for name, _, network in named],
        },
    }
