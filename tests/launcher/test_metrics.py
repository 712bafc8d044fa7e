"""What a guest is told of its host: vhostmd's forms, and a guest that does not keep to them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from polyvisor.launcher import metrics

STATISTICS = {
    "vcpu.maximum": 2,
    "vcpu.0.time": 1_500_000_000,
    "vcpu.0.state": 1,
    "vcpu.1.time": 250_000_000,
    "vcpu.1.state": 0,
    "balloon.current": 65536,
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUEST_SECONDS", "DISK_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(metrics, name, 0.0)


@pytest.fixture
def guest() -> Iterator[socket.socket]:
    """The guest's end of a channel whose other end is answered."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    thread = threading.Thread(target=metrics.answer_all, args=(theirs, lambda: b"<metrics/>"), daemon=True)
    thread.start()
    yield ours
    ours.close()
    thread.join(20)
    assert not thread.is_alive()


def answer(peer: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n\n"):
        data += peer.recv(100)
    return data


def test_the_document_has_the_metrics_of_host_and_machine() -> None:
    root = etree.fromstring(metrics.document(metrics.collect("node-1", "qemu-7.2.0", STATISTICS)))
    assert root.tag == "metrics"
    found = {(one.get("context"), one.findtext("name")): one for one in root}
    told = {key: (one.findtext("value"), one.get("type"), one.get("unit")) for key, one in found.items()}
    assert told["host", "HostName"] == ("node-1", "string", None)
    assert told["host", "VirtProductInfo"] == ("qemu-7.2.0", "string", None)
    assert told["vm", "TotalCPUTime"] == ("1.750000", "real64", "s")
    assert told["vm", "ResourceProcessorLimit"] == ("1", "int64", None)
    assert told["vm", "PhysicalMemoryAllocatedToVirtualSystem"] == ("65536", "uint64", "KiB")
    for name in ("TotalCPUTime", "FreePhysicalMemory", "UsedVirtualMemory", "Time", "NumberOfPhysicalCPUs"):
        assert float(str(told["host", name][0])) > 0
    assert len(found) == len(root) == 17


def test_a_name_cannot_add_an_element() -> None:
    root = etree.fromstring(metrics.document([("host", "HostName", "string", "a</value><b>&", "")]))
    assert root.findtext("metric/value") == "a</value><b>&"


def test_a_request_is_answered_and_the_next_one_too(guest: socket.socket) -> None:
    for request in (b"GET /metrics/XML\n\n", b"GET /metrics/XML\r\n\r\n", b"GET /metrics/XML?a=b\n\n"):
        guest.sendall(request)
        assert answer(guest) == b"<metrics/>\n\n"


def test_a_request_may_come_in_pieces(guest: socket.socket) -> None:
    for piece in (b"GET /metr", b"ics/XML\n", b"\n"):
        guest.sendall(piece)
    assert answer(guest) == b"<metrics/>\n\n"


@pytest.mark.parametrize(
    "request_", [b"PUT /metrics/XML\n\n", b"GET /other\n\n", b"GET /metrics/XML\nmore\n\n", b"x" * 5000, b"\n\n\n\n"]
)
def test_what_is_no_request_is_refused_and_nothing_of_it_is_left(guest: socket.socket, request_: bytes) -> None:
    guest.sendall(request_)
    assert answer(guest).startswith(metrics.INVALID)
    guest.sendall(b"\n\nGET /metrics/XML\n\n")
    data = b""
    while b"<metrics/>" not in data:
        data += guest.recv(100)
    assert data.replace(metrics.INVALID, b"").rstrip(b"\n") == b"<metrics/>"


def test_the_disk_is_as_vhostmd_writes_it(tmp_path: Path) -> None:
    path = tmp_path / metrics.DISK
    metrics.write_disk(path, b"long ago, and longer")
    metrics.write_disk(path, "<metrics>\u00fc</metrics>".encode())
    data = path.read_bytes()
    mark, busy, total, length = struct.unpack(">4siii", data[:16])
    content = data[16 : 16 + length]
    assert (mark, busy, len(data)) == (b"mvbd", 0, 262144)
    assert content == "<metrics>\u00fc</metrics>\n".encode()
    assert total == sum(content)


def test_a_link_in_the_disks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / metrics.DISK).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        metrics.write_disk(tmp_path / metrics.DISK, b"x")
    assert (tmp_path / "other").read_text() == "other"


def test_a_launcher_serves_the_channel_and_the_disk_until_the_machine_is_over(tmp_path: Path) -> None:
    written, over = threading.Event(), threading.Event()

    def told() -> bytes:
        if (tmp_path / metrics.DISK).exists():
            written.set()
        return b"<metrics/>"

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / metrics.CHANNEL))
        listener.listen(1)
        metrics.begin(["channel", "disk"], tmp_path, told, over.is_set)
        assert (tmp_path / metrics.DISK).stat().st_size == 262144
        assert written.wait(20)
        peer, _ = listener.accept()
        over.set()
        with peer:
            peer.sendall(b"GET /metrics/XML\n\n")
            assert answer(peer) == b"<metrics/>\n\n"
    for thread in threading.enumerate():
        if thread.name.startswith("metrics"):
            thread.join(20)
            assert not thread.is_alive()
