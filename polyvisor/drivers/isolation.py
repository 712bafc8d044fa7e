"""How well a driver keeps guests from the node, by its table; in a cluster whoever wants a weaker one needs a right.

A driver is isolated if a guest has a kernel of its own and its launcher no privileges. What a table does not know
counts as lacking, so a driver of another package that says nothing needs the right too.
"""

from __future__ import annotations

from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import FEATURES, Feature
from polyvisor.drivers.verdict import answer

GROUP = "isolation"
ISOLATION = tuple(feature for feature in FEATURES if feature.group == GROUP)


def weaknesses(driver: Driver) -> list[tuple[Feature, Support]]:
    """Return what a driver lacks of isolation, with its own answers."""
    answers = [(feature, answer(driver, feature)) for feature in ISOLATION]
    return [(feature, support) for feature, support in answers if support.verdict is not Verdict.SUPPORTED]


def isolated(driver: Driver) -> bool:
    """Whether a driver keeps guests from the node as a hypervisor does, without privileges of its launcher."""
    return not weaknesses(driver)


def told(driver: Driver) -> str:
    """Return in words what a driver lacks of isolation; empty if nothing."""
    return "; ".join(support.reason or feature.title for feature, support in weaknesses(driver))
