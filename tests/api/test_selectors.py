from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import selectors
from polyvisor.standalone.apiserver.selectors import label_selector

IN = {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]}
NOT_IN = {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}
EXISTS = {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}
ABSENT = {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
BOTH = {"matchLabels": {"app": "web", "tier": "a"}, **EXISTS}


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (None, {"app": "web"}, False),
        ({}, {"app": "web"}, True),
        ({}, None, True),
        ({"matchLabels": {"app": "web"}}, {"app": "web", "more": "x"}, True),
        ({"matchLabels": {"app": "web"}}, {}, False),
        (IN, {"tier": "a"}, True),
        (IN, {"tier": "c"}, False),
        (IN, {}, False),
        (NOT_IN, {"tier": "a"}, False),
        (NOT_IN, {}, True),
        (EXISTS, {"tier": ""}, True),
        (EXISTS, {}, False),
        (ABSENT, {"tier": "a"}, False),
        (ABSENT, {}, True),
        (BOTH, {"app": "web", "tier": "a"}, True),
        (BOTH, {"app": "web", "tier": "b"}, False),
    ],
)
def test_what_is_selected_and_the_same_as_text(selector: Any, labels: Any, matches: bool) -> None:
    assert selectors.matches(selector, labels) is matches
    if selector is not None:
        assert label_selector(selectors.to_text(selector))({"metadata": {"labels": labels}}) is matches


def test_the_text_is_in_order() -> None:
    assert selectors.to_text({"matchLabels": {"b": "2", "a": "1"}, **IN}) == "a=1,b=2,tier in (a,b)"
    assert selectors.to_text(None) == ""


@pytest.mark.parametrize(
    ("selector", "field", "reason"),
    [
        ({"matchLabels": {"-a": "b"}}, "s.matchLabels[-a]", "FieldValueInvalid"),
        ({"matchLabels": {"a": "b c"}}, "s.matchLabels[a]", "FieldValueInvalid"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "s.matchExpressions[0].values", "FieldValueRequired"),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            "s.matchExpressions[0].values",
            "FieldValueForbidden",
        ),
        (
            {"matchExpressions": [{"key": "a b", "operator": "Exists"}]},
            "s.matchExpressions[0].key",
            "FieldValueInvalid",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]},
            "s.matchExpressions[0].values[0]",
            "FieldValueInvalid",
        ),
    ],
)
def test_a_wrong_selector_is_told_where(selector: Any, field: str, reason: str) -> None:
    (problem,) = selectors.problems(selector, "s")
    assert (problem.field, problem.reason) == (field, reason)


def test_a_right_one_has_no_problems() -> None:
    assert selectors.problems({"matchLabels": {"kubevirt.io/x": "y"}, **IN}, "s") == []


MALFORMED: list[Any] = [
    {"matchLabels": [{"app": "web"}]},
    {"matchLabels": "app=web"},
    {"matchLabels": {1: "web"}},
    {"matchExpressions": {"key": "tier"}},
    {"matchExpressions": ["tier"]},
    {"matchExpressions": [{"key": "tier", "operator": "In", "values": "a"}]},
    {"matchExpressions": [{"key": "tier", "operator": "In", "values": [1, {}]}]},
    {"matchExpressions": [{"key": ["tier"], "operator": ["In"], "values": ["a"]}]},
]


@pytest.mark.parametrize("selector", MALFORMED)
def test_a_selector_of_the_wrong_shape_raises_nothing(selector: Any) -> None:
    selectors.matches(selector, {"app": "web", "tier": "a"})
    selectors.to_text(selector)
    selectors.problems(selector, "spec.selector")
