"""The newcomer's way: the examples run by the command line, seen by a real kubectl, then shut down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pve", dir="/tmp"))
    subprocess.run(["/usr/bin/python3", "tools/guest_images.py", folder / "images"], cwd=ROOT, check=True)
    yield folder
    _polyvisor(folder, "down")
    shutil.rmtree(folder)


def _polyvisor(state: Path, *arguments: str) -> str:
    done = subprocess.run(
        [BIN / "polyvisor", *arguments],
        cwd=ROOT,
        env={**os.environ, "POLYVISOR_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_both_examples_run(state: Path) -> None:
    _polyvisor(state, "run", "examples/qemu.yaml", "examples/lxc.yaml")
    machines = json.loads(_polyvisor(state, "get", "vmi", "-o", "json"))["items"]
    seen = {(m["status"]["hypervisor"]["driver"], m["status"]["phase"]) for m in machines}
    assert seen == {("qemu", "Running"), ("lxc", "Running")}


def test_kubectl_sees_them(state: Path) -> None:
    config = _polyvisor(state, "kubeconfig").strip()
    done = subprocess.run(
        [BIN / "kubectl", "--kubeconfig", config, "get", "vm,vmi,pods,nodes", "-A", "-o", "wide"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "virtualmachineinstance.kubevirt.io/demo-qemu" in done.stdout
    assert "virtualmachine.kubevirt.io/demo-lxc" in done.stdout
