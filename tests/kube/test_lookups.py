from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import CONFIGMAPS, NAMESPACES, Resource
from polyvisor.kube.lookups import resolve
from tests.cluster import running

Lookup = Callable[[Resource, str, str], Obj | None]


async def test_what_is_looked_up_is_fetched_and_the_decision_made_again(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        for name, data in (("a", {"next": "b"}), ("b", {"next": "c"})):
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
            await client.create(CONFIGMAPS, obj | {"data": data})
        calls = 0

        def decide(lookup: Lookup) -> list[str]:
            nonlocal calls
            calls += 1
            found, name = [], "a"
            while (obj := lookup(CONFIGMAPS, "default", name)) is not None:
                found.append(name)
                name = obj["data"]["next"]
            assert lookup(NAMESPACES, "", "default") is not None or calls == 1
            return found

        assert await resolve(client, decide) == ["a", "b"]
        assert calls == 4


async def test_a_decision_that_never_ends_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        count = iter(range(100))
        with pytest.raises(RuntimeError, match="goes on"):
            await resolve(client, lambda lookup: lookup(NAMESPACES, "", f"n{next(count)}"))
