"""A launcher, played: its domain's devices are given, and what it is asked for is written down."""

from __future__ import annotations

import os
from typing import Any

from polyvisor.api import Obj


class PlayedLink:
    """A launcher whose domain has these devices, by name; a subclass says how each looks."""

    user = os.geteuid()

    def __init__(self, **have: str) -> None:
        self.have = have
        self.asked: list[tuple[str, Obj]] = []
        self.fails: Exception | None = None

    def device(self, name: str, what: str) -> str:
        """Return a device's XML."""
        raise NotImplementedError

    async def request(self, operation: str, **arguments: Any) -> Obj:
        if operation == "describe":
            found = "".join(self.device(name, what) for name, what in self.have.items())
            return {"xml": f"<domain><devices>{found}</devices></domain>"}
        self.asked.append((operation, arguments))
        if self.fails:
            raise self.fails
        return {}
