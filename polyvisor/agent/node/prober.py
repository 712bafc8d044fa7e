"""Asking the drivers of a node what works, again and again.

Each driver is asked in a thread, which nobody can stop: so a probe that takes long is left to run, and its answer
counts whenever it comes. Until then what was known of the driver stays. Two are asked at a time, as a probe may boot a
guest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from polyvisor.drivers import trial
from polyvisor.drivers.base import CardKind, Driver, ProbeResult
from polyvisor.drivers.pace import Deadline, has_passed
from polyvisor.drivers.verdict import shown

AT_ONCE = 2
PROBE_SECONDS = 180.0
"""How long others wait for a probe on an idle core; one that takes longer goes on by itself."""
LOOK_SECONDS = 1.0
STOP_SECONDS = 100.0
log = logging.getLogger("polyvisor.probing")


class Prober:
    """What is known of a node's drivers, and who is being asked."""

    def __init__(
        self,
        drivers: Iterable[Driver],
        scratch: Path,
        more: Callable[[], frozenset[str]] = frozenset,
        deadline: Callable[[], Deadline] = lambda: Deadline(PROBE_SECONDS),
    ) -> None:
        """``more`` are features that hold on the node for each driver that works."""
        self._drivers = list(drivers)
        self._scratch = scratch
        self._more = more
        self._deadline = deadline
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[str, asyncio.Task[ProbeResult]] = {}
        self._since: dict[str, float] = {}
        self._known: dict[str, ProbeResult] = {}
        self._waiting = False
        self.how: Callable[[Driver, Path], ProbeResult] = here
        """How one driver is probed in a folder of its own. Blocking."""
        self.cut_short: Callable[[Path], None] = trial.abandon
        """Has the probes in folders below a folder end soon."""
        self.late = asyncio.Event()
        """Set when an answer has come that :meth:`ask` no longer waited for."""

    def awaited(self) -> dict[str, float]:
        """Return which drivers are being tried, by title, and for how many seconds."""
        now = time.monotonic()
        return {d.title: now - self._since[d.name] for d in self._drivers if d.name in self._since}

    @property
    def results(self) -> dict[str, ProbeResult]:
        """What is known, in the drivers' order."""
        return {driver.name: self._known[driver.name] for driver in self._drivers if driver.name in self._known}

    @property
    def again(self) -> bool:
        """Whether a driver is worth another try soon: a time limit passed."""
        return any(result.again for result in self._known.values())

    async def ask(self) -> bool:
        """Ask all drivers that are not being asked already; return whether what is known has changed.

        Returns when all have answered, or when those that have not are no longer waited for.
        """
        before = self.results
        self._waiting = True
        for driver in self._drivers:
            if driver.name not in self._asked:
                task = asyncio.create_task(self._answer(driver), name=f"probe-{driver.name}")
                self._asked[driver.name] = task
                task.add_done_callback(partial(self._answered, driver.name))
        deadline = self._deadline()
        while self._asked:
            await asyncio.wait(self._asked.values(), timeout=LOOK_SECONDS)
            passed = await asyncio.to_thread(has_passed, deadline)
            if passed:
                break
        self._waiting = False
        for title, seconds in self.awaited().items():
            log.warning("the probe of %s has not ended after %.0f s; it goes on", title, seconds)
        for name in self._asked:
            waiting = f"the probe has not ended within {deadline.waited:.0f} s; it goes on"
            self._known.setdefault(name, ProbeResult(available=False, reason=waiting))
        return before != self.results

    async def stop(self) -> None:
        """Cut probes short and wait until what they started has ended."""
        end = time.monotonic() + STOP_SECONDS
        while self._asked and time.monotonic() < end:
            self.cut_short(self._scratch)
            await asyncio.wait(self._asked.values(), timeout=0.1)

    def _answered(self, name: str, task: asyncio.Task[ProbeResult]) -> None:
        del self._asked[name]
        self._since.pop(name, None)
        if not task.cancelled():
            self._known[name] = task.result()
            if not self._waiting:
                self.late.set()

    async def _answer(self, driver: Driver) -> ProbeResult:
        async with self._slots:
            self._since[driver.name] = time.monotonic()
            work = asyncio.ensure_future(asyncio.to_thread(self._probe, driver))
            await asyncio.wait([work], timeout=PROBE_SECONDS)  # one that hangs gives its place back
        return await work

    def _probe(self, driver: Driver) -> ProbeResult:
        return probe(driver, self._scratch / driver.name, self._more(), self.how)


def here(driver: Driver, scratch: Path) -> ProbeResult:
    """Probe a driver with the programs and libraries that this process sees."""
    return driver.probe(scratch)


def probe(
    driver: Driver,
    scratch: Path,
    more: frozenset[str] = frozenset(),
    how: Callable[[Driver, Path], ProbeResult] = here,
) -> ProbeResult:
    """Probe one driver; never raises. Blocking."""
    try:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        result = how(driver, scratch)
    except Exception as error:  # a driver may come from another package; it must not take the node down
        log.exception("probing %s failed", driver.name)
        return ProbeResult(available=False, reason=f"the probe failed: {error}")
    if result.available and driver.cards is not CardKind.NONE:
        result = replace(result, facts=result.facts | more)
    return replace(result, facts=shown(driver, result))
