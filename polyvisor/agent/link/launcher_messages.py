"""What a launcher says, read within limits: one JSON object a line, of bounded length and nesting.

A guest that broke out of its hypervisor is the launcher, so the limits come before the parser: Python's own raises
RecursionError on deep nesting. Between two messages the event loop gets its turn, and messages that nobody asked for
are read at a bounded rate, or one launcher could keep the agent from all others.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

LINE_LIMIT = 1024 * 1024
"""Bytes of one message; a domain's XML is the longest."""
MAX_NESTING = 32
MAX_TEXT = 1000
"""Characters of a message of error that are kept."""
MAX_UNASKED = 64
UNASKED_SECONDS = 1.0
"""How many messages that answer no question are read before the reader pauses, and for how long."""
STATES = ("none", "running", "paused", "shutdown", "shutoff", "crashed")
State = dict[str, Any]
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[^\[\]{}]+")


def decode(line: bytes) -> State:
    """Return the object in a line. Raises ValueError for anything else, before it has cost much."""
    if len(line) > LINE_LIMIT:
        raise ValueError(f"a message of more than {LINE_LIMIT} bytes")
    depth = 0
    for bracket in _BRACKETS.sub(b"", _STRING.sub(b"", line)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            raise ValueError(f"a message nested deeper than {MAX_NESTING} levels")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


async def read_message(reader: asyncio.StreamReader) -> State:
    """Return the next message; the event loop gets its turn even if there are more to read already."""
    await asyncio.sleep(0)
    return decode(await reader.readuntil(b"\n"))


def error_of(message: State) -> tuple[str, str] | None:
    """Return message and code of the error that a message tells of, if it tells of one."""
    if "error" not in message:
        return None
    error = message["error"] if isinstance(message["error"], dict) else {"message": message["error"]}
    return _text(error.get("message")), _text(error.get("code"))


def state_of(told: State) -> State:
    """Return a domain's state as a launcher tells it, with only what the agent knows and in its types."""
    state: State = {"state": told["state"]} if told.get("state") in STATES else {}
    if isinstance(reason := told.get("reason"), str):
        state["reason"] = reason[:MAX_TEXT]
    if isinstance(moving := told.get("moving"), str):
        state["moving"] = moving[:MAX_TEXT]
    for key in ("since", "id"):
        if isinstance(value := told.get(key), int | float) and abs(value) < 1 << 53:
            state[key] = value
    if isinstance(agent := told.get("agent"), bool):
        state["agent"] = agent
    return state


class Unasked:
    """Slows the reading down for a launcher that talks without being asked."""

    def __init__(self) -> None:
        self._many = 0
        self._since = 0.0

    async def one_more(self) -> None:
        """Count a message; wait when there were too many for the time."""
        now = asyncio.get_running_loop().time()
        if now - self._since > UNASKED_SECONDS:
            self._many, self._since = 0, now
        self._many += 1
        if self._many > MAX_UNASKED:
            await asyncio.sleep(UNASKED_SECONDS)


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
