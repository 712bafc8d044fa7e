"""A driver's plan for a launcher, with what one machine asks of its launcher."""

from __future__ import annotations

from dataclasses import replace

from polyvisor.api import Obj
from polyvisor.api.consoles import is_logged
from polyvisor.api.host_metrics import metrics_ways
from polyvisor.drivers.base import LauncherPlan


def plan_of(plan: LauncherPlan, spec: Obj, node: str) -> LauncherPlan:
    """Return the plan for the machine of an instance's spec; ``node`` is what it is told as its host's name."""
    return replace(plan, console_log=is_logged(spec), metrics=metrics_ways(spec), node=node)
