from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polyvisor.controllers.pools.selection import (
    failing,
    keeps_claims,
    may_be_unavailable,
    ordered,
    scales_in,
    selected,
    to_remove,
)

Obj = dict[str, Any]
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def vm(name: str, hour: int = 1, labels: Obj | None = None, nodes: Obj | None = None, **status: Any) -> Obj:
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-01-01T{hour:02}:00:00Z"},
        "spec": {"template": {"metadata": {"labels": labels or {}}, "spec": {"nodeSelector": nodes or {}}}},
        "status": status,
    }


def names(vms: list[Obj]) -> list[str]:
    return [one["metadata"]["name"] for one in vms]


VMS = [vm("p-1", 3), vm("p-10", 1), vm("p-2", 2)]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("AscendingOrder", ["p-1", "p-2", "p-10"]),
        ("DescendingOrder", ["p-10", "p-2", "p-1"]),
        ("Newest", ["p-1", "p-2", "p-10"]),
        ("Oldest", ["p-10", "p-2", "p-1"]),
    ],
)
def test_the_order_of_a_policy(policy: str, order: list[str]) -> None:
    assert names(ordered(VMS, {"sortPolicy": policy})) == order


def test_without_a_policy_all_come_in_some_order() -> None:
    assert sorted(names(ordered(VMS, {}))) == ["p-1", "p-10", "p-2"]


def test_selectors_match_the_templates_labels_and_its_node_selector() -> None:
    vms = [vm("a", labels={"x": "1"}, nodes={"size": "7"}), vm("b", labels={"x": "1"}), vm("c", nodes={"size": "7"})]
    big = [{"key": "size", "operator": "Gt", "values": ["5"]}]
    assert names(selected(vms, {"selectors": {"labelSelector": {"matchLabels": {"x": "1"}}}})) == ["a", "b"]
    assert names(selected(vms, {"selectors": {"nodeSelectorRequirementMatcher": big}})) == ["a", "c"]
    both = {"labelSelector": {"matchLabels": {"x": "1"}}, "nodeSelectorRequirementMatcher": big}
    assert names(selected(vms, {"selectors": both})) == ["a"]
    small = [{"key": "size", "operator": "Lt", "values": ["5"]}]
    assert names(selected(vms, {"selectors": {"nodeSelectorRequirementMatcher": small}})) == []
    assert names(selected(vms, {})) == ["a", "b", "c"]


def test_what_is_removed_first() -> None:
    strategy = {"proactive": {"selectionPolicy": {"sortPolicy": "DescendingOrder"}}}
    assert names(to_remove({"spec": {"scaleInStrategy": strategy}}, VMS, 2)) == ["p-10", "p-2"]


@pytest.mark.parametrize(
    ("strategy", "scales", "keeps"),
    [
        (None, True, False),
        ({"proactive": {}}, True, False),
        ({"proactive": {"statePreservation": "Offline"}}, True, True),
        ({"opportunistic": {}}, False, False),
        ({"opportunistic": {"statePreservation": "Online"}}, False, True),
        ({"unmanaged": {}}, False, False),
    ],
)
def test_what_a_scale_in_strategy_does(strategy: Obj | None, scales: bool, keeps: bool) -> None:
    pool = {"spec": {"scaleInStrategy": strategy}}
    assert (scales_in(pool), keeps_claims(pool)) == (scales, keeps)


@pytest.mark.parametrize(
    ("replicas", "most", "count"),
    [(4, None, 4), (4, "50%", 2), (3, "10%", 1), (4, 2, 2), (0, None, 1), (None, "100%", 1)],
)
def test_how_many_may_be_unavailable(replicas: int | None, most: int | str | None, count: int) -> None:
    assert may_be_unavailable({"spec": {"replicas": replicas, "maxUnavailable": most}}) == count


def test_a_machine_that_does_not_start_is_replaced_after_a_while() -> None:
    def waiting(name: str, since: str, printable: str = "ErrImagePull") -> Obj:
        ready = {"type": "Ready", "status": "False", "lastTransitionTime": since}
        return vm(name, printableStatus=printable, conditions=[ready])

    vms = [
        vm("often", startFailure={"consecutiveFailCount": 3}),
        vm("twice", startFailure={"consecutiveFailCount": 2}),
        waiting("long", "2026-01-01T11:54:00Z"),
        waiting("short", "2026-01-01T11:58:00Z"),
        waiting("starting", "2026-01-01T11:00:00Z", "Starting"),
    ]
    found, again = failing({"spec": {"autohealing": {}}}, vms, AT)
    assert (names(found), again) == (["often", "long"], 180)
    patient = {"startUpFailureThreshold": 2, "minFailingToStartDuration": "10m"}
    assert names(failing({"spec": {"autohealing": patient}}, vms, AT)[0]) == ["often", "twice"]
    assert failing({"spec": {}}, vms, AT) == ([], None)
