"""What lanes hand back, and the table of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import results
from tests.lab.results import Recorder, Result, Step, StepError

DONE = Result(
    "kvm", "qemu", {"QEMU": "7.2.22"}, (Step("up", 20.5, "polyvisor is up"), Step("boot", 12.0)), "", 61.4, 99
)


def test_a_result_survives_as_json() -> None:
    assert Result.from_json(DONE.to_json()) == DONE


@pytest.mark.parametrize("text", [None, "{", '{"lane": "kvm", "other": 1}'])
def test_a_job_without_a_result_failed(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "result.json"
    if text is not None:
        path.write_text(text)
    found = results.read(path, "kvm", "qemu")
    assert not found.passed
    assert found.wrong.startswith("the job left no result: ")


def test_the_table_shows_each_lane_and_what_went_wrong() -> None:
    failed = Result("xen", "xen", wrong="login prompt: not seen after 400 s")
    lines = results.table([DONE, failed]).splitlines()
    assert lines[0].split() == ["lane", "driver", "result", "versions", "what", "ran", "seconds", "CPU", "s"]
    assert lines[1].split() == ["kvm", "qemu", "passed", "QEMU", "7.2.22", "up,", "boot", "61", "99"]
    assert lines[2].split() == ["xen", "xen", "FAILED", "0", "0"]
    assert lines[3] == "xen: login prompt: not seen after 400 s"


def test_the_first_step_that_fails_ends_the_lane() -> None:
    recorder = Recorder("xen", "xen")
    with recorder.whole():
        with recorder.step("connect") as seen:
            seen.append("connected")
        with recorder.step("boot"):
            raise StepError("no login prompt")
    found = recorder.result({})
    assert [(step.name, step.seen) for step in found.steps] == [("connect", "connected")]
    assert found.wrong == "boot: no login prompt"
