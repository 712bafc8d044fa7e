from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polyvisor.agent.live import probes
from polyvisor.agent.live.probes import LIVENESS, READINESS, ProbeKeeper

Obj = dict[str, Any]
UID = "11111111-2222-3333-4444-555555555555"


class Machine:
    """A machine, its launcher's link, and what its guest answers; all that a keeper of probes looks at."""

    def __init__(self, **spec: Obj) -> None:
        metadata = {"name": "one", "namespace": "default", "uid": UID}
        stamp = {"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}
        status: Obj = {"phase": "Running", "phaseTransitionTimestamps": [stamp]}
        self.vmi: Obj = {"metadata": metadata, "spec": spec, "status": status}
        self.state = {"state": "running"}
        self.active = True
        self.asked = 0
        self.why = ""
        self.requests: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.keeper = ProbeKeeper(self, self, lambda _: self, self.told.append)  # type: ignore[arg-type]

    def get(self, *_: str) -> Obj:
        return self.vmi

    def by_index(self, *_: str) -> list[Obj]:
        return [self.vmi]

    def event(self, _obj: Obj, _kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    async def request(self, operation: str) -> None:
        self.requests.append(operation)
        self.active = False

    async def check(self, *_: Any) -> str:
        self.asked += 1
        return self.why

    async def ask(self, kind: str, why: str = "", times: int = 1) -> None:
        """Let the probe ask that often, though its period has not passed."""
        self.why = why
        for _ in range(times):
            for run in self.keeper._runs.values():
                run.due = 0.0
            await self.keeper.reconcile(("default", "one", kind))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def make(**spec: Obj) -> Machine:
        made = Machine(**spec)
        monkeypatch.setattr(probes, "check", made.check)
        return made

    return make


Make = Callable[..., Machine]


async def test_a_machine_is_ready_once_its_probe_has_succeeded_often_enough(machine: Make) -> None:
    one = machine(readinessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2})
    assert one.keeper.not_ready(one.vmi) == "the readiness probe has not succeeded yet"
    await one.ask(READINESS)
    assert one.keeper.not_ready(one.vmi)
    await one.ask(READINESS)
    assert one.keeper.not_ready(one.vmi) == ""
    assert one.told == [UID]


async def test_it_is_not_ready_after_too_many_failures_and_recovers(machine: Make) -> None:
    one = machine(readinessProbe={"tcpSocket": {"port": 1}, "failureThreshold": 2})
    await one.ask(READINESS)
    await one.ask(READINESS, "refused")
    assert one.keeper.not_ready(one.vmi) == ""
    await one.ask(READINESS, "refused")
    assert one.keeper.not_ready(one.vmi) == "Readiness probe failed: refused"
    assert ("Unhealthy", "Readiness probe failed: refused") in one.events
    await one.ask(READINESS)
    assert one.keeper.not_ready(one.vmi) == ""
    assert one.requests == []


async def test_a_failure_between_successes_ends_no_machine(machine: Make) -> None:
    one = machine(livenessProbe={"tcpSocket": {"port": 1}})
    for _ in range(3):
        await one.ask(LIVENESS, "refused", 2)
        await one.ask(LIVENESS)
    assert one.requests == []


async def test_a_machine_whose_liveness_probe_fails_is_ended(machine: Make) -> None:
    one = machine(livenessProbe={"tcpSocket": {"port": 1}})
    await one.ask(LIVENESS, "refused", 2)
    assert one.requests == []
    await one.ask(LIVENESS, "refused")
    assert one.requests == ["destroy"]
    assert one.events[-1] == (
        "Killing",
        "the machine is ended, because its liveness probe failed 3 times: refused",
    )
    assert one.keeper.not_ready(one.vmi) == "", "it has no readiness probe"


async def test_a_guest_that_is_held_is_not_asked(machine: Make) -> None:
    one = machine(livenessProbe={"tcpSocket": {"port": 1}})
    one.state = {"state": "paused"}
    assert await one.keeper.reconcile(("default", "one", LIVENESS)) is None
    assert one.asked == 0


async def test_an_answer_that_was_held_up_by_a_pause_does_not_count(machine: Make) -> None:
    one = machine(livenessProbe={"tcpSocket": {"port": 1}, "failureThreshold": 1})

    async def paused_meanwhile(*_: Any) -> str:
        one.state = {"state": "paused"}
        return "no answer in 1 s"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "check", paused_meanwhile)
        await one.ask(LIVENESS)
    assert one.requests == []


async def test_the_first_question_waits(machine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(livenessProbe={"tcpSocket": {"port": 1}, "initialDelaySeconds": 60, "periodSeconds": 7})
    began = probes.seconds_of("2026-01-01T00:00:00Z")
    monkeypatch.setattr(probes.time, "time", lambda: began + 20)
    left = await one.keeper.reconcile(("default", "one", LIVENESS))
    assert left == pytest.approx(40, abs=1)
    assert one.asked == 0
    monkeypatch.setattr(probes.time, "time", lambda: began + 90)
    one.keeper._runs.clear()
    assert await one.keeper.reconcile(("default", "one", LIVENESS)) == pytest.approx(7, abs=1)
    assert one.asked == 1


async def test_a_new_agent_believes_that_a_ready_machine_is_ready(machine: Make) -> None:
    one = machine(readinessProbe={"tcpSocket": {"port": 1}, "failureThreshold": 2})
    one.vmi["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert one.keeper.not_ready(one.vmi) == ""
    await one.ask(READINESS, "refused")
    assert one.keeper.not_ready(one.vmi) == ""
    await one.ask(READINESS, "refused")
    assert one.keeper.not_ready(one.vmi)
