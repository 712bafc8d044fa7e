"""Time limits that follow the machine's pace, with a clock that the test moves."""

from __future__ import annotations

import pytest

from polyvisor.drivers.pace import MAX_SLOWNESS, ROUND_SECONDS, Deadline, slowness


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("times", "expected"), [(0.2, 1.0), (1.0, 1.0), (10.0, 10.0), (1e6, MAX_SLOWNESS)])
def test_slowness_is_how_many_times_longer_work_takes(times: float, expected: float) -> None:
    clock = Clock()

    def work() -> None:
        clock.now += ROUND_SECONDS * times

    assert slowness(clock, work) == pytest.approx(expected)


def test_a_limit_that_has_not_passed_measures_nothing() -> None:
    clock = Clock()
    deadline = Deadline(4.0, clock, measure=lambda: pytest.fail("measured"))
    clock.now += 3.9
    assert not deadline.passed
    assert deadline.waited == pytest.approx(3.9)


def test_a_limit_passes_in_time_on_a_fast_machine() -> None:
    clock = Clock()
    deadline = Deadline(4.0, clock, measure=lambda: 1.0)
    clock.now += 4.1
    assert deadline.passed


def test_a_limit_is_stretched_on_a_slow_machine_and_passes_there_too() -> None:
    clock = Clock()
    deadline = Deadline(4.0, clock, measure=lambda: 10.0)
    clock.now += 4.1
    assert not deadline.passed
    clock.now += 35.0
    assert not deadline.passed
    clock.now += 1.0
    assert deadline.passed


def test_a_machine_that_grows_slower_meanwhile_gets_more_time() -> None:
    clock, pace = Clock(), [3.0, 6.0]
    deadline = Deadline(1.0, clock, measure=lambda: pace.pop(0))
    clock.now += 1.1
    assert not deadline.passed
    clock.now += 2.0
    assert not deadline.passed
    clock.now += 3.0
    pace.append(1.0)
    assert deadline.passed, "a limit is never shortened, and it ends"
