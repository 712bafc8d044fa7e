"""Which migrations have to wait: for one of the same instance, for too many others, or after failures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api.migrations import MigrationPhase, awaits_hand_over, is_moving, is_over, migration_phase, vmi_name
from polyvisor.api.reading import read_status
from polyvisor.controllers.migration_status import PER_CLUSTER, PER_NODE, positive
from polyvisor.controllers.objects import moment, uid

if TYPE_CHECKING:
    from polyvisor.api import Obj

TRY_AGAIN_SECONDS = 20.0
MAX_BACK_OFF_SECONDS = 640.0
"""The pause before a further evacuation of an instance whose last one failed, and the longest one."""


def waits(migration: Obj, vmi: Obj, known: Iterable[Obj], node_of: Callable[[Obj], str], given: Obj) -> bool:
    """Whether a migration without a target has to wait for others.

    ``known`` are all migrations, ``node_of`` says from which node one of them moves, ``given`` are the settings.
    """
    others = [one for one in known if uid(one) != uid(migration) and not is_over(one)]
    if is_moving(vmi) or awaits_hand_over(vmi) or any(_is_before(one, migration) for one in others if _of(one, vmi)):
        return True
    busy = [one for one in others if migration_phase(one) not in ("", MigrationPhase.PENDING)]
    if len(busy) >= positive(given["parallelMigrationsPerCluster"], PER_CLUSTER):
        return True
    node = read_status(vmi).get("nodeName")
    out = [one for one in busy if node_of(one) == node]
    return len(out) >= positive(given["parallelOutboundMigrationsPerNode"], PER_NODE)


def back_off(vmi: Obj, known: Iterable[Obj], at: datetime) -> float:
    """Return for how many seconds an instance is left alone because its last migrations failed."""
    ended = sorted((one for one in known if _of(one, vmi) and is_over(one)), key=_ended)
    failures = 0
    for one in reversed(ended):
        if migration_phase(one) != MigrationPhase.FAILED:
            break
        failures += 1
    if not failures:
        return 0.0
    since = moment(_ended(ended[-1])) or at
    pause: float = min(TRY_AGAIN_SECONDS * 2 ** (failures - 1), MAX_BACK_OFF_SECONDS)
    return max(0.0, pause - (at - since).total_seconds())


def _of(migration: Obj, vmi: Obj) -> bool:
    where = migration["metadata"]["namespace"], vmi_name(migration)
    return where == (vmi["metadata"]["namespace"], vmi["metadata"]["name"])


def _is_before(one: Obj, other: Obj) -> bool:
    """Whether a migration goes before another: it was made before, or has a target already."""
    begun = migration_phase(one) not in ("", MigrationPhase.PENDING)
    return begun or _age(one) < _age(other)


def _age(migration: Obj) -> tuple[str, str]:
    return str(migration["metadata"].get("creationTimestamp")), uid(migration)


def _ended(migration: Obj) -> str:
    stamps = read_status(migration).get("phaseTransitionTimestamps") or [{}]
    return str(stamps[-1].get("phaseTransitionTimestamp") or "")
