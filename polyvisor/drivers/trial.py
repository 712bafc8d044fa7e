"""Trying a driver for real: a launcher of its own runs one tiny machine, whose console must say something.

Used by probes. It goes the same way as a user's machine, through a launcher, so that what a probe proves is what users
get. Blocking, with a time limit, and nothing is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyvisor.drivers.base import LauncherPlan

OPEN_SECONDS = 40.0
CALL_SECONDS = 30.0
TAKEN = "already works"
"""The launcher's words where another one has the folder: a trial that was cut short left it, and it will answer."""
UUID = "7ea10000-0000-4000-8000-000000000001"


class TrialError(Exception):
    """The trial failed; the text is libvirt's or the launcher's."""


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
        self._folder = folder
        self._plan = plan
        self._name = name
        self._number = 0
        self._lines: Any = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process: subprocess.Popen[bytes] | None = None
        self.versions = Versions("", "")

    def __enter__(self) -> Trial:
        if (self._folder / "plan.json").exists():
            self._clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        domain = {"name": self._name, "uuid": UUID}
        (self._folder / "plan.json").write_text(json.dumps({**asdict(self._plan), "protocol": 1, "domain": domain}))
        try:
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
            try:
                self._process.wait(CALL_SECONDS if self._lines else 0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self) -> None:
        """End the machine and the launcher of a trial that was cut short."""
        try:
            self._connect()
            self.call("destroy")
            self.call("quit")
            self._lines.read()
        except (TrialError, OSError):
            pass  # a folder that no launcher can use has nothing running
        self._socket.close()
        if self._process:
            self._process.wait()
        self._lines, self._process = None, None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def call(self, operation: str, **arguments: str) -> dict[str, Any]:
        """Ask the launcher for one operation and return its result."""
        if self._lines is None:
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
        """Wait until the machine's console has said ``text``; False if it has not in time."""
        log = self._folder / "console.log"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if log.exists() and text in log.read_bytes():
                return True
            time.sleep(0.02)  # a log file in another process's hands: there is nothing to wait on
        return False

    def _connect(self) -> None:
        """Reach the launcher that works in the folder, or start one."""
        deadline = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                self._socket.connect(os.fspath(self._folder / "launcher.sock"))
                break
            except OSError:
                self._supervise()
                if time.monotonic() > deadline:
                    raise TrialError("libvirt did not answer in time") from None
                time.sleep(0.01)  # nothing tells when the socket appears
        self._socket.settimeout(CALL_SECONDS)
        self._lines = self._socket.makefile("rb")
        self._socket.sendall(b'{"hello": {"versions": [1]}}\n')
        hello = self._read()["hello"]
        self.versions = Versions(hello["hypervisorVersion"], hello["libvirtVersion"])

    def _supervise(self) -> None:
        """Have a launcher on its way."""
        if self._process is None:
            command = [sys.executable, "-m", "polyvisor.launcher", os.fspath(self._folder)]
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(
                command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, start_new_session=True
            )
        elif self._process.poll() is not None:
            assert self._process.stderr is not None
            words = self._process.stderr.read().decode(errors="replace").strip()
            if words and TAKEN not in words:
                raise TrialError(words)

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise TrialError("the launcher ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
