"""The SQLite file and the one thread that writes it.

A write is acknowledged only after its transaction is on disk (WAL, ``synchronous=FULL``). Writes that arrive while
one transaction is being synced share the next, so many writers cost few syncs. The thread decides on conflicts, as it
alone sees the newest state; what it committed is handed over in order, so that readers never see anything that a
crash could take back. The sequence of ``log.rv`` is the resourceVersion; ``AUTOINCREMENT`` keeps it from going back
after compaction.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import Obj, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
  rv INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL,
  name TEXT NOT NULL, body TEXT NOT NULL, previous TEXT, previous_rv INTEGER, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO sqlite_sequence SELECT 'log', 1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'log');
"""
_GROUP = 256
"""Most writes in one transaction."""

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Key = tuple[str, str, str]
"""(kind as group/plural, namespace or '', name)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed step: what became of one object. ``obj`` of a deletion is its last state."""

    rv: int
    type: EventType
    key: Key
    obj: Obj
    previous: Obj | None
    at: float


@dataclass(frozen=True, slots=True)
class Write:
    """A wish: store ``obj`` at ``key`` if its version is ``expected`` (0: if there is none); no ``obj`` deletes.

    ``last`` is the object as watchers shall see it leave, for a deletion.
    """

    key: Key
    expected: int
    obj: Obj | None
    last: Obj | None = None


class Mismatch(Exception):
    """The object was not at the expected version."""


Done = Callable[["Change | Exception"], None]


def stamp(obj: Obj, rv: int) -> Obj:
    """Return the object with its resourceVersion; the argument is left alone."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(rv)}}


def _encode(obj: Obj) -> str:
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False)


class Database:
    """Owns the file and the writer thread. ``deliver`` is called there with each committed batch, in order."""

    def __init__(self, path: Path, deliver: Callable[[Sequence[tuple[Done, Change | Exception]]], None]) -> None:
        self._deliver = deliver
        self._queue: queue.SimpleQueue[tuple[Write, Done] | Callable[[sqlite3.Connection], None] | None]
        self._queue = queue.SimpleQueue()
        self._db = self._open(path)
        self._thread = threading.Thread(target=self._run, name="apiserver-writer", daemon=True)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        existed = path.exists()
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
        try:
            if not existed:
                path.chmod(0o600)
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            db.close()
            if "locked" in str(error):
                raise StorageError(f"{path} is in use by another process") from error
            raise StorageError(f"{path} cannot be opened as a database: {error}") from error
        return db

    def load(self) -> tuple[list[tuple[Key, Obj, int]], list[Change], int, int]:
        """Read everything: objects, the log, the newest and the compacted resourceVersion. Call before start()."""
        objects = [
            ((kind, namespace, name), stamp(json.loads(body), rv), rv)
            for kind, namespace, name, rv, body in self._db.execute("SELECT * FROM objects")
        ]
        log = [
            Change(
                row[0],
                row[1],
                (row[2], row[3], row[4]),
                stamp(json.loads(row[5]), row[0]),
                stamp(json.loads(row[6]), row[7]) if row[6] is not None else None,
                row[8],
            )
            for row in self._db.execute("SELECT * FROM log ORDER BY rv")
        ]
        newest = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name='log'").fetchone()
        compacted = self._db.execute("SELECT value FROM meta WHERE key='compacted'").fetchone()
        return objects, log, newest[0] if newest else 0, compacted[0] if compacted else 0

    def start(self) -> None:
        """Begin to take writes."""
        self._thread.start()

    def submit(self, write: Write, done: Done) -> None:
        """Queue a write; ``done`` comes back through ``deliver``."""
        self._queue.put((write, done))

    def call(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Run an action between two batches, on the writer's thread."""
        self._queue.put(action)

    def compact(self, before: int) -> None:
        """Forget the history up to and including ``before``. A failure leaves it for the next time."""

        def action(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM log WHERE rv <= ?", (before,))
            db.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (before,))
            db.execute("COMMIT")

        self.call(action)

    def close(self) -> None:
        """Finish what is queued, then close the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._db.close()

    def _run(self) -> None:
        stop = False
        while not stop:
            batch: list[tuple[Write, Done]] = []
            actions: list[Callable[[sqlite3.Connection], None]] = []
            item = self._queue.get()
            while True:
                if item is None:
                    stop = True
                elif callable(item):
                    actions.append(item)
                else:
                    batch.append(item)
                if stop or len(batch) >= _GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._deliver(self._commit(batch))
            for action in actions:
                try:
                    action(self._db)
                except sqlite3.Error:
                    self._rollback()

    def _commit(self, batch: Sequence[tuple[Write, Done]]) -> list[tuple[Done, Change | Exception]]:
        results: list[tuple[Done, Change | Exception]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for write, done in batch:
                results.append((done, self._apply(write)))
            self._db.execute("COMMIT")
        except Exception as error:
            self._rollback()
            if len(batch) > 1:  # one that is too large must not fail its neighbours
                return [result for one in batch for result in self._commit([one])]
            full = isinstance(error, sqlite3.Error) and "full" in str(error)
            return [(done, StorageError(str(error), full)) for _, done in batch]
        return results

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _apply(self, write: Write) -> Change | Exception:
        db, key = self._db, write.key
        row = db.execute("SELECT rv, body FROM objects WHERE kind=? AND namespace=? AND name=?", key).fetchone()
        if (row[0] if row else 0) != write.expected:
            return Mismatch()
        body = _encode(write.obj if write.obj is not None else write.last or json.loads(row[1]))
        kind: EventType = "DELETED" if write.obj is None else "MODIFIED" if row else "ADDED"
        at = time.time()
        values: tuple[Any, ...] = (kind, *key, body, row[1] if row else None, row[0] if row else None, at)
        cursor = db.execute(
            "INSERT INTO log (type, kind, namespace, name, body, previous, previous_rv, at) VALUES (?,?,?,?,?,?,?,?)",
            values,
        )
        rv = int(cursor.lastrowid or 0)
        if write.obj is None:
            db.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key)
        else:
            db.execute("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", (*key, rv, body))
        # What readers get is what is on disk, not the caller's object.
        previous = stamp(json.loads(row[1]), row[0]) if row else None
        return Change(rv, kind, key, stamp(json.loads(body), rv), previous, at)
