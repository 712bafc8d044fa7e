import asyncio

import pytest

from polyvisor.kube import Backoff, Controller, ShutDown, WorkQueue


async def test_a_key_added_twice_is_one_entry() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_in_work_comes_back_once_and_only_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    async with asyncio.timeout(1):
        assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_get_waits_for_a_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not getting.done()
    queue.add("a")
    assert await getting == "a"


async def test_a_cancelled_get_does_not_swallow_the_wake_up() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    async with asyncio.timeout(1):
        assert await second == "a"


async def test_of_several_delays_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    queue.add_after("b", 60)
    queue.add_after("b", 0.02)
    async with asyncio.timeout(1):
        assert [await queue.get(), await queue.get()] == ["a", "b"]


def test_delays_grow_to_the_cap_and_jitter_only_lengthens() -> None:
    backoff = Backoff(0.1, 5.0, 0.2)
    for failures, plain in ((0, 0.1), (1, 0.2), (3, 0.8), (6, 5.0), (10_000, 5.0)):
        assert plain <= backoff.delay(failures) <= plain * 1.2


async def test_rate_limiting_counts_until_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(Backoff(0.001, 1, 0))
    assert [queue.add_rate_limited("a") for _ in range(3)] == [0.001, 0.002, 0.004]
    assert queue.failures("a") == 3
    queue.forget("a")
    assert queue.add_rate_limited("a") == 0.001


async def test_shutdown_hands_out_what_is_queued_then_raises() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.shutdown()
    queue.add("b")
    assert await queue.get() == "a"
    with pytest.raises(ShutDown):
        await queue.get()


async def test_shutdown_wakes_all_waiters() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shutdown()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(r, ShutDown) for r in results)


async def test_a_controller_never_works_twice_on_one_key_and_retries_failures() -> None:
    queue: WorkQueue[str] = WorkQueue(Backoff(0.001, 0.01))
    running: set[str] = set()
    seen: list[str] = []
    finished = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        assert key not in running
        running.add(key)
        await asyncio.sleep(0)
        running.discard(key)
        seen.append(key)
        if seen.count("bad") < 3 and key == "bad":
            raise RuntimeError("not yet")
        if key == "again" and seen.count("again") < 2:
            return 0.001
        if seen.count("bad") == 3 and seen.count("again") == 2:
            finished.set()
        return None

    queue.add("bad")
    queue.add("again")
    controller = Controller("test", queue, reconcile, workers=4)
    task = asyncio.create_task(controller.run())
    async with asyncio.timeout(2):
        await finished.wait()
        queue.shutdown()
        await task
    assert queue.failures("bad") == 0
