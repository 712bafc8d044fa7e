"""One look at a guest for a probe: a page, a port, a command in it, its agent. The answer is why it failed, or nothing.

What the guest sends is believed of nobody else: of a page only the first line is read, of a command only its exit code
and the beginning of what it wrote.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from typing import Any

from polyvisor.agent.guests import agents
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.link.streams import ByteStream, Connect, port_of
from polyvisor.api import Obj

TIMEOUT_SECONDS = 1
AGENT_PAUSE = 0.1
MOST_LINE = 4096
MOST_SAID = 200
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})")


async def check(probe: Obj, vmi: Obj, link: Link, connect: Connect) -> str:
    """Do what a probe asks for, within its time; return why it failed, empty if it succeeded."""
    seconds = probe.get("timeoutSeconds") or TIMEOUT_SECONDS
    try:
        async with asyncio.timeout(seconds):
            if (page := probe.get("httpGet")) is not None:
                return await _page(page, vmi, link, connect, seconds)
            if (port := probe.get("tcpSocket")) is not None:
                number = int(port["port"])
                await (await port_of(vmi, link.path, number, "tcp", connect, answer_seconds=seconds)).close()
                return ""
            if (command := probe.get("exec")) is not None:
                return await _command(command.get("command") or [], link)
            await agents.ask(link, "guest-ping")
            return ""
    except TimeoutError:
        return f"no answer in {seconds} s"
    except LauncherGone:
        raise
    except (LauncherError, OSError, ssl.SSLError) as error:
        return str(error)


async def _page(page: Obj, vmi: Obj, link: Link, connect: Connect, seconds: float) -> str:
    stream = await port_of(vmi, link.path, int(page["port"]), "tcp", connect, answer_seconds=seconds)
    try:
        if page.get("scheme") == "HTTPS":
            await stream.encrypt()
        path = str(page.get("path") or "/")
        headers = {"Host": "localhost", "User-Agent": "polyvisor-probe", "Accept": "*/*", "Connection": "close"}
        headers |= {str(header["name"]): str(header["value"]) for header in page.get("httpHeaders") or []}
        lines = [f"GET {path if path.startswith('/') else f'/{path}'} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await stream.write("\r\n".join([*lines, "", ""]).encode())
        return _verdict(await _first_line(stream))
    finally:
        await stream.close()


async def _first_line(stream: ByteStream) -> bytes:
    heard = b""
    while b"\n" not in heard and len(heard) < MOST_LINE:
        if not (data := await stream.read()):
            break
        heard += data
    return heard.partition(b"\n")[0]


def _verdict(line: bytes) -> str:
    found = _STATUS.match(line)
    if not found:
        return "the answer is not HTTP" if line else "the connection ended without an answer"
    code = int(found[1])
    return "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"


async def _command(command: list[str], link: Link) -> str:
    """Run a command by the guest's agent and wait for its end."""
    words: Obj = {"path": command[0], "arg": command[1:], "capture-output": True}
    begun = await agents.ask(link, "guest-exec", **words)
    if not isinstance(begun, dict) or not isinstance(begun.get("pid"), int):
        return "the guest's agent runs no commands"
    while True:
        ended = await agents.ask(link, "guest-exec-status", pid=begun["pid"])
        if isinstance(ended, dict) and ended.get("exited"):
            return "" if ended.get("exitcode") == 0 else _complaint(ended)
        await asyncio.sleep(AGENT_PAUSE)  # the agent tells nothing by itself


def _complaint(ended: dict[str, Any]) -> str:
    said = str(ended.get("err-data") or ended.get("out-data") or "")[: 2 * MOST_SAID]
    try:
        text = base64.b64decode(said + "=" * (-len(said) % 4)).decode(errors="replace").strip()[:MOST_SAID]
    except ValueError:
        text = ""
    how = f"exit code {ended['exitcode']}" if "exitcode" in ended else f"signal {ended.get('signal')}"
    return f"the command ended with {how}" + (f": {text}" if text else "")
