"""A real launcher for one machine, and a client that lives through its life: for tests against a real hypervisor."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import domain_name, domain_uuid
from polyvisor.drivers.base import Driver, Endpoint, LauncherPlan
from polyvisor.drivers.pace import Deadline


class Client:
    """One connection to a launcher."""

    def __init__(self, folder: Path, hello: dict[str, Any] | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.number = 0
        deadline = Deadline(40.0)
        while True:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(40)
            self.lines = self.socket.makefile("rb")
            try:
                self.socket.connect(os.fspath(folder / "launcher.sock"))
                self.send(hello or {"hello": {"versions": [1]}})
                self.greeting = self.read()
                return
            except OSError:  # a child of a launcher that was killed may still hold the socket for a moment
                assert not deadline.passed, (folder / "launcher.log").read_text()
                self.close()
                time.sleep(0.01)

    def send(self, message: object) -> None:
        """Send one line."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> dict[str, Any]:
        """Read one line."""
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the launcher closed the connection")
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request, whatever it is; events on the way are kept."""
        self.number += 1
        self.send({"id": self.number, "op": op, **arguments})
        while "event" in (answer := self.read()):
            self.events.append(answer["event"])
        assert answer["id"] == self.number
        return answer

    def result(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Return what a request yields; it must be granted."""
        answer = self.ask(op, **arguments)
        assert "result" in answer, answer
        return dict(answer["result"])

    def until(self, state: str) -> dict[str, Any]:
        """Return the first state of that name, seen by events."""
        now = self.result("state")
        while now["state"] != state:
            now = self.read()["event"]
        return now

    def console(self) -> socket.socket:
        """Make the connection the guest's console."""
        self.result("console")
        return self.socket

    def close(self) -> None:
        """Leave the launcher alone."""
        self.lines.close()
        self.socket.close()


class Bench:
    """A folder with a plan, and launchers that come and go on it."""

    def __init__(self, folder: Path, plan: LauncherPlan, name: str, uuid: str) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        content = {**asdict(plan), "protocol": 1, "domain": {"name": name, "uuid": uuid}}
        (folder / "plan.json").write_text(json.dumps(content))

    def launch(self) -> Client:
        """Start a launcher and connect to it."""
        self.start()
        return Client(self.folder)

    def start(self) -> None:
        """Start a launcher, and let it come up."""
        command = [sys.executable, "-m", "polyvisor.launcher", os.fspath(self.folder)]
        self.process = subprocess.Popen(command, start_new_session=True)

    def kill(self) -> None:
        """Kill the launcher as a crash would; its domain goes on."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def console_log(self) -> bytes:
        """Return what the guest's console has said."""
        return b"".join(p.read_bytes() for n in (".1", "") if (p := self.folder / f"console.log{n}").exists())

    def says(self, text: bytes, seconds: float = 30) -> None:
        """Wait until the console has said ``text``, ``seconds`` at this machine's pace."""
        self.says_again(text, 0, seconds)

    def says_again(self, text: bytes, before: int, seconds: float = 30) -> None:
        """Wait until the console has said ``text`` more often than ``before``."""
        deadline = Deadline(seconds)
        while self.console_log().count(text) <= before:
            assert not deadline.passed, self.console_log()[-2000:]
            time.sleep(0.02)

    def close(self) -> None:
        """End the domain and its launcher, whatever state they are in."""
        if self.process is None:
            return
        if self.process.poll() is not None:
            self.launch()
        client = Client(self.folder)
        client.ask("destroy")
        assert "result" in (answer := client.ask("quit")), answer
        assert self.process.wait(20) == 0
        client.close()


@contextmanager
def bench(
    driver: Driver,
    vmi: VirtualMachineInstance,
    scratch: Path | None = None,
    endpoint: Endpoint | None = None,
    *,
    name: str = "",
) -> Iterator[Bench]:
    """A launcher's folder with a short path, empty of processes when the test is over.

    ``name`` tells the folders of one machine on two nodes apart.
    """
    folder = Path(f"/tmp/pvk{os.getpid()}-{driver.name}{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    uuid = domain_uuid(vmi)
    one = Bench(folder, driver.launcher(folder, scratch, endpoint), driver.domain_name(domain_name(vmi), uuid), uuid)
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(folder)
