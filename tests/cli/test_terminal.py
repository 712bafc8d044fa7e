"""Commands that hold a terminal or go on for ever, each as a process of its own: console, run --console, get -w."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig

from .conftest import Cli, Server

Obj = dict[str, Any]
API = "/apis/kubevirt.io/v1/namespaces/default"
VMIS = f"{API}/virtualmachineinstances"
COMMAND = [sys.executable, "-m", "polyvisor.cli"]


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def clean(on_server: Cli, server: Server) -> None:
    assert on_server("delete", "vmi,vm,pods", "--all", "--grace-period", "0").code == 0
    server.node.asked.clear()


def vmi(name: str, phase: str = "") -> Obj:
    obj: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
    }
    return obj | ({"status": {"phase": phase}} if phase else {})


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, *arguments: str) -> None:
        self.screen, self.line = pty.openpty()
        self.before = termios.tcgetattr(self.line)
        files = {"stdin": self.line, "stdout": self.line, "stderr": self.line}
        self.process = subprocess.Popen([*COMMAND, *arguments], start_new_session=True, **files)  # type: ignore[call-overload]
        self.seen = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 8
        while text not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.seen
            self.seen += os.read(self.screen, 4096)

    def type(self, data: bytes) -> None:
        os.write(self.screen, data)

    @property
    def raw(self) -> bool:
        flags = termios.tcgetattr(self.line)[3]
        return not flags & (termios.ECHO | termios.ICANON | termios.ISIG)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.line) == self.before


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    one = Terminal(*arguments)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        os.close(one.screen)
        os.close(one.line)


def test_console_has_the_terminal_raw_until_its_escape(client: Client) -> None:
    client.request("POST", VMIS, vmi("demo", "Running"))
    with terminal("console", "demo") as one:
        one.until(b"login: ")
        assert b"Escape with ^]" in one.seen
        assert one.raw
        one.type(b"\x03root\r")  # ^C is the guest's
        one.until(b"echo:\x03root\r")
        one.type(b"bye\x1dignored")
        assert one.process.wait(8) == 0
        one.until(b"Disconnected")
        assert b"ignored" not in one.seen
        assert one.restored


def test_console_gives_the_terminal_back_when_the_guest_ends_or_it_is_killed(client: Client) -> None:
    client.request("POST", VMIS, vmi("demo", "Running"))
    with terminal("console", "demo") as one:
        one.until(b"login: ")
        one.type(b"logout\r")
        one.until(b"the console was closed")
        assert one.process.wait(8) == 1
        assert one.restored
    with terminal("console", "demo") as one:
        one.until(b"login: ")
        assert one.raw
        one.process.terminate()
        assert one.process.wait(8) == 143
        assert one.restored


def test_run_joins_the_console_once_the_machine_runs(client: Client, tmp_path: Path) -> None:
    manifest = tmp_path / "vmi.json"
    manifest.write_text(json.dumps(vmi("late")))
    with terminal("run", str(manifest), "--console") as one:
        one.until(b"late: Pending")
        client.request(
            "PATCH", f"{VMIS}/late", {"status": {"phase": "Running"}}, content_type="application/merge-patch+json"
        )
        one.until(b"login: ")
        one.type(b"\x1d")
        assert one.process.wait(8) == 0


def test_run_with_a_console_takes_one_machine(on_server: Cli, tmp_path: Path) -> None:
    manifest = tmp_path / "two.yaml"
    manifest.write_text("\n---\n".join(json.dumps(vmi(name, "Running")) for name in ("a", "b")))
    refused = on_server("run", str(manifest), "--console")
    assert refused.code == 2
    assert "--console joins one machine, and the manifest has 2" in refused.err


def test_missing_image_is_told_while_run_waits(on_server: Cli, client: Client, tmp_path: Path) -> None:
    """The API takes any reference, for an image may still come; so it is the waiting that has to say it."""
    spec = {"volumes": [{"name": "root", "containerDisk": {"image": "nowhere:1"}}]}
    obj = vmi("lost")
    obj["spec"] |= spec
    manifest = tmp_path / "vmi.json"
    manifest.write_text(json.dumps(obj))
    made = client.request("POST", VMIS, obj)
    message = "no image nowhere:1 in the image store; there are: none"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "lost.1", "namespace": "default"},
        "involvedObject": {
            "kind": "VirtualMachineInstance",
            "namespace": "default",
            "name": "lost",
            "uid": made["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "ErrImagePull",
        "message": message,
        "lastTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    client.request("POST", "/api/v1/namespaces/default/events", event)
    waited = on_server("run", str(manifest), "--timeout", "1")
    assert waited.code == 6
    assert message in waited.err
    assert "not running yet" in waited.err
    assert "Traceback" not in waited.err


def test_restart_by_force_ends_the_pod_at_once(on_server: Cli, client: Client) -> None:
    template = {"metadata": {}, "spec": vmi("x")["spec"]}
    vm = {"metadata": {"name": "demo"}, "spec": {"runStrategy": "Always", "template": template}}
    client.request("POST", f"{API}/virtualmachines", {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", **vm})
    uid = client.request("POST", VMIS, vmi("demo", "Running"))["metadata"]["uid"]
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "demo", "uid": uid}
    for name, owners in (("virt-launcher-demo", [owner]), ("other", [])):
        pod = {"metadata": {"name": name, "ownerReferences": owners, "finalizers": ["test.example/hold"]}}
        pod["spec"] = {"nodeName": "n", "containers": [{"name": "compute", "image": "x"}]}  # type: ignore[assignment]
        client.request("POST", "/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
    try:
        assert on_server("restart", "demo", "--force").code == 0
        assert client.get(f"{VMIS}/demo")["spec"]["terminationGracePeriodSeconds"] == 0
        killed = client.get("/api/v1/namespaces/default/pods/virt-launcher-demo")["metadata"]
        assert killed["deletionGracePeriodSeconds"] <= 1
        assert "deletionTimestamp" not in client.get("/api/v1/namespaces/default/pods/other")["metadata"]
        requests = client.get(f"{API}/virtualmachines/demo")["status"]["stateChangeRequests"]
        assert requests == [{"action": "Stop", "uid": uid}, {"action": "Start"}]
    finally:
        for name in ("virt-launcher-demo", "other"):
            free: Obj = {"metadata": {"finalizers": None}}
            path = f"/api/v1/namespaces/default/pods/{name}"
            client.request("PATCH", path, free, content_type="application/merge-patch+json")


class Watching:
    """``get -w`` in a pipe; its lines are read as they come."""

    def __init__(self, *arguments: str) -> None:
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen([*COMMAND, "get", *arguments], stdout=subprocess.PIPE, text=True, env=buffered)
        self.lines: list[str] = []
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify()

    def until(self, holds: Callable[[str], bool]) -> str:
        with self._more:
            assert self._more.wait_for(lambda: any(map(holds, self.lines)), 8), self.lines
            return next(line for line in self.lines if holds(line))


@contextmanager
def watching(*arguments: str) -> Iterator[Watching]:
    one = Watching(*arguments)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def test_watch_shows_what_is_there_then_each_change(client: Client) -> None:
    client.request("POST", VMIS, vmi("first", "Pending"))
    with watching("vmi", "-w") as one:
        one.until(lambda line: line.startswith("first") and "Pending" in line)
        assert one.lines[0].startswith("NAME")
        client.request(
            "PATCH", f"{VMIS}/first", {"status": {"phase": "Running"}}, content_type="application/merge-patch+json"
        )
        one.until(lambda line: line.startswith("first") and "Running" in line)
        client.request("POST", VMIS, vmi("second", "Failed"))
        one.until(lambda line: line.startswith("second") and "Failed" in line)
        assert len([line for line in one.lines if line.startswith("NAME")]) == 1


def test_watch_of_one_object_and_of_none(client: Client, on_server: Cli) -> None:
    assert on_server("get", "vmi", "nobody", "-w").code == 4
    assert on_server("get", "vmi,vm", "-w").code == 2
    client.request("POST", VMIS, vmi("one"))
    with watching("vmi", "one", "-w", "-o", "name") as one:
        one.until(lambda line: line.endswith("/one"))
        client.request("POST", VMIS, vmi("two"))
        client.request(
            "PATCH", f"{VMIS}/one", {"metadata": {"labels": {"a": "b"}}}, content_type="application/merge-patch+json"
        )
        one.until(lambda _: len(one.lines) >= 2)
        assert {line.rpartition("/")[2] for line in one.lines} == {"one"}
