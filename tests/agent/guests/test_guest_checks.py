"""What single probes say of a guest that is played by servers on this machine."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.guests.guest_checks import check
from polyvisor.agent.link.connection import LauncherError
from polyvisor.process.certificates import issue_server, make_authority
from polyvisor.process.pairs import load_pair

Obj = dict[str, Any]
VMI: Obj = {"spec": {"domain": {}}, "status": {"interfaces": [{"ipAddress": "127.0.0.1"}]}}


class Asked:
    """A launcher's link whose guest has an agent that answers as given."""

    path = Path("/nowhere")

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.commands: list[Obj] = []

    async def request(self, _operation: str, *, command: Obj, timeout: float, seconds: float) -> Obj:  # noqa: ASYNC109
        self.commands.append(command)
        answer = self.answers[command["execute"].replace("-", "_")]
        if isinstance(answer, Exception):
            raise answer
        return {"answer": answer.pop(0) if isinstance(answer, list) else answer}


@asynccontextmanager
async def served(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    heard: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []  # newer Pythons close a connection whose writer nobody holds

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        heard.append(await reader.read(4096))
        writer.write(answer)
        await writer.drain()
        if answer:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def ask(probe: Obj, link: Any = None) -> str:
    return await check(probe, VMI, link or Asked(), lambda kind: (socket.socket(type=kind), "127.0.0.1"))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 399 Odd\r\n\r\n", ""),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "statuscode: 500"),
        (b"HTTP/1.1 404 No\r\n\r\n", "statuscode: 404"),
        (b"SSH-2.0-x\r\n", "not HTTP"),
        (b"x" * 10000, "not HTTP"),
    ],
)
async def test_a_page(answer: bytes, why: str) -> None:
    async with served(answer) as (port, _):
        found = await ask({"httpGet": {"port": port}})
    assert why in found
    assert bool(why) == bool(found)


async def test_a_page_is_asked_for_with_path_and_headers() -> None:
    async with served(b"HTTP/1.1 200 OK\r\n\r\n") as (port, heard):
        headers = [{"name": "Host", "value": "shop.example"}]
        assert await ask({"httpGet": {"port": str(port), "path": "health", "httpHeaders": headers}}) == ""
    assert heard[0].startswith(b"GET /health HTTP/1.1\r\nHost: shop.example\r\n")


async def test_a_page_that_does_not_come_in_time() -> None:
    async with served(b"") as (port, _):
        assert await ask({"httpGet": {"port": port}, "timeoutSeconds": 1}) == "no answer in 1 s"


async def test_a_page_over_tls_of_whomever() -> None:
    hour = timedelta(hours=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, issue_server(make_authority("test", hour), ["somebody.example"], hour))
    async with served(b"HTTP/1.1 200 OK\r\n\r\n", context) as (port, _):
        assert await ask({"httpGet": {"port": port, "scheme": "HTTPS"}}) == ""
        assert await ask({"httpGet": {"port": port, "scheme": "HTTP"}})


async def test_a_port() -> None:
    async with served(b"hello") as (port, _):
        assert await ask({"tcpSocket": {"port": port}}) == ""
    assert "dialing the machine" in await ask({"tcpSocket": {"port": port}})


async def test_the_agent() -> None:
    assert await ask({"guestAgentPing": {}}, Asked(guest_ping={})) == ""
    silent = Asked(guest_ping=LauncherError("Guest agent is not responding"))
    assert await ask({"guestAgentPing": {}}, silent) == "Guest agent is not responding"


async def test_a_command_in_the_guest() -> None:
    link = Asked(guest_exec={"pid": 7}, guest_exec_status=[{"exited": False}, {"exited": True, "exitcode": 0}])
    assert await ask({"exec": {"command": ["/bin/test", "-e", "/x"]}}, link) == ""
    assert link.commands[0]["arguments"] == {"path": "/bin/test", "arg": ["-e", "/x"], "capture-output": True}

    said = base64.b64encode(b"no such file\n").decode()
    failed = {"exited": True, "exitcode": 2, "err-data": said}
    link = Asked(guest_exec={"pid": 7}, guest_exec_status=failed)
    assert await ask({"exec": {"command": ["false"]}}, link) == "the command ended with exit code 2: no such file"

    link = Asked(guest_exec=LauncherError("The command guest-exec has been disabled for this instance"))
    assert await ask({"exec": {"command": ["false"]}}, link) == "the guest's agent runs no commands"
