"""A launcher that its guest has taken over costs the agent nothing but that one machine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from polyvisor.agent.guests import agents
from polyvisor.agent.link import connection, descriptors, streams
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link, open_console
from polyvisor.agent.link.descriptors import MAX_FILE, MAX_READS, Readers, ask_for_descriptor, ask_for_socket
from polyvisor.agent.link.launcher_messages import LINE_LIMIT, MAX_NESTING, MAX_TEXT, MAX_UNASKED, decode, state_of
from polyvisor.agent.live import described
from tests.agent.hostile_launcher import (
    NONSENSE,
    ODD,
    drip,
    flood_of_descriptors,
    flood_of_events,
    handing_over,
    hostile,
    result,
    saying,
)

PATIENCE = 20.0
"""A case that hangs fails by this; none takes a tenth of it."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.5)
    monkeypatch.setattr(descriptors, "EXCHANGE_SECONDS", 0.5)
    monkeypatch.setattr(descriptors, "READ_SECONDS", 0.5)


def open_descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue
    return found


async def picture(path: Path) -> None:
    await streams.screenshot(path, Readers(), wake=False)


async def screen(path: Path) -> None:
    (await ask_for_socket(path, "screen")).close()


async def console(path: Path) -> None:
    _, writer = await open_console(path)
    writer.close()


async def state(path: Path) -> None:
    await (await Link.connect(path, lambda: None)).close()


WAYS: list[Callable[[Path], object]] = [picture, screen, console, state]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_ends_the_exchange(tmp_path: Path, way: Callable[[Path], object], said: bytes) -> None:
    with hostile(tmp_path, saying(said)) as path:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LauncherError):
                await way(path)  # type: ignore[misc]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_a_greeting_of_nonsense(tmp_path: Path, way: Callable[[Path], object], said: bytes) -> None:
    with hostile(tmp_path, lambda *_: None, greeting=said) as path:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LauncherError):
                await way(path)  # type: ignore[misc]


@pytest.mark.parametrize("way", [picture, screen, state], ids=lambda way: way.__name__)
@pytest.mark.parametrize("said", ODD.values(), ids=ODD)
async def test_messages_of_odd_types(tmp_path: Path, way: Callable[[Path], object], said: bytes) -> None:
    with hostile(tmp_path, saying(said)) as path:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LauncherError):
                await way(path)  # type: ignore[misc]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_slow_answer_has_one_deadline_in_all(tmp_path: Path, way: Callable[[Path], object]) -> None:
    with hostile(tmp_path, drip) as path:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LauncherError):
                await way(path)  # type: ignore[misc]


async def test_slow_answers_take_no_threads(tmp_path: Path) -> None:
    with hostile(tmp_path, drip) as path:
        before, others = threading.active_count(), set(threading.enumerate())  # some of a test before
        waiting = [asyncio.create_task(ask_for_descriptor(path, "screen")) for _ in range(40)]
        await asyncio.sleep(0)
        new = set(threading.enumerate()) - others
        assert not [thread for thread in new if thread.name.startswith("asyncio_")]
        assert await asyncio.to_thread(lambda: "a thread is free") == "a thread is free"
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(answer, LauncherError) for answer in answers)
        assert threading.active_count() <= before + 41  # the hostile side's own


def a_pipe() -> int:
    reading, writing = os.pipe()
    _keep.append(writing)  # with the other end open, a read would wait for ever
    return reading


_keep: list[int] = []


def a_huge_file() -> int:
    file = os.memfd_create("huge")
    os.ftruncate(file, MAX_FILE + 1)
    return file


def a_folder() -> int:
    return os.open("/", os.O_RDONLY)


def a_device() -> int:
    return os.open("/dev/zero", os.O_RDONLY)


def a_listener() -> int:
    with socket.socket(socket.AF_UNIX) as listener:
        return listener.detach()


def a_datagram_socket() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        return datagrams.detach()


@pytest.mark.parametrize("make", [a_pipe, a_huge_file, a_folder, a_device, a_listener], ids=lambda make: make.__name__)
async def test_only_a_regular_file_of_bounded_size_is_a_picture(tmp_path: Path, make: Callable[[], int]) -> None:
    with hostile(tmp_path, handing_over(make)) as path:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LauncherError):
                await picture(path)
    while _keep:
        os.close(_keep.pop())


@pytest.mark.parametrize("make", [a_pipe, a_huge_file, a_folder, a_datagram_socket], ids=lambda make: make.__name__)
async def test_only_a_stream_socket_is_a_screen(tmp_path: Path, make: Callable[[], int]) -> None:
    before = open_descriptors()
    with hostile(tmp_path, handing_over(make)) as path, pytest.raises(LauncherGone, match="handed over"):
        await screen(path)
    while _keep:
        os.close(_keep.pop())
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    "talk",
    [handing_over(a_device, many=3), handing_over(a_device, many=200), flood_of_descriptors],
    ids=["three", "two hundred", "one beside each of 5,000 messages"],
)
async def test_more_than_one_descriptor_is_refused_and_none_stays_open(
    tmp_path: Path, talk: Callable[[socket.socket, int], None]
) -> None:
    before = {name for name in open_descriptors() if "/dev/" in name}
    with hostile(tmp_path, talk) as path:
        for _ in range(3):
            with pytest.raises(LauncherGone, match="more than one descriptor"):
                await ask_for_descriptor(path, "screen")
    assert {name for name in open_descriptors() if "/dev/" in name} - before <= set()


async def test_a_flood_of_events_is_slowed_and_leaves_the_event_loop_to_others(tmp_path: Path) -> None:
    told: list[int] = []
    with hostile(tmp_path, flood_of_events) as path:
        async with asyncio.timeout(PATIENCE):
            one = await Link.connect(path, lambda: told.append(1))
            for _ in range(1000):  # turns of the loop, each of which the flood could fill
                await asyncio.sleep(0)
            assert len(told) <= MAX_UNASKED + 2
            await one.close()


async def test_a_read_that_hangs_occupies_its_machine_alone() -> None:
    readers, forever = Readers(), threading.Event()
    for _ in range(MAX_READS):
        with pytest.raises(LauncherError, match="was not read"):
            await readers.run("hostile", forever.wait)
    with pytest.raises(LauncherError, match="have not ended"):
        await readers.run("hostile", lambda: 1)
    assert await readers.run("another", lambda: 1) == 1
    forever.set()


async def test_a_screen_with_a_name_of_four_gigabytes(tmp_path: Path) -> None:
    read: list[int] = []

    def play(ours: socket.socket) -> None:
        with ours:
            ours.sendall(b"RFB 003.008\n" + b"\1\1" + b"\0\0\0\0" + b"\0" * 20 + b"\xff\xff\xff\xff")
            try:
                while True:
                    read.append(ours.send(b"x" * 65536))
            except OSError:
                return

    def talk(peer: socket.socket, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(peer, [result(number)], [theirs.fileno()])
        threading.Thread(target=play, args=(ours,), daemon=True).start()

    with hostile(tmp_path, talk) as path:
        async with asyncio.timeout(PATIENCE):
            await streams._wake(path)
    assert sum(read) < 64 * LINE_LIMIT


async def test_a_question_to_a_guest_has_a_short_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "LAUNCHER_SECONDS", 0.2)
    monkeypatch.setattr(connection, "TIMEOUT", PATIENCE * 2)

    def talk(peer: socket.socket, number: int) -> None:
        if number == 1:
            peer.sendall(result(number, '{"state": "running", "agent": true}'))

    with hostile(tmp_path, talk) as path:
        async with asyncio.timeout(PATIENCE):
            one = await Link.connect(path, lambda: None)
            with pytest.raises(LauncherError, match="did not answer to 'agent'"):
                await agents.ask(one, "guest-info")
            await one.close()


def test_nesting_is_counted_outside_of_texts_alone() -> None:
    assert decode(b'{"xml": "' + b"[{" * 1000 + b'\\\\ \\"{ "}') == {"xml": "[{" * 1000 + '\\ "{ '}
    depth = MAX_NESTING - 1
    assert decode(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    with pytest.raises(ValueError, match="nested"):
        decode(b'{"a":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}")


def test_a_state_holds_what_the_agent_knows_and_nothing_else() -> None:
    told = {"state": "running", "reason": "x" * 5000, "since": "now", "id": 7, "agent": 1, "more": {}}
    assert state_of(told) == {"state": "running", "reason": "x" * MAX_TEXT, "id": 7}
    assert state_of({"state": "levitating"}) == {}


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain>",
        '<?xml version="1.0" encoding="utf-16"?><domain/>',
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><domain name="&c;"/>',
        "<a>" * 5000,
    ],
)
def test_a_domain_of_nonsense(xml: str) -> None:
    with pytest.raises(LauncherError, match="cannot be used"):
        described.parsed(xml)


def test_a_domain_of_very_much_is_cut_to_size() -> None:
    long = "9" * 500
    disk = f"<disk><target dev='{long}' bus='scsi'/><alias name='ua-{{}}'/>{{}}</disk>"
    address = f"<address type='drive' controller='0' unit='{long}'/>"
    card = f"<interface><mac address='{long}'/><alias name='ua-nic_net'/></interface>"
    devices = disk.format("data", address) + card + "".join(disk.format(number, "") for number in range(5000))
    xml = f"<domain><os><type machine='{long}'/></os><devices>{devices}</devices></domain>"
    assert len(described.disks(xml)) == described.MAX_DEVICES
    assert described.units(xml) == {0}
    spec = {"domain": {"devices": {"interfaces": [{"name": "net"}]}}, "volumes": [{"name": "data"}]}
    found = described.describe({"metadata": {"name": "a", "namespace": "b"}, "spec": spec}, xml, "", {}, {})
    assert len(json.dumps(found)) < 1000
