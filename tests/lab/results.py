"""What a lane hands back: steps with their seconds and what was seen, as JSON, and all lanes in one table.

A job inside a host writes its result after each step, so a lane that is cut short shows how far it came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADINGS = ("lane", "driver", "result", "versions", "what ran", "seconds", "CPU s")


@dataclass(frozen=True)
class Step:
    """One thing that a lane did. ``seen``: a line of real output that shows it."""

    name: str
    seconds: float
    seen: str = ""


@dataclass(frozen=True)
class Result:
    """How a lane ended. ``wrong`` is empty where all of its steps were done."""

    lane: str
    driver: str
    versions: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    wrong: str = ""
    seconds: float = 0.0
    """Wall time of the whole lane, without building its root."""
    cpu_seconds: float = 0.0
    """CPU time of the emulator."""

    @property
    def passed(self) -> bool:
        return not self.wrong

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Read what :meth:`to_json`, or a job inside a host, wrote. Raises ValueError or TypeError."""
        found = json.loads(text)
        return cls(**{**found, "steps": tuple(Step(**step) for step in found.get("steps", ()))})

    def to_json(self) -> str:
        """Return the result as JSON."""
        steps = [vars(step) for step in self.steps]
        whole: dict[str, Any] = {**vars(self), "versions": dict(self.versions), "steps": steps}
        return json.dumps(whole, indent=1) + "\n"


class StepError(Exception):
    """A step did not show what it should."""


class Recorder:
    """Records the steps that a lane does from outside its host."""

    def __init__(self, lane: str, driver: str) -> None:
        self._lane = lane
        self._driver = driver
        self._steps: list[Step] = []
        self._now = ""
        self.wrong = ""

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Record a step; the last text in the list is what was seen."""
        self._now = name
        begin, seen = time.monotonic(), [""]
        yield seen
        self._steps.append(Step(name, round(time.monotonic() - begin, 1), seen[-1]))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have the first step that fails end the lane, and stand in its result."""
        try:
            yield
        except Exception as error:
            self.wrong = f"{self._now}: {error}"

    def result(self, versions: Mapping[str, str]) -> Result:
        """Return what was recorded."""
        return Result(self._lane, self._driver, versions, tuple(self._steps), self.wrong)


def read(path: Path, lane: str, driver: str) -> Result:
    """Return the result that a job wrote; where it wrote none, one that says so."""
    try:
        return Result.from_json(path.read_text())
    except (OSError, ValueError, TypeError) as error:
        return Result(lane, driver, wrong=f"the job left no result: {error}")


def row(result: Result) -> tuple[str, ...]:
    """Return a lane's row of the table."""
    return (
        result.lane,
        result.driver,
        "passed" if result.passed else "FAILED",
        ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        ", ".join(step.name for step in result.steps),
        f"{result.seconds:.0f}",
        f"{result.cpu_seconds:.0f}",
    )


def table(results: Sequence[Result]) -> str:
    """Return all lanes as columns of equal width, and below them what went wrong."""
    rows = [HEADINGS, *map(row, results)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    lines += [f"{result.lane}: {result.wrong}" for result in results if result.wrong]
    return "".join(f"{line}\n" for line in lines)
