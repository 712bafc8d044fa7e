"""A launcher that was killed and is on its way back: whoever asks for its machine waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.agent import Agent


class Launchers:
    def __init__(self, *, open_: bool, there: bool) -> None:
        self._open, self._there = open_, there

    def get(self, id_: str) -> str | None:
        return f"open {id_}" if self._open else None

    def exists(self, id_: str) -> bool:
        return self._there

    async def ensure(self, id_: str) -> str:
        return f"back {id_}"


@pytest.mark.parametrize(
    ("open_", "there", "found"),
    [(True, True, "open a"), (False, True, "back a"), (False, False, None)],
)
async def test_a_launcher_is_reached(open_: bool, there: bool, found: str | None) -> None:
    agent: Any = Agent.__new__(Agent)
    agent._launchers = Launchers(open_=open_, there=there)
    assert await agent._reached("a") == found
