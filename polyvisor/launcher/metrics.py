"""What a guest is told of its host: vhostmd's metrics, on a channel that it asks and on a small disk that it reads.

The forms are vhostmd's, with the metrics that KubeVirt has. A request is ``GET /metrics/XML`` and an empty line; the
answer is XML and an empty line. The disk is one of 256 KiB: a head (its mark, whether it is being written, the sum of
the content's bytes, their number) and the XML, written anew every few seconds.

Both are for a guest that is not trusted: a request is short, one a second is answered, and an answer that the guest
does not read holds up nobody but itself.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

Facts = dict[str, Any]
Metric = tuple[str, str, str, Any, str]
"""Context (``host`` or ``vm``), name, type, value and unit (empty: none)."""

CHANNEL = "metrics.sock"
DISK = "metrics.img"
VENDOR = "kubevirt.io"
"""What guests made for KubeVirt find as the vendor of their virtualization."""
INVALID = b"INVALID REQUEST\n\n"
REQUEST = b"GET /metrics/XML"
MAX_REQUEST = 1024
"""Bytes of a request that are read before it counts as invalid."""
REQUEST_SECONDS = 1.0
DISK_SECONDS = 5.0
RETRY_SECONDS = 1.0
DISK_BYTES = 256 * 1024
HEAD = struct.Struct(">4siii")
MARK = b"mvbd"
ONLINE = 1
"""libvirt's state of a virtual CPU that the guest uses; 0 is one that is switched off."""


def begin(ways: list[str], folder: Path, told: Callable[[], bytes], over: Callable[[], bool]) -> None:
    """Tell a guest ``told()`` in some ways (``channel``, ``disk``) until its machine is ``over``; each has a thread.

    The disk is there when this returns, so that the machine can be started with it.
    """
    if "disk" in ways:
        write_disk(folder / DISK, told())
        threading.Thread(target=keep_disk, args=(folder, told, over), daemon=True, name="metrics disk").start()
    if "channel" in ways:
        threading.Thread(target=serve_channel, args=(folder, told, over), daemon=True, name="metrics").start()


def serve_channel(folder: Path, told: Callable[[], bytes], over: Callable[[], bool]) -> None:
    """Answer a guest's requests until its machine is ``over``; the hypervisor listens on the channel's socket."""
    while not over():
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(str(folder / CHANNEL))
            answer_all(peer, told)
        time.sleep(RETRY_SECONDS)


def answer_all(peer: socket.socket, told: Callable[[], bytes]) -> None:
    """Answer what comes from one connection until it ends."""
    held = b""
    while data := peer.recv(MAX_REQUEST):
        held += data
        while held:
            request, end, rest = held.replace(b"\r\n", b"\n").partition(b"\n\n")
            if not end and len(held) < MAX_REQUEST:
                break
            valid = bool(end) and b"\n" not in request and request.partition(b"?")[0] == REQUEST
            held = rest if end else b""
            peer.sendall(told() + b"\n\n" if valid else INVALID)
            time.sleep(REQUEST_SECONDS)


def keep_disk(folder: Path, told: Callable[[], bytes], over: Callable[[], bool]) -> None:
    """Write the disk anew every few seconds until the machine is ``over``."""
    while not over():
        time.sleep(DISK_SECONDS)
        write_disk(folder / DISK, told())


def write_disk(path: Path, content: bytes) -> None:
    """Write the disk, which is made if need be. While it is written its head says so."""
    content += b"\n"
    if len(content) > DISK_BYTES - HEAD.size:
        raise ValueError(f"{len(content)} bytes of metrics do not fit on the disk")
    total = sum(content) & 0xFFFFFFFF
    total -= (total & 0x80000000) << 1
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(file, DISK_BYTES)
        os.pwrite(file, HEAD.pack(MARK, 1, total, len(content)), 0)
        os.pwrite(file, content, HEAD.size)
        os.pwrite(file, HEAD.pack(MARK, 0, total, len(content)), 0)
    finally:
        os.close(file)


def document(metrics: list[Metric]) -> bytes:
    """Return metrics as vhostmd writes them."""
    lines = ["<metrics>"]
    for context, name, kind, value, unit in metrics:
        of = f' unit="{unit}"' if unit else ""
        text = f"{value:.6f}" if kind == "real64" else escape(str(value))
        lines.append(f'  <metric type="{kind}" context="{context}"{of}>')
        lines += [f"    <name>{name}</name>", f"    <value>{text}</value>", "  </metric>"]
    return "\n".join([*lines, "</metrics>"]).encode()


def collect(node: str, product: str, statistics: Facts) -> list[Metric]:
    """Return the metrics: ``product`` is the hypervisor and its version, ``statistics`` libvirt's of the machine."""
    return [
        ("host", "HostName", "string", node, ""),
        ("host", "HostSystemInfo", "string", "linux", ""),
        ("host", "VirtualizationVendor", "string", VENDOR, ""),
        ("host", "VirtProductInfo", "string", product, ""),
        *_of_machine(statistics),
        *_of_host(),
        ("host", "Time", "int64", int(time.time()), "s"),
    ]


def _of_machine(statistics: Facts) -> Iterator[Metric]:
    used, online = 0, 0
    for number in range(int(statistics.get("vcpu.maximum", 0))):
        used += int(statistics.get(f"vcpu.{number}.time", 0))
        online += statistics.get(f"vcpu.{number}.state", 0) >= ONLINE
    yield ("vm", "TotalCPUTime", "real64", used / 1e9, "s")
    yield ("vm", "ResourceProcessorLimit", "int64", online, "")
    memory = statistics.get("balloon.current", 0)
    yield ("vm", "PhysicalMemoryAllocatedToVirtualSystem", "uint64", memory, "KiB")
    yield ("vm", "ResourceMemoryLimit", "uint64", memory, "KiB")


def _of_host() -> Iterator[Metric]:
    packages = {_read(path) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/physical_package_id")}
    if packages:
        yield ("host", "NumberOfPhysicalCPUs", "int64", len(packages), "")
    times = _read(Path("/proc/stat")).partition("\n")[0].split()[1:4]
    if times:
        yield ("host", "TotalCPUTime", "real64", sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), "s")
    if memory := _numbers(Path("/proc/meminfo"), ":"):
        free, total, cached = memory["MemFree"], memory["MemTotal"], memory["Buffers"] + memory["Cached"]
        swapped = memory["SwapTotal"] - memory["SwapCached"]
        for name, value in (
            ("FreePhysicalMemory", free),
            ("FreeVirtualMemory", free + memory["SwapFree"]),
            ("MemoryAllocatedToVirtualServers", total - free - cached),
            ("UsedVirtualMemory", total - free - cached + swapped),
        ):
            yield ("host", name, "uint64", value, "KiB")
    if moved := _numbers(Path("/proc/vmstat"), " "):
        page = os.sysconf("SC_PAGE_SIZE") // 1024
        yield ("host", "PagedInMemory", "uint64", moved["pswpin"] * page, "KiB")
        yield ("host", "PagedOutMemory", "uint64", moved["pswpout"] * page, "KiB")


def _read(path: Path) -> str:
    """Return a file of the kernel's, or nothing where a launcher does not see it."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _numbers(path: Path, mark: str) -> dict[str, int]:
    rows = (line.partition(mark) for line in _read(path).splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in rows if rest.split()[:1]}
