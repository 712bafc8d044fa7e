"""A host that was never seen: no images, no kernel, programs that come later, a tenth of a core, a change of mind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .standalone import BIN, Standalone

pytestmark = pytest.mark.e2e

SHARE = 0.1
"""How much of a core a slow host has."""
HYPERVISOR = Path("/usr/bin/qemu-system-x86_64")
MACHINE = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachineInstance",
    "metadata": {"name": "bare"},
    "spec": {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachGraphicsDevice": False}},
    },
}


@pytest.fixture
def home() -> Iterator[Standalone]:
    """An installation with an empty image store."""
    folder = Path(tempfile.mkdtemp(prefix="pve", dir="/tmp"))
    found = Standalone(folder)
    (folder / "machine.json").write_text(json.dumps(MACHINE))
    yield found
    subprocess.run(polyvisor("delete", "vmi", "bare"), env=environment(found), capture_output=True, check=False)
    found.run("down")
    shutil.rmtree(folder)


def polyvisor(*arguments: str) -> list[str]:
    return [str(BIN / "polyvisor"), *arguments]


def environment(home: Standalone, **more: str) -> dict[str, str]:
    return {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder), "POLYVISOR_PROBE_KERNEL": "/nonexistent", **more}


def drivers(home: Standalone) -> dict[str, Any]:
    found = json.loads(home.run("drivers", "-o", "json"))
    return {driver["name"]: driver for driver in found}


@pytest.fixture
def slow_group() -> Iterator[Path]:
    """A control group whose processes together have a tenth of a core."""
    root = Path("/sys/fs/cgroup")
    first = (root / "cpu") if (root / "cpu" / "cpu.cfs_quota_us").exists() else root
    group = first / f"polyvisor-slow-{os.getpid()}"
    group.mkdir()
    if first == root:
        (group / "cpu.max").write_text(f"{int(100_000 * SHARE)} 100000")
    else:
        (group / "cpu.cfs_quota_us").write_text(str(int(100_000 * SHARE)))
    yield group
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:  # what the test has left running goes on elsewhere
            with suppress(OSError):
                (first / "cgroup.procs").write_text(pid)
    group.rmdir()


def test_qemu_is_proved_without_any_kernel(home: Standalone) -> None:
    subprocess.run(polyvisor("up"), env=environment(home), check=True, timeout=240)
    assert "qemu" in drivers(home)["qemu"]["virtTypes"]
    home.run("run", home.folder / "machine.json")


@pytest.mark.proof
def test_a_tenth_of_a_core_is_slow_and_not_wrong(home: Standalone, slow_group: Path) -> None:
    def join() -> None:
        (slow_group / "cgroup.procs").write_text(str(os.getpid()))

    up = subprocess.run(
        polyvisor("up"), env=environment(home), preexec_fn=join, capture_output=True, text=True, timeout=570
    )
    assert up.returncode == 0, up.stderr
    assert "trying the hypervisor drivers: QEMU (" in up.stderr, "what is awaited is shown"
    found = drivers(home)["qemu"]
    assert "qemu" in found["virtTypes"], found["reason"]
    subprocess.run(
        polyvisor("run", str(home.folder / "machine.json")),
        env=environment(home),
        preexec_fn=join,
        check=True,
        timeout=570,
    )


def test_stopping_during_the_first_probe_leaves_nothing(home: Standalone) -> None:
    up = subprocess.Popen(polyvisor("up"), env=environment(home), stderr=subprocess.DEVNULL)
    while not home.processes(str(home.folder / "probe"), "qemu-system"):
        assert up.poll() is None, "it came up before its probe was seen"
    home.run("down")
    assert up.wait(60) != 0
    assert home.processes(str(home.folder)) == []


def test_a_hypervisor_that_is_installed_later_lets_a_waiting_run_go_on(home: Standalone) -> None:
    hidden = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    script = f'mount --bind /dev/null {HYPERVISOR}; "$0" up && exec sleep 600'
    inside = subprocess.Popen(
        [*hidden, script, polyvisor()[0]], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    assert inside.stdout is not None
    while "is up after" not in (line := inside.stdout.readline()):
        assert line, "it did not come up"
    try:
        found = drivers(home)["qemu"]
        assert not found["available"]
        assert "qemu-system-x86" in found["reason"], "the package is named"
        waiting = subprocess.Popen(
            polyvisor("run", str(home.folder / "machine.json"), "--timeout", "200"),
            env=environment(home),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        told = ""
        while "NoDriver" not in told:
            line = waiting.stderr.readline()
            assert line, f"it does not wait: {told}"
            told += line
        subprocess.run(["nsenter", f"--mount=/proc/{home.pid}/ns/mnt", "umount", str(HYPERVISOR)], check=True)
        rest = waiting.stderr.read()
        assert waiting.wait() == 0, rest
        assert "Running under qemu" in rest
    finally:
        inside.kill()
        inside.wait()
