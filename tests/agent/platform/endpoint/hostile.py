"""An endpoint's launcher whose host, or which itself, answers whatever a test has it answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyvisor.agent.link.launcher_messages import LINE_LIMIT
from polyvisor.agent.platform.endpoint.link import HostLink

Answers = dict[str, Any]
"""What is answered by operation; a function is given the request."""
CONNECTED: Answers = {"type": "QEMU", "libvirtVersion": "9.0.0", "events": True, "cpus": 4, "memoryBytes": 1 << 32}


class Process:
    """A process that ends when it is told to."""

    pid = 0

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def kill(self) -> None:
        self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return 0


class Launchers:
    """Stands for :meth:`HostLink.start`; ``started`` are the processes of all links."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.started: list[Process] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, folder: Path, log: Path, told: Callable[[Any], None], *_: Any) -> HostLink:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT)
        process = Process()
        self.started.append(process)
        self._tasks.append(asyncio.create_task(self._serve(theirs, process)))
        return HostLink(process, reader, writer, told, folder, log)  # type: ignore[arg-type]

    async def _serve(self, end: socket.socket, process: Process) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=end)
        while line := await reader.readline():
            asked = json.loads(line)
            answer = self.answers.get(asked.get("op"), {})
            result = answer(asked) if callable(answer) else answer
            writer.write(json.dumps({"id": asked["id"], "result": result}).encode() + b"\n")
        writer.close()
        process.ended.set()

    @property
    def running(self) -> int:
        """How many launchers have not ended."""
        return sum(not one.ended.is_set() for one in self.started)
