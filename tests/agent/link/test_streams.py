"""Streams of a machine: forwarded ports against real sockets, screens against a launcher that is played."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polyvisor.agent.link import descriptors, streams
from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.link.descriptors import Readers, ask_for_descriptor
from polyvisor.agent.link.picture import to_png
from polyvisor.agent.link.streams import BUSY, Screens, UsbSlots, dial, port_of

HELLO = b'{"hello": {"version": 1}}\n'


@contextmanager
def launcher(folder: Path, answer: Callable[[socket.socket, str], None]) -> Iterator[Path]:
    """Play a launcher: greet, then answer each request as the test wants."""
    path = folder / "launcher.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(8)

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as lines:
                lines.readline()
                peer.sendall(HELLO)
                answer(peer, json.loads(lines.readline() or "{}").get("op", ""))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def with_screen(peer: socket.socket, _operation: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"RFB 003.008\n")
        event = json.dumps({"event": {"type": "state", "state": "running"}}).encode() + b"\n"
        socket.send_fds(peer, [event + b'{"id": 1, "result": {}}\n'], [theirs.fileno()])


async def test_one_session_a_screen(tmp_path: Path) -> None:
    screens = Screens()
    with launcher(tmp_path, with_screen) as path:
        first = await screens.open("uid", path, preserve=False)
        assert await first.read() == b"RFB 003.008\n"
        with pytest.raises(LauncherError) as caught:
            await screens.open("uid", path, preserve=True)
        assert caught.value.code == BUSY
        second = await screens.open("uid", path, preserve=False)
        assert await first.read() == b""
        other = await screens.open("another", path, preserve=True)
        await first.close()
        with pytest.raises(LauncherError):
            await screens.open("uid", path, preserve=True)
        await second.close()
        third = await screens.open("uid", path, preserve=True)
        for stream in (third, other):
            await stream.close()


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (b'{"id": 1, "error": {"code": "libvirt", "message": "no screens"}}\n', LauncherError, "no screens"),
        (b'{"id": 1, "result": {}}\n', LauncherGone, "no answer with a descriptor"),
        (b"nonsense\n", LauncherGone, "its answer cannot be read"),
        (b"", LauncherGone, "no answer"),
    ],
)
async def test_a_launcher_that_gives_nothing(tmp_path: Path, said: bytes, error: type[Exception], match: str) -> None:
    with launcher(tmp_path, lambda peer, _: peer.sendall(said)) as path, pytest.raises(error, match=match):
        await ask_for_descriptor(path, "screen")


async def test_a_launcher_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "EXCHANGE_SECONDS", 0.2)
    done = threading.Event()
    with launcher(tmp_path, lambda *_: done.wait(5) and None) as path:
        with pytest.raises(LauncherError, match="did not answer to 'screen'"):
            await ask_for_descriptor(path, "screen")
        done.set()


async def test_a_tcp_port() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read(100))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        stream = await dial("127.0.0.1", server.sockets[0].getsockname()[1], "tcp", socket.socket())
        await stream.write(b"this")
        assert await stream.read() == b"got this"
        assert await stream.read() == b""
        await stream.close()


async def test_a_udp_port_keeps_datagrams_apart() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.bind(("127.0.0.1", 0))
        stream = await dial("127.0.0.1", guest.getsockname()[1], "udp", socket.socket(type=socket.SOCK_DGRAM))
        await stream.write(b"one")
        await stream.write(b"two")
        data, peer = guest.recvfrom(100)
        assert (data, guest.recv(100)) == (b"one", b"two")
        for data in (b"three", b"", b"four"):
            guest.sendto(data, peer)
        assert [await stream.read(), await stream.read()] == [b"three", b"four"]
        await stream.close()
        assert await stream.read() == b""


async def test_a_port_that_nobody_listens_on() -> None:
    with socket.socket() as unused, socket.socket() as out:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(LauncherError, match="dialing the machine") as caught:
            await dial("127.0.0.1", unused.getsockname()[1], "tcp", out)
    assert caught.value.code == "dial"


async def test_only_declared_ports_go_through_a_launcher(tmp_path: Path) -> None:
    card = {"name": "default", "masquerade": {}, "ports": [{"port": 22}, {"port": 53, "protocol": "UDP"}]}
    vmi = {"spec": {"domain": {"devices": {"interfaces": [card]}}}, "status": {"interfaces": [{"name": "default"}]}}
    with launcher(tmp_path, with_screen) as path:
        stream = await port_of(vmi, path, 22, "tcp")
        assert await stream.read() == b"RFB 003.008\n"
        await stream.close()
        with pytest.raises(LauncherError, match="only its declared ports through: 22/tcp, 53/udp"):
            await port_of(vmi, path, 80, "tcp")
        with pytest.raises(LauncherError, match="no udp ports"):
            await port_of(vmi, path, 53, "udp")
        card["ports"] = []
        await (await port_of(vmi, path, 80, "tcp")).close()


async def test_an_address_in_a_machines_status_is_not_connected_to(tmp_path: Path) -> None:
    """A user may have written it, or the guest's agent: here it is the node's own."""
    with socket.create_server(("127.0.0.1", 0)) as server, launcher(tmp_path, with_screen) as path:
        card = {"name": "default", "ipAddress": "127.0.0.1", "ipAddresses": ["127.0.0.1"]}
        vmi = {"spec": {"domain": {"devices": {}}}, "status": {"interfaces": [card]}}
        stream = await port_of(vmi, path, server.getsockname()[1], "tcp")
        assert await stream.read() == b"RFB 003.008\n", "the launcher was asked"
        await stream.close()
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_pixmap_becomes_a_png() -> None:
    pixels = bytes(range(18))
    png = to_png(b"P6\n# a remark\n3 2\n255\n" + pixels, "image/x-portable-pixmap")
    assert struct.unpack(">II", png[16:24]) == (3, 2)
    start = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    assert zlib.decompress(png[start + 4 : start + 4 + length]) == b"\0" + pixels[:9] + b"\0" + pixels[9:]
    assert to_png(png, "image/png") is png


@pytest.mark.parametrize("data", [b"", b"BM....", b"P6\n3 2\n255\nshort", b"P6\n99999999 2\n255\n"])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(LauncherError):
        to_png(data, "image/bmp")


async def test_a_screen_is_woken_by_moving_the_pointer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def play(peer: socket.socket, operation: str) -> None:
        if operation == "screenshot":
            file = os.memfd_create("picture")
            os.write(file, b"P6\n1 1\n255\nabc")
            os.lseek(file, 0, os.SEEK_SET)
            socket.send_fds(peer, [b'{"id": 1, "result": {"type": "image/x-portable-pixmap"}}\n'], [file])
            os.close(file)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(peer, [b'{"id": 1, "result": {}}\n'], [theirs.fileno()])
        threading.Thread(target=screen, args=(ours,), daemon=True).start()

    def screen(ours: socket.socket) -> None:
        with ours:
            ours.sendall(b"RFB 003.008\n")
            heard.append(ours.recv(12))
            ours.sendall(b"\1\1")
            heard.append(ours.recv(1))
            ours.sendall(b"\0\0\0\0")
            heard.append(ours.recv(1))
            ours.sendall(struct.pack(">HH16sI", 640, 480, b"", 4) + b"name")
            heard.append(ours.recv(100))
            ours.sendall(b"\0")
            done.set()

    with launcher(tmp_path, play) as path:
        picture = await streams.screenshot(path, Readers(), wake=True)
    assert (await picture.read()).startswith(b"\x89PNG")
    assert done.wait(5)
    assert heard[:3] == [b"RFB 003.008\n", b"\1", b"\1"]
    assert heard[3].startswith(struct.pack(">BBHH", 5, 0, 0, 0))


async def test_slots_for_usb_devices_are_free_again_once_their_streams_end(tmp_path: Path) -> None:
    slots = UsbSlots()
    with launcher(tmp_path, with_screen) as path:
        first, second = await slots.open("uid", path, 2), await slots.open("uid", path, 2)
        with pytest.raises(LauncherError, match="all 2 slots") as caught:
            await slots.open("uid", path, 2)
        assert caught.value.code == BUSY
        other = await slots.open("another", path, 2)
        await first.close()
        third = await slots.open("uid", path, 2)
        for stream in (second, third, other):
            await stream.close()
    with pytest.raises(LauncherGone):
        await slots.open("uid", path, 1)
    with pytest.raises(LauncherGone):  # the slot was not lost by that
        await slots.open("uid", path, 1)
