"""Conditions of snapshots, restores and clones. As in KubeVirt, what happened is told in ``reason``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api.names import ConditionStatus
from polyvisor.controllers.objects import set_condition, stamp

if TYPE_CHECKING:
    from polyvisor.api import Obj

PROGRESSING, READY, FAILURE = "Progressing", "Ready", "Failure"
MAX_TEXT = 1024


def tell(status: Obj, type_: str, value: bool, text: str, at: datetime) -> None:
    """Set a condition, in place."""
    set_condition(status, type_, ConditionStatus.TRUE if value else ConditionStatus.FALSE, text[:MAX_TEXT], at=at)


def failed(status: Obj, text: str, at: datetime) -> None:
    """Say that it ended in failure, and why."""
    tell(status, PROGRESSING, False, "Operation failed", at)
    tell(status, READY, False, "Not ready", at)
    tell(status, FAILURE, True, text, at)


def error_of(text: str, at: datetime) -> Obj:
    """Return an error as a status holds it."""
    return {"message": text[:MAX_TEXT], "time": stamp(at)}
