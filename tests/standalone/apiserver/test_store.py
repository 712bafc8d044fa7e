"""The store by itself: versions, history, durability, failures of the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from polyvisor.standalone.apiserver.database import Mismatch
from polyvisor.standalone.apiserver.errors import Obj, StatusError, StorageError
from polyvisor.standalone.apiserver.store import WATCH_BACKLOG, Store


def key(name: str, kind: str = "/configmaps", namespace: str = "default") -> tuple[str, str, str]:
    return kind, namespace, name


def thing(name: str, value: object = 0) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "value": value}


async def test_versions_rise_and_are_kept(tmp_path: Path) -> None:
    async with Store(tmp_path / "db").opened() as store:
        first = await store.put(key("a"), thing("a"), 0)
        rv = int(first["metadata"]["resourceVersion"])
        second = await store.put(key("a"), thing("a", 1), rv)
        assert int(second["metadata"]["resourceVersion"]) == rv + 1 == store.rv
    async with Store(tmp_path / "db").opened() as store:
        assert store.get(*key("a")) == second
        assert store.rv == rv + 1


async def test_expected_version_decides(store: Store) -> None:
    made = await store.put(key("a"), thing("a"), 0)
    with pytest.raises(Mismatch):
        await store.put(key("a"), thing("a"), 0)
    with pytest.raises(Mismatch):
        await store.remove(key("a"), 999)
    with pytest.raises(Mismatch):
        await store.put(key("none"), thing("none"), 5)
    await store.remove(key("a"), int(made["metadata"]["resourceVersion"]))
    assert store.get(*key("a")) is None


async def test_of_many_writers_one_wins(store: Store) -> None:
    made = await store.put(key("a"), thing("a"), 0)
    rv = int(made["metadata"]["resourceVersion"])
    tries = [store.put(key("a"), thing("a", number), rv) for number in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, dict) for one in results) == 1
    assert sum(isinstance(one, Mismatch) for one in results) == 19


async def test_versions_never_go_back_after_compaction(tmp_path: Path) -> None:
    async with Store(tmp_path / "db").opened() as store:
        made = await store.put(key("a"), thing("a"), 0)
        gone = await store.remove(key("a"), int(made["metadata"]["resourceVersion"]))
        last = int(gone["metadata"]["resourceVersion"])
        store.compact(keep=0, seconds=0)
    async with Store(tmp_path / "db").opened() as store:
        assert (store.rv, store.compacted) == (last, last)
        again = await store.put(key("b"), thing("b"), 0)
        assert int(again["metadata"]["resourceVersion"]) == last + 1


async def test_list_of_the_past(store: Store) -> None:
    made = await store.put(key("a"), thing("a", 1), 0)
    await store.put(key("b"), thing("b"), 0)
    then = store.rv
    await store.put(key("a"), thing("a", 2), int(made["metadata"]["resourceVersion"]))
    found = store.get(*key("b"))
    assert found is not None
    await store.remove(key("b"), int(found["metadata"]["resourceVersion"]))
    await store.put(key("c"), thing("c"), 0)
    past = store.list_at("/configmaps", None, then)
    assert [(one["metadata"]["name"], one["value"]) for one in past] == [("a", 1), ("b", 0)]
    present = store.select("/configmaps")
    assert [(one["metadata"]["name"], one["value"]) for one in present] == [("a", 2), ("c", 0)]
    store.compact(keep=0, seconds=0)
    with pytest.raises(StatusError) as error:
        store.list_at("/configmaps", None, then)
    assert error.value.code == 410


async def test_watch_gets_history_then_news_of_its_kind(tmp_path: Path) -> None:
    async with Store(tmp_path / "db").opened() as store:
        await store.put(key("old"), thing("old"), 0)
        since = store.rv
        await store.put(key("a"), thing("a"), 0)
    async with Store(tmp_path / "db").opened() as store:  # history outlives the process
        with store.watch("/configmaps", None, since) as watch:
            await store.put(key("b"), thing("b"), 0)
            await store.put(key("x", kind="/pods"), thing("x"), 0)
            await store.put(key("c"), thing("c"), 0)
            assert [change.key[2] for change in await watch.next()] == ["a", "b", "c"]
            assert await watch.next(0.01) == []


async def test_watch_before_compaction_is_gone(store: Store) -> None:
    await store.put(key("a"), thing("a"), 0)
    await store.put(key("b"), thing("b"), 0)
    store.compact(keep=1, seconds=0)
    with pytest.raises(StatusError) as error, store.watch("/configmaps", None, store.rv - 2):
        pass
    assert (error.value.code, error.value.reason) == (410, "Expired")
    with store.watch("/configmaps", None, store.rv - 1) as watch:
        assert [change.key[2] for change in await watch.next()] == ["b"]


async def test_compaction_keeps_young_changes(store: Store) -> None:
    for number in range(5):
        await store.put(key(f"n{number}"), thing(f"n{number}"), 0)
    store.compact(keep=0, seconds=3600)
    assert store.compacted == 0
    store.compact(keep=2, seconds=0)
    assert store.compacted == store.rv - 2


async def test_a_slow_watch_is_cut_off(store: Store) -> None:
    with store.watch("/configmaps", None, store.rv) as watch:
        await asyncio.gather(*(store.put(key(f"n{n}"), thing(f"n{n}"), 0) for n in range(WATCH_BACKLOG + 1)))
        assert watch.closed


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    async with Store(tmp_path / "db").opened():
        with pytest.raises(StorageError, match="in use"):
            await Store(tmp_path / "db").open()


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_text("something else, and long enough to be looked at " * 50)
    with pytest.raises(StorageError, match="cannot be opened"):
        await Store(path).open()
    assert path.read_text().startswith("something else")


async def test_file_is_private(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async with Store(tmp_path / "db").opened() as store:
        kept = await store.put(key("kept"), thing("kept"), 0)
        await limit_pages(store, 40)
        big = thing("big", "x" * 1_000_000)
        small = thing("small")
        results = await asyncio.gather(
            store.put(key("big"), big, 0), store.put(key("small"), small, 0), return_exceptions=True
        )
        assert isinstance(results[0], StorageError)
        assert results[0].full
        assert isinstance(results[1], dict), "a neighbour in the batch must not fail with it"
        assert store.get(*key("big")) is None
        await limit_pages(store, 1_000_000)
        assert await store.put(key("big"), big, 0)
    async with Store(tmp_path / "db").opened() as store:
        assert store.get(*key("kept")) == kept
        assert store.get(*key("big")) is not None


async def limit_pages(store: Store, pages: int) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def action(db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA max_page_count={pages}")
        loop.call_soon_threadsafe(done.set)

    assert store._database is not None
    store._database.call(action)
    await done.wait()


_WRITER = """
import asyncio, sys
from pathlib import Path
from polyvisor.standalone.apiserver.store import Store

async def writer(store, number):
    count = 0
    while True:
        name = f"w{number}-{count}"
        made = await store.put(("/configmaps", "default", name), {"metadata": {"name": name}, "v": "x" * 500}, 0)
        print("put", name, made["metadata"]["resourceVersion"], flush=True)
        if count % 3 == 0:
            await store.remove(("/configmaps", "default", name), int(made["metadata"]["resourceVersion"]))
            print("gone", name, 0, flush=True)
        count += 1

async def main():
    async with Store(Path(sys.argv[1])).opened() as store:
        await asyncio.gather(*(writer(store, number) for number in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 40, 150, 400])
async def test_kill_loses_no_acknowledged_write(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "db"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - nothing else runs on this loop
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        seen += process.stdout.readlines()
    told = [line.decode().split() for line in seen if line.endswith(b"\n")]
    assert len(told) >= lines
    gone = {name for what, name, _ in told if what == "gone"}
    async with Store(path).opened() as store:
        for what, name, rv in told:
            found = store.get("/configmaps", "default", name)
            if what == "put" and name not in gone and not name_may_be_gone(name):
                assert found is not None, f"{name} was acknowledged and is lost"
                assert found["metadata"]["resourceVersion"] == rv
            if what == "gone":
                assert found is None, f"{name} came back"
        assert store.rv >= max(int(rv) for _, _, rv in told)


def name_may_be_gone(name: str) -> bool:
    """Every third is deleted right after; the kill may come between the deletion and its acknowledgement."""
    return int(name.split("-")[1]) % 3 == 0


async def test_closing_ends_watches_and_refuses_writes(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    await store.open()
    with store.watch("/configmaps", None, store.rv) as watch:
        waiting = asyncio.create_task(watch.next())
        await asyncio.sleep(0)
        await store.close()
        assert await waiting == []
    with pytest.raises(StorageError):
        await store.put(key("a"), thing("a"), 0)
    with contextlib.suppress(StorageError):
        await store.close()
