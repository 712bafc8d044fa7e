"""Conditions in a status: set, dropped, asked for."""

from __future__ import annotations

from polyvisor.api import Obj
from polyvisor.api.conditions import drop_condition, find_condition, has_condition, set_condition


def test_the_transition_time_moves_only_with_the_value() -> None:
    status: Obj = {}
    set_condition(status, "Ready", "False", "Starting", "soon", at="1")
    set_condition(status, "Ready", "False", "Waiting", at="2")
    assert status == {
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "1", "reason": "Waiting"}]
    }
    set_condition(status, "Ready", "True", at="3")
    assert find_condition(status, "Ready") == {"type": "Ready", "status": "True", "lastTransitionTime": "3"}
    assert has_condition(status, "Ready")
    assert not has_condition(status, "Paused")


def test_a_condition_is_dropped_only_for_the_reasons_that_are_named() -> None:
    status: Obj = {"conditions": [{"type": "Ready", "status": "False", "reason": "Starting"}]}
    drop_condition(status, "Ready", frozenset({"Other"}))
    assert status["conditions"]
    drop_condition(status, "Ready")
    assert status == {"conditions": []}
    untouched: Obj = {}
    drop_condition(untouched, "Ready")
    assert untouched == {}
