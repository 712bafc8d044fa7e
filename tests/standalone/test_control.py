"""Waiting for the process that starts: as long as it tells that it goes on, unless a limit is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyvisor.drivers.pace import Deadline
from polyvisor.standalone import control
from polyvisor.standalone.failure import TIMEOUT, StartError
from polyvisor.standalone.state import StateFolder


class Clock:
    """Seconds pass when somebody waits in vain."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Wait for a process that tells something every so many seconds."""
    clock = Clock()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    def waited(told: list[tuple[float, dict[str, Any]]], timeout: float | None) -> list[dict[str, Any]]:
        ours, theirs = os.pipe()

        def select(*_: object) -> tuple[list[int], list[int], list[int]]:
            clock.now += control.LOOK_SECONDS
            if told and told[0][0] <= clock.now:
                os.write(theirs, json.dumps(told.pop(0)[1]).encode() + b"\n")
                return [ours], [], []
            return [], [], []

        monkeypatch.setattr(control.select, "select", select)
        monkeypatch.setattr(control, "time", clock)
        try:
            return list(control._progress(ours, StateFolder(tmp_path), timeout, child))
        finally:
            os.close(ours)
            os.close(theirs)

    return waited


def test_a_slow_start_is_waited_for_while_it_tells_what_it_waits_for(wait: Callable[..., Any]) -> None:
    told = [(at * 60.0, {"waiting": "trying the drivers"}) for at in range(1, 60)]
    found = wait([*told, (3600.0, {"ready": {}})], None)
    assert len(found) == 60
    assert found[-1] == {"ready": {}}


def test_one_that_tells_nothing_is_given_up(wait: Callable[..., Any]) -> None:
    with pytest.raises(StartError, match="has told nothing for 300 s") as raised:
        wait([(10.0, {"step": "api", "text": "starting"})], None)
    assert raised.value.code == TIMEOUT


def test_a_limit_that_was_given_holds_whatever_is_told(wait: Callable[..., Any]) -> None:
    told = [(float(at), {"waiting": "trying the drivers"}) for at in range(1, 100)]
    with pytest.raises(StartError, match="not ready after 20 s"):
        wait(told, 20.0)


@pytest.mark.parametrize(("pace", "timeout", "ends"), [(1.0, None, 120), (3.0, None, 360), (3.0, 5.0, 5)])
def test_the_end_is_waited_for_at_the_machines_pace_unless_a_limit_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: float, timeout: float | None, ends: int
) -> None:
    clock = Clock()

    def deadline(seconds: float, measure: Callable[[], float] = lambda: pace) -> Deadline:
        return Deadline(seconds, clock.monotonic, measure)

    def select(*waited: object) -> tuple[list[int], list[int], list[int]]:
        clock.now += float(str(waited[3]))
        return [], [], []

    state = StateFolder(tmp_path)
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    monkeypatch.setattr(control, "running", lambda _: {"pid": sleeper.pid})
    monkeypatch.setattr(control, "Deadline", deadline)
    monkeypatch.setattr(control.select, "select", select)
    monkeypatch.setattr(control.signal, "pidfd_send_signal", lambda *_: None)
    try:
        with pytest.raises(StartError, match=f"has not ended after {ends} s"):
            control.stop(state, keep_guests=False, timeout=timeout)
    finally:
        sleeper.kill()
        sleeper.wait()
