"""``python -m bench.streams``: port forwarding and the console, against a direct connection to the same machine.

The machine is a container, since an emulated guest would be what is measured. All of it runs in a network namespace of
its own, as root. The figures become a section of docs/performance.md of their own.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import page
from bench.home import Home, Obj, home, machine, post_and_wait
from polyvisor.agent.link.connection import open_console
from polyvisor.api.resources import VMIS
from polyvisor.cli.client import Client
from polyvisor.cli.streams import opened
from polyvisor.kube.config import from_kubeconfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
HEADING = "## Streams"
DRIVER, NAME = "lxc", "streams"
BASE = f"/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/{NAME}"
ECHO, SOURCE = 9001, 9002
TURNS, ROUNDS = 5, 200
PORT_BYTES, CONSOLE_BYTES, BURSTS = 256 << 20, 192 << 10, 20
"""A console's reader who is more than 256 KiB behind is let go, so it is read in bursts."""
END = b"that was all"
TEXT = """
Bytes from the machine to a client, and the time of one byte there and back, against a direct connection: TCP to the
machine's address, and the launcher's own socket for the console (in bursts of 192 KiB). Taken in turns, {turns} each;
median and spread. The way of ours: TLS and a websocket to the API server, which hands every message to the agent in the
same process. `python -m bench.streams` measures it, with a container.

| stream | what | direct | ours | part of the direct |
| --- | --- | --- | --- | --- |
"""


@dataclass
class Pipe:
    """One way to the machine."""

    read: Callable[[], Awaitable[bytes]]
    write: Callable[[bytes], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


@dataclass
class Pairs:
    """Figures of one kind, direct and ours."""

    stream: str
    what: str
    unit: str
    direct: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)


async def tcp(address: str, port: int) -> Pipe:
    """Connect directly."""
    return _of(*await asyncio.open_connection(address, port))


async def unix(path: Path) -> Pipe:
    """Have the console from the launcher itself."""
    return _of(*await open_console(path))


async def websocket(client: Client, path: str) -> Pipe:
    """Go through the API server."""
    found = await opened(client, f"{BASE}/{path}")

    async def read() -> bytes:
        data = await found.recv()
        return data if isinstance(data, bytes) else data.encode()

    return Pipe(read, found.send, found.close)


def _of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Pipe:
    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def close() -> None:
        writer.close()

    return Pipe(lambda: reader.read(1 << 16), write, close)


Open = Callable[[], Awaitable[Pipe]]


@asynccontextmanager
async def connected(open_: Open) -> AsyncIterator[Pipe]:
    """Open a pipe for a moment."""
    pipe = await open_()
    yield pipe
    await pipe.close()


async def port_rate(open_: Open) -> float:
    """Return MiB a second from the machine."""
    async with connected(open_) as pipe:
        left, begin = PORT_BYTES, time.perf_counter()
        while left > 0:
            left -= len(await pipe.read())
        return PORT_BYTES / (time.perf_counter() - begin) / 2**20


async def there_and_back(pipe: Pipe) -> float:
    """Return the median of microseconds of one byte's way there and back."""
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await pipe.write(b"x")
        await pipe.read()
        found.append((time.perf_counter() - begin) * 1e6)
    return median(found)


async def port_delay(open_: Open) -> float:
    """Return microseconds there and back, by a port that echoes."""
    async with connected(open_) as pipe:
        return await there_and_back(pipe)


async def told(pipe: Pipe, pattern: bytes) -> int:
    """Read until the console has said something; return how many bytes that took."""
    heard, count = b"", 0
    while not re.search(pattern, heard):
        if not (data := await pipe.read()):
            raise SystemExit(f"the stream ended: {heard!r}")
        count += len(data)
        heard = heard[-256:] + data
    return count


async def ready(pipe: Pipe) -> None:
    """Have a shell that waits for a command."""
    await pipe.write(b"\n")
    heard = b""
    while not re.search(rb"# ", heard):
        heard = heard[-256:] + await pipe.read()
        if heard.rstrip().endswith(b"login:"):
            await pipe.write(b"root\n")
            heard = b""


async def console_rate(open_: Open) -> float:
    """Return MiB a second that the console says."""
    async with connected(open_) as pipe:
        await ready(pipe)
        count, begin = 0, time.perf_counter()
        command = f"head -c {CONSOLE_BYTES} /dev/zero | tr '\\0' x; echo that'' was all\n"
        for _ in range(BURSTS):
            await pipe.write(command.encode())
            count += await told(pipe, END + rb"\r")
        return count / (time.perf_counter() - begin) / 2**20


async def console_delay(open_: Open) -> float:
    """Return microseconds from a key to its echo by the shell."""
    async with connected(open_) as pipe:
        await ready(pipe)
        found = await there_and_back(pipe)
        await pipe.write(b"\x15\n")
        return found


def subject() -> Obj:
    """Return the machine: a container on the Pod's network."""
    obj = machine(NAME, DRIVER)
    obj["spec"] = {**obj["spec"], "networks": [{"name": "default", "pod": {}}]}
    devices = {"interfaces": [{"name": "default", "masquerade": {}}]}
    obj["spec"]["domain"] = {**obj["spec"]["domain"], "devices": devices}
    return obj


async def measure(one: Home) -> list[Pairs]:
    """Measure all of it in turns; the first turn, which warms up, is thrown away."""
    async with one.client() as kube:
        await post_and_wait(kube, subject())
        folder = await one.launcher_folder(kube, NAME)
        while not (address := _address(await kube.get(VMIS, NAME, "default"))):  # noqa: ASYNC110 - it comes at once
            await asyncio.sleep(0.1)
    client, socket = Client(from_kubeconfig(one.folder / "kubeconfig")), folder / "launcher.sock"
    pipe = await unix(socket)
    await ready(pipe)
    await pipe.write(
        f"nc -ll -p {ECHO} -e cat & nc -ll -p {SOURCE} -e cat /dev/zero & sleep 1; echo sta''rted\n".encode()
    )
    await told(pipe, rb"started\r")
    await pipe.close()

    def ways(direct: Open, path: str) -> tuple[Open, Open]:
        return direct, lambda: websocket(client, path)

    plans = [
        (
            Pairs("port-forward", "throughput", "MiB/s"),
            port_rate,
            ways(lambda: tcp(address, SOURCE), f"portforward/{SOURCE}"),
        ),
        (
            Pairs("port-forward", "there and back", "µs"),
            port_delay,
            ways(lambda: tcp(address, ECHO), f"portforward/{ECHO}"),
        ),
        (Pairs("console", "throughput", "MiB/s"), console_rate, ways(lambda: unix(socket), "console")),
        (Pairs("console", "there and back", "µs"), console_delay, ways(lambda: unix(socket), "console")),
    ]
    for turn in range(TURNS + 1):
        for pairs, take, (direct, ours) in plans:
            figures = await take(direct), await take(ours)
            if turn:
                pairs.direct.append(figures[0])
                pairs.ours.append(figures[1])
    return [pairs for pairs, _, _ in plans]


def _address(vmi: Obj) -> str:
    cards = (vmi.get("status") or {}).get("interfaces") or [{}]
    return str(cards[0].get("ipAddress") or "")


def _spread(values: list[float], unit: str) -> str:
    return f"{median(values):.0f} {unit} ({min(values):.0f} to {max(values):.0f})"


def section(found: list[Pairs]) -> str:
    """Return the section of the page."""
    text = f"{HEADING}\n{TEXT.format(turns=TURNS)}"
    for pairs in found:
        part = median(pairs.ours) / median(pairs.direct)
        figure = f"{part:.0%}" if pairs.unit == "MiB/s" else f"{part:.1f} times"
        columns = [pairs.stream, pairs.what, _spread(pairs.direct, pairs.unit), _spread(pairs.ours, pairs.unit), figure]
        text += f"| {' | '.join(columns)} |\n"
    return text


def main() -> None:
    """Run from the command line."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise SystemExit("a network namespace of its own needs root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with home("--network", "bridge") as one:
        text = section(asyncio.run(measure(one)))
    PAGE.write_text(page.put(PAGE.read_text(), text))
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
