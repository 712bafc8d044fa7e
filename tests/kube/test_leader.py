from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyvisor.api.resources import LEASES
from polyvisor.kube import KubeClient
from polyvisor.kube.leader import LeaderElection, LostLease, Timing
from polyvisor.kube.tasks import end_task
from tests.cluster import running

QUICK = Timing(1.0, 0.6, 0.05)
SLOW = Timing(60.0, 40.0, 0.05)
"""A lease that does not run out while a test waits: who follows then was let in."""


class Working:
    """Work that says when it begins and ends."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self) -> None:
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with running(tmp_path) as found:
        yield found


def candidate(
    client: KubeClient, me: str, timing: Timing = QUICK
) -> tuple[LeaderElection, Working, asyncio.Task[None]]:
    election, work = LeaderElection(client, "default", "lease", me=me, timing=timing), Working()
    return election, work, asyncio.create_task(election.run(work))


async def within(seconds: float, what: Any) -> None:
    async with asyncio.timeout(seconds):
        await what


async def test_one_of_two_works_and_the_other_follows_at_once_when_it_leaves(client: KubeClient) -> None:
    _, first, one = candidate(client, "one", SLOW)
    await within(20, first.began.wait())
    _, second, two = candidate(client, "two", SLOW)
    with pytest.raises(TimeoutError):
        await within(1, second.began.wait())
    await end_task(one)
    assert first.ended.is_set()
    await within(SLOW.lease / 2, second.began.wait())
    lease = (await client.get(LEASES, "lease", "default"))["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("two", 1)
    await end_task(two)


async def test_a_leader_that_was_held_up_is_not_certain_any_more(client: KubeClient) -> None:
    """By its own clock, before it has had the time to ask: another may lead by now."""
    election, work, task = candidate(client, "one", SLOW)
    assert not election.certain
    await within(20, work.began.wait())
    assert election.certain
    election._now = lambda: asyncio.get_running_loop().time() + SLOW.renew  # type: ignore[method-assign]
    assert election.leading
    assert not election.certain
    await end_task(task)


async def test_of_replicas_that_begin_together_one_makes_ready(client: KubeClient) -> None:
    ready: list[str] = []

    def candidate(me: str) -> LeaderElection:
        async def prepare() -> None:
            ready.append(me)

        return LeaderElection(client, "default", "lease", me=me, timing=SLOW, prepare=prepare)

    one, two = candidate("one"), candidate("two")
    following = asyncio.create_task(two.acquire())
    await within(20, asyncio.wait({asyncio.create_task(one.acquire()), following}, return_when="FIRST_COMPLETED"))
    held = (await client.get(LEASES, "lease", "default"))["spec"]["holderIdentity"]
    with pytest.raises(TimeoutError):
        await within(1, asyncio.Event().wait())
    assert ready == [held]
    await end_task(following)


async def test_a_leader_that_dies_is_followed_when_its_lease_is_over(client: KubeClient) -> None:
    dead = LeaderElection(client, "default", "lease", me="dead", timing=QUICK)
    await dead.acquire()
    _, work, task = candidate(client, "heir")
    began = asyncio.get_running_loop().time()
    await within(5, work.began.wait())
    assert asyncio.get_running_loop().time() - began >= QUICK.lease * 0.9
    await end_task(task)


async def test_a_leader_whose_lease_was_taken_stops_at_once(client: KubeClient) -> None:
    election, work, task = candidate(client, "one")
    await within(5, work.began.wait())
    await client.patch(LEASES, "lease", {"spec": {"holderIdentity": "thief"}}, "default")
    await within(1, work.ended.wait())
    with pytest.raises(LostLease, match="thief"):
        await task
    assert not election.leading
    assert (await client.get(LEASES, "lease", "default"))["spec"]["holderIdentity"] == "thief"


@pytest.mark.parametrize("how", ["refused", "hangs"])
async def test_a_leader_cut_off_from_the_api_server_stops_before_others_may_start(
    client: KubeClient, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    election, work, task = candidate(client, "one")
    await within(5, work.began.wait())

    async def cut(*_: Any, **__: Any) -> Any:
        if how == "hangs":
            await asyncio.get_running_loop().create_future()
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(client._http, "request", cut)
    await within(QUICK.lease * 0.9, work.ended.wait())
    with pytest.raises(LostLease):
        await task
    assert not election.leading


async def test_work_that_fails_ends_the_leadership_with_its_reason(client: KubeClient) -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await LeaderElection(client, "default", "lease", me="one", timing=QUICK).run(fails)
    assert (await client.get(LEASES, "lease", "default"))["spec"]["holderIdentity"] == ""
