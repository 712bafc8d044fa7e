"""Leader election under faults, in a simulation: a clock that jumps, an API server in memory, links that fail.

Nothing waits for real, so a run of hours takes seconds, and a seed repeats it.
"""

from __future__ import annotations

import asyncio
import copy
import random
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from polyvisor.kube import ApiError, KubeClient, WatchEvent, leader
from polyvisor.kube.leader import LeaderElection, LostLease, Timing
from polyvisor.kube.tasks import end_task

Obj = dict[str, Any]
TIMING = Timing()
HOUR = 3600.0


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time is moved on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "all wait for something that will not come"
        self.now += max(timeout, 0.0)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs as fast as there is work."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class Server:
    """One Lease, as an API server keeps it."""

    def __init__(self) -> None:
        self.lease: Obj | None = None
        self.version = 0
        self.links: list[Link] = []
        self.reads = self.writes = 0

    def write(self, lease: Obj) -> Obj:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        for link in self.links:
            for queue in link.watches:
                queue.put_nowait(copy.deepcopy(self.lease))
        return copy.deepcopy(self.lease)


class Link:
    """A candidate's way to the server, which can be slow, refuse, hang, or lose the answer."""

    def __init__(self, server: Server, draw: random.Random) -> None:
        self._server, self._draw = server, draw
        self.refuses = self.hangs = self.silent = self.loses = False
        self.watches: list[asyncio.Queue[Obj | None]] = []
        server.links.append(self)

    async def _way(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._draw.random() * 0.2)
        if self.refuses:
            raise ApiError(0, "Unreachable", "refused")

    async def get(self, *_: Any) -> Obj:
        await self._way()
        self._server.reads += 1
        if self._server.lease is None:
            raise ApiError(404, "NotFound", "no Lease")
        found = copy.deepcopy(self._server.lease)
        await self._way()
        return found

    async def create(self, _: Any, lease: Obj) -> Obj:
        await self._way()
        if self._server.lease is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        return await self._answered(self._server.write(lease))

    async def update(self, _: Any, lease: Obj) -> Obj:
        await self._way()
        if self._server.lease is None:
            raise ApiError(404, "NotFound", "no Lease")
        if lease["metadata"]["resourceVersion"] != self._server.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "somebody was faster")
        return await self._answered(self._server.write(lease))

    async def _answered(self, lease: Obj) -> Obj:
        await self._way()
        if self.loses:
            raise ApiError(0, "Unreachable", "the answer was lost")
        return lease

    async def watch(self, *_: Any, resource_version: str, **__: Any) -> AsyncGenerator[WatchEvent, None]:
        await self._way()
        queue: asyncio.Queue[Obj | None] = asyncio.Queue()
        if self._server.lease and int(resource_version) < self._server.version:
            queue.put_nowait(copy.deepcopy(self._server.lease))
        self.watches.append(queue)
        try:
            async with asyncio.timeout(300):
                while (lease := await queue.get()) is not None:
                    await self._way()
                    if not self.silent:
                        yield WatchEvent("MODIFIED", lease)
        except TimeoutError:
            return
        finally:
            self.watches.remove(queue)

    def drop(self) -> None:
        for queue in self.watches:
            queue.put_nowait(None)


class Candidates:
    """Processes that stand for one Lease; who works is counted."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.server = Server()
        self.links: dict[str, Link] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.working: list[str] = []
        self.terms = 0
        self.broken: list[str] = []

    def start(self, name: str) -> None:
        self.links[name] = Link(self.server, self.draw)
        self.tasks[name] = asyncio.create_task(self._live(name), name=name)

    async def _live(self, name: str) -> None:
        while True:
            client = cast("KubeClient", self.links[name])
            election = LeaderElection(client, "n", "lease", me=name, timing=TIMING)
            with suppress(LostLease):
                await election.run(lambda: self._work(name))
            await asyncio.sleep(1.0)

    async def _work(self, name: str) -> None:
        self.working.append(name)
        self.terms += 1
        if len(self.working) > 1:
            self.broken.append(f"{self.working} at {asyncio.get_running_loop().time():.1f}")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.working.remove(name)

    async def kill(self, name: str) -> None:
        """End a process that has no time to give anything away."""
        self.links[name].refuses = True
        await end_task(self.tasks.pop(name))

    async def close(self) -> None:
        for name in list(self.tasks):
            await self.kill(name)


def simulated(trial: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(trial())


@pytest.mark.parametrize("seed", range(6))
def test_never_two_lead_and_always_one_follows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skew = random.Random(seed)
    monkeypatch.setattr(leader, "micro_stamp", lambda: _skewed(skew))

    async def trial() -> None:
        loop = asyncio.get_running_loop()
        all_ = Candidates(seed)
        for name in ("one", "two", "three"):
            all_.start(name)
        while loop.time() < 2 * HOUR:
            name = all_.draw.choice(sorted(all_.links))
            link = all_.links[name]
            match all_.draw.choice(("kill", "refuses", "hangs", "silent", "loses", "drop", "quit")):
                case "kill":
                    await all_.kill(name)
                    await asyncio.sleep(all_.draw.random() * 30)
                    all_.start(name)
                case "quit":
                    await end_task(all_.tasks.pop(name))
                    all_.start(name)
                case "drop":
                    link.drop()
                case fault:
                    setattr(link, fault, True)
                    await asyncio.sleep(all_.draw.random() * 60)
                    setattr(link, fault, False)
                    if fault == "hangs":  # a connection that hangs is cut in the end
                        all_.server.links.remove(link)
                        await all_.kill(name)
                        all_.start(name)
            assert not all_.broken
            if all_.draw.random() < 0.3:
                await asyncio.sleep(TIMING.lease + TIMING.renew + 4 * TIMING.retry)
                assert len(all_.working) == 1, f"nobody leads at {loop.time():.0f}"
        assert all_.terms > 20
        await all_.close()

    simulated(trial)


def _skewed(draw: random.Random) -> str:
    at = datetime.now(UTC) + timedelta(seconds=draw.uniform(-86400, 86400))
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_an_undisturbed_hour_takes_one_write_each_renewal_and_hardly_a_read() -> None:
    async def trial() -> None:
        all_ = Candidates(1)
        for name in ("one", "two", "three"):
            all_.start(name)
        await asyncio.sleep(60)
        before = all_.server.writes
        reads = all_.server.reads
        await asyncio.sleep(HOUR)
        assert len(all_.working) == 1
        assert all_.server.writes - before <= HOUR / TIMING.retry
        assert all_.server.reads - reads <= 2 * (HOUR / 300 + 1), "each standby reads when its watch ends"
        await all_.close()

    simulated(trial)


def test_a_restarted_process_of_the_same_name_goes_on_at_once() -> None:
    async def trial() -> None:
        all_ = Candidates(1)
        all_.start("one")
        await asyncio.sleep(5)
        assert all_.working == ["one"]
        await all_.kill("one")
        all_.start("one")
        await asyncio.sleep(TIMING.retry)
        assert all_.working == ["one"]
        await all_.close()

    simulated(trial)


def test_a_standby_whose_watch_has_gone_silent_takes_nothing_from_a_leader_that_lives() -> None:
    async def trial() -> None:
        all_ = Candidates(1)
        all_.start("one")
        await asyncio.sleep(5)
        all_.start("two")
        await asyncio.sleep(5)
        all_.links["two"].silent = True
        await asyncio.sleep(HOUR)
        assert (all_.working, all_.terms) == (["one"], 1)
        await all_.kill("one")
        await asyncio.sleep(2 * TIMING.lease + TIMING.retry)
        assert all_.working == ["two"]
        await all_.close()

    simulated(trial)
