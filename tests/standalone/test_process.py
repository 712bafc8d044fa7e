"""The whole of it: ``polyvisor up`` in a folder of its own, real kubectl beside our command line, and ``down``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from polyvisor.standalone.state import StateFolder
from tests import kept
from tests.needs import open_tree

POLYVISOR = [sys.executable, "-m", "polyvisor.cli"]
KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
ROOT_ONLY = pytest.mark.root


class Installation:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {"POLYVISOR_STATE_DIR": str(root)}

    def __call__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*prefix, *POLYVISOR, *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=150, check=False)

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert KUBECTL
        command = [KUBECTL, "--kubeconfig", str(self.root / "kubeconfig"), *arguments]
        env = {**self.env, "HOME": str(self.root)}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def here() -> Iterator[Installation]:
    with installed() as installation:
        yield installation


@contextmanager
def installed() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    installation = Installation(root)
    kept.recall_probes(StateFolder(root).probe)
    try:
        yield installation
    finally:
        installation("down")
        kept.keep_probes(StateFolder(root).probe)
        shutil.rmtree(root)


def test_up_use_and_down(here: Installation) -> None:
    up = here("up")
    assert up.returncode == 0, up.stderr
    assert "API server on https://127.0.0.1:" in up.stderr
    assert "is Ready" in up.stderr
    again = here("up")
    assert (again.returncode, "runs already" in again.stdout) == (0, True)
    status = json.loads(here("status", "-o", "json").stdout)
    assert status["ready"]
    assert status["nodes"][0]["ready"]
    drivers = json.loads(here("drivers", "-o", "json").stdout)
    assert {"qemu", "lxc"} <= {driver["name"] for driver in drivers}
    assert all({"available", "reason", "version", "virtTypes"} <= driver.keys() for driver in drivers)
    kubevirt = json.loads(here.kubectl("get", "kubevirt", "-n", "kubevirt", "kubevirt", "-o", "json").stdout)
    assert kubevirt["spec"]["configuration"]["developerConfiguration"]["useEmulation"] is True
    refused = here.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1")
    assert '"virtualmachineinstances/console"' in refused.stdout
    figures = here.kubectl("get", "--raw", "/metrics").stdout
    for name in (
        "kubevirt_info",
        "kubevirt_vmi_number_of_outdated",
        "polyvisor_driver_nodes",
        "kubevirt_workqueue_depth",
    ):
        assert f"\n{name}" in figures, name
    anybody = httpx.get(f"{status['url']}/metrics", verify=False, trust_env=False)
    assert anybody.status_code == 401, "figures are for whoever may ask the API server"
    foreground = here("up", "--foreground")
    assert foreground.returncode == 5
    assert f"pid {status['pid']}" in foreground.stderr
    for line in (here.root / "up.log").read_text().splitlines():
        assert {"time", "level", "logger", "message", "component", "node"} <= json.loads(line).keys()
    assert here("down").stdout == "Polyvisor is down.\n"
    assert here("status").returncode == 7
    gone = here("get", "vmi")
    assert gone.returncode == 7
    assert "polyvisor up" in gone.stderr


def test_objects_outlive_a_kill(here: Installation, tmp_path: Path) -> None:
    assert here("up").returncode == 0
    manifest = tmp_path / "cm.yaml"
    manifest.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n")
    assert here("apply", "-f", str(manifest)).returncode == 0
    os.kill(json.loads((here.root / "up.pid").read_text())["pid"], signal.SIGKILL)
    assert here("up").returncode == 0
    assert here("get", "configmap", "kept", "-o", "name").stdout == "configmap/kept\n"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("spec: {domain: {devices: {}, memory: {guest: much}}}", "spec.domain.memory.guest"),
        ("spec: {domain: {devices: {}, memory: {guest: 64Mi}, cpuu: 1}}", "spec.domain.cpuu"),
        ("spec: {domain: {devices: {disks: [{name: x, disk: {}}]}}, volumes: []}", "spec.domain.devices.disks[0]"),
    ],
)
def test_admission_refuses_with_lines(here_once: Installation, tmp_path: Path, manifest: str, said: str) -> None:
    file = tmp_path / "vmi.yaml"
    file.write_text(f"apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: bad}}\n{manifest}\n")
    result = here_once("apply", "-f", str(file))
    assert result.returncode == 3, result.stderr
    assert f"line 4: {said}" in result.stderr
    assert "bad" not in here_once("get", "vmi").stdout


@pytest.fixture(scope="module")
def here_once() -> Iterator[Installation]:
    with installed() as installation:
        assert installation("up").returncode == 0
        yield installation


def test_port_in_use_leaves_nothing(here: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = here("up", "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (here.root / "kubeconfig").exists()
    assert here("status").returncode == 7


def test_damaged_database(here: Installation) -> None:
    (here.root / "db.sqlite").write_bytes(b"this is not a database " * 400)
    result = here("up")
    assert result.returncode == 1
    assert "cannot be used" in result.stderr
    assert "Set it aside" in result.stderr


@ROOT_ONLY
@pytest.mark.parametrize("command", [["up"], ["get", "vmi"]])
def test_no_permission(here: Installation, command: list[str]) -> None:
    nobody = (*open_tree(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    result = here(*command, prefix=nobody)
    assert result.returncode == 8, result.stderr
    assert "ermission denied" in result.stderr
    assert "Traceback" not in result.stderr
