"""Why no node advertises a driver: what the nodes' agents found when they tried it."""

from __future__ import annotations

import json
from collections.abc import Iterable

MAX_REASON = 500
LOOKED_AT = 20
"""Nodes whose reports are read; the rest of a large cluster says the same."""


def reasons(reports: Iterable[str], driver: str) -> str:
    """Return the nodes' reasons in one line, each once; empty if no node has one."""
    found: dict[str, None] = {}
    for _, text in zip(range(LOOKED_AT), reports, strict=False):
        try:
            report = json.loads(text or "[]")
            found |= {_line(one["reason"]): None for one in report if one["name"] == driver and not one["available"]}
        except (ValueError, LookupError, TypeError):
            continue  # an annotation may hold anything
    told = [reason for reason in found if reason]
    more = f" (and {len(told) - 1} other reasons)" if len(told) > 1 else ""
    return f"{told[0]}{more}" if told else ""


def _line(reason: object) -> str:
    return " ".join(str(reason).split())[:MAX_REASON]
