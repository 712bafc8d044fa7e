"""The options of ``pods/log`` as the console's log can honour them.

The log holds what the guest wrote to its console, without the time of each line, and of the present start alone. What
follows from that is refused rather than ignored: a client that asks for the last minute must not get a whole day.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from polyvisor.server.errors import Refusal

_TIMES = ("timestamps", "sinceSeconds", "sinceTime")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What a client asked: ``tail`` in lines, ``limit`` in bytes; None for all."""

    container: str
    follow: bool
    tail: int | None
    limit: int | None


def parse(query: Mapping[str, str]) -> LogOptions:
    """Read the options; :class:`Refusal` with 400 for one that cannot be honoured."""
    for name in _TIMES:
        if query.get(name) not in (None, "", "false"):
            message = f"{name} is not supported: the console's log does not have the time of a line; use tailLines"
            raise Refusal(400, message)
    if _flag(query, "previous"):
        raise Refusal(400, "previous is not supported: the log of a VM's present or last start is all that is kept")
    return LogOptions(
        query.get("container", ""), _flag(query, "follow"), _number(query, "tailLines"), _number(query, "limitBytes")
    )


async def limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    """Yield at most ``limit`` bytes."""
    left = limit
    async for chunk in chunks:
        if left is None:
            yield chunk
            continue
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name) in ("true", "1")


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise Refusal(400, f"{name}: {text!r} is not a number of 0 or more")
    return int(text)
