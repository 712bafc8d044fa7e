"""Asking drivers what works: slow ones hold up nobody, late answers count, and the end leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from polyvisor.agent.node import prober as probing
from polyvisor.agent.node.prober import Prober
from polyvisor.drivers.base import LauncherPlan, ProbeResult
from polyvisor.drivers.pace import Deadline
from polyvisor.drivers.trial import Trial, TrialError

from ..conftest import PlainDriver

WORKS, FAILS = ProbeResult(True, version="1"), ProbeResult(False, "it is not installed")


class Played(PlainDriver):
    """A driver whose probe answers when it is let."""

    def __init__(self, name: str, *answers: ProbeResult | Exception, held: bool = False) -> None:
        super().__init__()
        self.name = self.title = name
        self.answers = list(answers)
        self.go, self.begun = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def probe(self, scratch: Path) -> ProbeResult:
        self.begun.set()
        assert self.go.wait(60)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def impatient() -> Deadline:
    return Deadline(0.0, measure=lambda: 1.0)


async def test_all_answer_in_the_drivers_order_and_news_are_told(tmp_path: Path) -> None:
    first, second = Played("one", WORKS, held=True), Played("two", FAILS, WORKS)
    prober = Prober([first, second], tmp_path)
    asking = asyncio.create_task(prober.ask())
    await asyncio.to_thread(second.begun.wait, 60)
    first.go.set()
    assert await asking
    assert list(prober.results.items()) == [("one", WORKS), ("two", FAILS)]
    assert await prober.ask(), "the second works now"
    assert not await prober.ask()
    assert not prober.late.is_set()


async def test_one_that_raises_is_not_available_and_takes_nobody_down(tmp_path: Path) -> None:
    prober = Prober([Played("bad", ValueError("no such thing")), Played("good", WORKS)], tmp_path)
    await prober.ask()
    assert prober.results == {"bad": ProbeResult(False, "the probe failed: no such thing"), "good": WORKS}


async def test_a_slow_one_is_shown_as_awaited_and_its_late_answer_counts(tmp_path: Path) -> None:
    slow = Played("slow", WORKS, held=True)
    prober = Prober([slow, Played("quick", FAILS)], tmp_path, deadline=impatient)
    await prober.ask()
    assert list(prober.awaited()) == ["slow"]
    assert prober.results["quick"] == FAILS
    assert not prober.results["slow"].available
    assert "has not ended" in prober.results["slow"].reason
    assert not prober.late.is_set()
    slow.go.set()
    await prober.late.wait()
    assert prober.results["slow"] == WORKS
    assert prober.awaited() == {}


async def test_what_was_known_stays_while_a_probe_is_at_it(tmp_path: Path) -> None:
    driver = Played("one", WORKS, FAILS)
    prober = Prober([driver], tmp_path, deadline=impatient)
    await prober.ask()
    driver.go.clear()
    assert not await prober.ask()
    assert prober.results == {"one": WORKS}
    driver.go.set()
    await prober.late.wait()
    assert prober.results == {"one": FAILS}


async def test_those_that_hang_give_their_places_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.01)
    hang = [Played(f"hangs{number}", WORKS, held=True) for number in range(probing.AT_ONCE)]
    prober = Prober([*hang, Played("good", WORKS)], tmp_path, deadline=impatient)
    await prober.ask()
    async with asyncio.timeout(60):
        while prober.results["good"] != WORKS:
            await prober.late.wait()
            prober.late.clear()
    assert prober.results["good"] == WORKS
    for driver in hang:
        driver.go.set()
    await prober.stop()


async def test_a_time_limit_that_passed_is_worth_another_try(tmp_path: Path) -> None:
    prober = Prober([Played("one", ProbeResult(False, "too slow", again=True), WORKS)], tmp_path)
    await prober.ask()
    assert prober.again
    await prober.ask()
    assert not prober.again


async def test_the_end_cuts_trials_short_and_waits_for_them(tmp_path: Path) -> None:
    inside = threading.Event()

    class Trying(PlainDriver):
        name = "trying"

        def probe(self, scratch: Path) -> ProbeResult:
            try:
                with Trial(scratch / "t", LauncherPlan(uri="test:///default"), "tried") as trial:
                    inside.set()
                    trial.says(b"never", 3600)
                    return WORKS
            except TrialError as error:
                return ProbeResult(False, str(error))

    prober = Prober([Trying()], tmp_path)
    asking = asyncio.create_task(prober.ask())
    await asyncio.to_thread(inside.wait, 60)
    await prober.stop()
    await asking
    assert prober.results == {"trying": ProbeResult(False, "the trial was stopped")}
    assert not (tmp_path / "trying" / "t").exists()
