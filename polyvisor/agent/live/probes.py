"""Probes of the guests on this node: whether a machine is ready, and whether it still lives.

The agent asks, through the launcher, on virtual nodes and on real ones alike; thresholds and times are those of
Kubernetes. A machine with a readiness probe is not ready until the probe has succeeded; one whose liveness probe has
failed too often is ended at once and counts as failed, and its run strategy says what comes of it. A guest that is held
is not asked. Counting begins anew with the agent, but from what the machine's condition said last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from polyvisor.agent.guests.guest_checks import check
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.link.streams import Connect, no_way
from polyvisor.agent.live.status import has_condition, seconds_of
from polyvisor.api import Obj
from polyvisor.api.names import EventType, Phase, Reason, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.kube import EventRecorder, Informer, WorkQueue

LIVENESS = "livenessProbe"
READINESS = "readinessProbe"
PERIOD_SECONDS = 10
FAILURES = 3
NOT_YET = "the readiness probe has not succeeded yet"
Key = tuple[str, str, str]
"""Namespace and name of a machine, and which probe."""


@dataclass(slots=True)
class _Run:
    uid: str
    due: float
    good: bool
    why: str = ""
    successes: int = 0
    failures: int = 0


class ProbeKeeper:
    """Reconciles one probe at a time; ``told`` is called with a machine's uid when its readiness has changed."""

    def __init__(
        self,
        vmis: Informer,
        events: EventRecorder,
        link_of: Callable[[Obj], Link | None],
        told: Callable[[str], None],
        connect_of: Callable[[Obj], Connect] = lambda _: no_way,
    ) -> None:
        self._vmis = vmis
        self._events = events
        self._link_of = link_of
        self._told = told
        self._connect_of = connect_of
        self._runs: dict[Key, _Run] = {}
        self.queue: WorkQueue[Key] = WorkQueue()

    def look(self, uid: str) -> None:
        """Look at the probes of the machine with this uid."""
        for vmi in self._vmis.by_index("uid", uid) if uid else []:
            for kind in (LIVENESS, READINESS):
                if vmi["spec"].get(kind):
                    self.queue.add((vmi["metadata"]["namespace"], vmi["metadata"]["name"], kind))

    def not_ready(self, vmi: Obj) -> str:
        """Return why a running machine is not ready by its probe, empty if it is or has none."""
        if not vmi["spec"].get(READINESS):
            return ""
        run = self._runs.get((vmi["metadata"]["namespace"], vmi["metadata"]["name"], READINESS))
        if run is None or run.uid != vmi["metadata"]["uid"]:
            return "" if _was_ready(vmi) else NOT_YET
        return "" if run.good else run.why or NOT_YET

    async def reconcile(self, key: Key) -> float | None:
        """Ask once if it is time; return when to ask again."""
        namespace, name, kind = key
        vmi = self._vmis.get(namespace, name)
        probe = (vmi or {}).get("spec", {}).get(kind)
        link = self._link_of(vmi) if vmi is not None else None
        if vmi is None or not probe or link is None or not link.active:
            self._runs.pop(key, None)
            return None
        if link.state.get("state") != "running":
            return None  # the next change of its state brings us back
        run = self._run_of(key, vmi, probe)
        if (left := run.due - time.monotonic()) > 0:
            return left
        period = probe.get("periodSeconds") or PERIOD_SECONDS
        run.due = time.monotonic() + period
        try:
            why = await check(probe, vmi, link, self._connect_of(vmi))
        except LauncherGone:
            return None
        if link.state.get("state") == "running":  # an answer of a guest that was held meanwhile says nothing
            await self._count(vmi, link, kind, probe, run, why)
        return max(0.0, run.due - time.monotonic())

    def _run_of(self, key: Key, vmi: Obj, probe: Obj) -> _Run:
        run = self._runs.get(key)
        if run is None or run.uid != vmi["metadata"]["uid"]:
            wait = _started(vmi) + (probe.get("initialDelaySeconds") or 0) - time.time()
            run = _Run(vmi["metadata"]["uid"], time.monotonic() + max(0.0, wait), _was_ready(vmi))
            self._runs[key] = run
        return run

    async def _count(self, vmi: Obj, link: Link, kind: str, probe: Obj, run: _Run, why: str) -> None:
        run.successes, run.failures = (0, run.failures + 1) if why else (run.successes + 1, 0)
        was, before = run.good, run.why
        if not why and run.successes >= (probe.get("successThreshold") or 1):
            run.good = True
        elif run.failures >= (probe.get("failureThreshold") or FAILURES):
            run.good = False
        word = "Readiness" if kind == READINESS else "Liveness"
        run.why = f"{word} probe failed: {why}" if why else ""
        if why and (run.why != before or was != run.good):
            self._events.event(vmi, EventType.WARNING, Reason.UNHEALTHY, run.why)
        if kind == READINESS and (was != run.good or run.why != before):
            self._told(run.uid)
        if kind == LIVENESS and why and run.failures >= (probe.get("failureThreshold") or FAILURES):
            message = f"the machine is ended, because its liveness probe failed {run.failures} times: {why}"
            self._events.event(vmi, EventType.WARNING, Reason.KILLING, message)
            try:
                await link.request("destroy")
            except LauncherGone:
                return
            except LauncherError as error:
                self._events.event(vmi, EventType.WARNING, Reason.KILLING, str(error))


def _was_ready(vmi: Obj) -> bool:
    status = vmi.get("status") or {}
    return status.get("phase") == Phase.RUNNING and has_condition(status, VmiCondition.READY)


def _started(vmi: Obj) -> float:
    for stamp in read_status(vmi).get("phaseTransitionTimestamps") or []:
        if stamp.get("phase") == Phase.RUNNING:
            return seconds_of(stamp["phaseTransitionTimestamp"])
    return time.time()
