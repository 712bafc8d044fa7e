"""The state folder: where everything of one standalone installation lives, and who holds it.

Its path is kept short, because Unix sockets stand below it. ``up.pid`` is both a lock and a note: whoever holds the
lock is the running process, so a pid that was left behind by a crash deceives nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER, BRIDGE = "user", "bridge"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths of one installation."""

    root: Path

    @classmethod
    def default(cls) -> StateFolder:
        """Return $POLYVISOR_STATE_DIR, else /var/lib/polyvisor for root and a folder of the user's for others."""
        if given := os.environ.get("POLYVISOR_STATE_DIR"):
            return cls(Path(given).absolute())
        if os.geteuid() == 0:
            return cls(Path("/var/lib/polyvisor"))
        data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        return cls(Path(data) / "polyvisor")

    @property
    def database(self) -> Path:
        """The store of all objects."""
        return self.root / "db.sqlite"

    @property
    def kubeconfig(self) -> Path:
        """Credentials and address for clients."""
        return self.root / "kubeconfig"

    @property
    def pid_file(self) -> Path:
        """Lock and note of the running process."""
        return self.root / "up.pid"

    @property
    def log(self) -> Path:
        """The process's log, one JSON object a line."""
        return self.root / "up.log"

    @property
    def launchers(self) -> Path:
        """One folder a launcher."""
        return self.root / "l"

    @property
    def endpoints(self) -> Path:
        """One folder an endpoint: its launcher's log and private files."""
        return self.root / "e"

    @property
    def network(self) -> str:
        """How machines are networked: ``bridge`` if that was asked for, else ``user``."""
        try:
            return BRIDGE if (self.root / "network").read_text().strip() == BRIDGE else USER
        except OSError:
            return USER

    def choose_network(self, kind: str) -> None:
        """Keep how machines are networked from the next start on."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "network").write_text(f"{kind}\n")

    @property
    def probe(self) -> Path:
        """What drivers keep of what they found out about this machine."""
        return self.root / "probe"


class AlreadyRunning(Exception):
    """Another process holds the state folder."""

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(f"already running with pid {info.get('pid', '?')}")
        self.info = info


class PidFile:
    """The lock on a state folder; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock and note our pid; raise :class:`AlreadyRunning` if somebody has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise AlreadyRunning(_read(self._path)) from error
        self._fd = fd
        self.write({"pid": os.getpid()})

    def write(self, info: dict[str, Any]) -> None:
        """Replace the note (pid, url, ready)."""
        data = json.dumps(info).encode() + b"\n"
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def release(self) -> None:
        """Let go; the file is emptied, not removed, since removing it would let two processes lock two files."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def running(path: Path) -> dict[str, Any] | None:
    """Return the note of the process that holds ``path``, or None if none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path)
    finally:
        os.close(fd)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
