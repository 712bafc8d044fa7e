"""Trying a driver for real: a launcher of its own runs one tiny machine, whose console must say something.

Used by probes. It goes the same way as a user's machine, through a launcher, so that what a probe proves is what users
get. Blocking, with time limits that follow the machine's pace, and nothing is left behind: the launcher of a trial ends
itself and all that it runs when the trial's end of its standard input closes, however that comes about.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.pace import Deadline, slowness
from polyvisor.launcher.strays import end_strays

OPEN_SECONDS = 40.0
CALL_SECONDS = 30.0
END_SECONDS = 90.0
LOOK_SECONDS = 0.02
STATE_SECONDS = 0.5
SLOW = 2.0
"""From this slowness on, what was not heard of in time is not taken for broken."""
ENDED = ("shutoff", "crashed")
TAKEN = "already works"
"""The launcher's words where another one has the folder: a trial that was cut short left it, and it will answer."""
UUID = "7ea10000-0000-4000-8000-000000000001"


class TrialError(Exception):
    """The trial failed; the text is libvirt's or the launcher's. ``again``: a time limit passed."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


_running: set[Trial] = set()


def abandon(below: Path) -> None:
    """Cut short the trials in folders below a folder: each raises :class:`TrialError` soon, and leaves nothing."""
    for trial in list(_running):
        if trial.folder.is_relative_to(below):
            trial.abandon()


@dataclass(frozen=True, slots=True)
class Versions:
    """What the launcher found at the other end."""

    hypervisor: str
    libvirt: str


class Trial:
    """One launcher in a folder of its own; a context manager that leaves nothing behind but ``folder``'s parent.

    If the process that probes is killed in the middle, the next trial in the same folder clears what it left running.
    """

    def __init__(self, folder: Path, plan: LauncherPlan, name: str) -> None:
        self.folder = folder
        self._plan = plan
        self._name = name
        self._number = 0
        self._greeted = False
        self._read_ahead = b""
        self._abandoned = threading.Event()
        self.ended = False
        """Whether the machine was seen to have ended by itself."""
        self.waited = 0.0
        """Seconds that the machine's word was waited for."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process: subprocess.Popen[bytes] | None = None
        self.versions = Versions("", "")

    def __enter__(self) -> Trial:
        _running.add(self)
        try:
            if (self.folder / "plan.json").exists():
                self._clear()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, mode=0o700)
            domain = {"name": self._name, "uuid": UUID}
            (self.folder / "plan.json").write_text(json.dumps({**asdict(self._plan), "protocol": 1, "domain": domain}))
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("destroy")
            self.call("quit")
        except (TrialError, OSError):
            pass
        self._socket.close()
        if self._process:
            self._end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)
        _running.discard(self)

    def abandon(self) -> None:
        """Have whoever waits in this trial give up; may be called on any thread."""
        self._abandoned.set()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Let go of the launcher, which ends at once what it still runs, and wait until it has gone."""
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.close()
        deadline = Deadline(END_SECONDS)
        while process.poll() is None:
            if deadline.passed:
                process.kill()
                process.wait()
            time.sleep(LOOK_SECONDS)
        process.stderr.close()
        end_strays(self.folder, self._plan.strays)

    def _clear(self) -> None:
        """End the machine and the launcher of a trial that was cut short."""
        try:
            self._connect()
            self.call("destroy")
            self.call("quit")
            while True:
                self._read()
        except (TrialError, OSError):
            pass  # it has ended, or the folder is one that no launcher can use
        self._socket.close()
        if self._process:
            self._end(self._process)
        self._greeted, self._read_ahead, self._process = False, b"", None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def call(self, operation: str, **arguments: str) -> dict[str, Any]:
        """Ask the launcher for one operation and return its result."""
        if not self._greeted:
            raise TrialError("the launcher is not there")
        self._number += 1
        self._socket.sendall(json.dumps({"id": self._number, "op": operation, **arguments}).encode() + b"\n")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise TrialError(answer["error"]["message"])
                return dict(answer["result"])

    def says(self, text: bytes, seconds: float) -> bool:
        """Wait until the machine's console has said ``text``; False if it has not in time, or has ended without it."""
        deadline = Deadline(seconds)
        look_at_state = STATE_SECONDS
        while text not in self.console():
            if self.ended or deadline.passed:
                self.waited = deadline.waited
                return False
            if deadline.waited > look_at_state:
                look_at_state = deadline.waited + STATE_SECONDS
                self.ended = self.call("state")["state"] in ENDED
            self._pause()  # a log file in another process's hands: there is nothing to wait on
        return True

    @property
    def slow(self) -> bool:
        """Whether a machine that was not heard of in time may yet run when this host is less busy."""
        return not self.ended and slowness() >= SLOW

    def console(self) -> bytes:
        """Return what the machine's console has said so far."""
        try:
            return (self.folder / "console.log").read_bytes()
        except FileNotFoundError:
            return b""

    def _pause(self) -> None:
        if self._abandoned.wait(LOOK_SECONDS):
            raise TrialError("the trial was stopped")

    def _connect(self) -> None:
        """Reach the launcher that works in the folder, or start one."""
        deadline = Deadline(OPEN_SECONDS)
        while True:
            try:
                self._socket.connect(os.fspath(self.folder / "launcher.sock"))
                break
            except OSError:
                self._supervise()
                if deadline.passed:
                    what = f"libvirt did not answer within {deadline.waited:.0f} s"
                    raise TrialError(what, again=True) from None
                self._pause()  # nothing tells when the socket appears
        self._socket.settimeout(LOOK_SECONDS)
        self._socket.sendall(b'{"hello": {"versions": [1]}}\n')
        hello = self._read()["hello"]
        self._greeted = True
        self.versions = Versions(hello["hypervisorVersion"], hello["libvirtVersion"])

    def _supervise(self) -> None:
        """Have a launcher on its way."""
        if self._process is None:
            command = [sys.executable, "-m", "polyvisor.launcher", "--trial", os.fspath(self.folder)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        elif self._process.poll() is not None:
            assert self._process.stderr is not None
            words = self._process.stderr.read().decode(errors="replace").strip()
            if words and TAKEN not in words:
                raise TrialError(words)

    def _read(self) -> dict[str, Any]:
        """Return the launcher's next line."""
        deadline = Deadline(CALL_SECONDS)
        while b"\n" not in self._read_ahead:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                if self._abandoned.is_set():
                    raise TrialError("the trial was stopped") from None
                if deadline.passed:
                    what = f"the launcher did not answer within {deadline.waited:.0f} s"
                    raise TrialError(what, again=True) from None
                continue
            if not data:
                raise TrialError("the launcher ended")
            self._read_ahead += data
        line, _, self._read_ahead = self._read_ahead.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
