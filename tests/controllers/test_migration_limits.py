"""Which migrations wait, as a function of what there is."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import Obj
from polyvisor.controllers.migration_limits import waits
from polyvisor.controllers.migration_status import settings


def migration(name: str, phase: str = "Pending") -> Obj:
    metadata = {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"vmiName": "m"}, "status": {"phase": phase}}


def instance(node: str, **state: Any) -> Obj:
    moved = {"migrationUid": "before", "sourceNode": "n1", "targetNode": "n2", **state}
    return {"metadata": {"name": "m", "namespace": "default"}, "status": {"nodeName": node, "migrationState": moved}}


@pytest.mark.parametrize(
    ("node", "state", "expected"),
    [
        ("n1", {}, True),
        ("n1", {"completed": True}, True),  # the guest is on n2, and would be ended there if another began
        ("n2", {"completed": True}, False),
        ("n1", {"completed": True, "failed": True}, False),
    ],
)
def test_a_migration_waits_until_the_one_before_is_handed_over(node: str, state: Obj, expected: bool) -> None:
    """Its own object may be gone: whoever may delete it may also take its finalizer away."""
    one = migration("next")
    assert waits(one, instance(node, **state), [one], lambda _: node, settings({})) is expected
