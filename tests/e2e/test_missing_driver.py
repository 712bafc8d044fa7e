"""A host on which libvirt's LXC driver or a program is missing, and is installed while a machine waits for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.drivers.lxc.plan import module_path

from .standalone import BIN, ROOT, Standalone, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.root]
SECONDS = 120
EXAMPLE = ROOT / "examples" / "lxc.yaml"


@pytest.fixture
def home() -> Iterator[Standalone]:
    with standalone(new_host=True) as home:
        yield home
        inside(home, "down")


def inside(home: Standalone, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the mount namespace of the installation."""
    command = ["nsenter", f"--mount=/proc/{home.pid}/ns/mnt", BIN / "polyvisor", *arguments]
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS)


@pytest.mark.proof
def test_what_is_missing_is_named_and_noticed_when_it_comes(home: Standalone, tmp_path: Path) -> None:
    module = module_path()
    assert module is not None
    shutil.copytree(module.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / module.name).unlink()
    script = f"mount --bind {tmp_path} {module.parent} && exec {BIN / 'polyvisor'} up"
    command = ["unshare", "--mount", "sh", "-c", script]
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    up = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    reason = "libvirt's LXC driver is not installed; "
    assert f"LXC is not available on this machine: {reason}" in up.stderr
    done = inside(home, "run", str(EXAMPLE))
    assert done.returncode == 1
    assert f"polyvisor: demo-lxc: LXC is not available on this machine: {reason}" in done.stderr
    assert "libvirt-daemon-driver-lxc" in done.stderr
    assert reason in inside(home, "describe", "vmi", "demo-lxc").stdout
    explain = "explain", "--against", str(home.kubeconfig), str(EXAMPLE)
    assert inside(home, *explain).returncode == 3
    shutil.copy2(module, tmp_path)
    assert inside(home, *explain).returncode == 0
    assert "LXC" in "".join(line for line in inside(home, "up").stderr.splitlines() if " works " in line)
    done = inside(home, "run", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    assert "not available" not in done.stderr
    assert "demo-lxc: Running under lxc" in done.stderr


def test_a_program_that_is_missing_ends_the_run_and_is_noticed_when_it_comes(home: Standalone, tmp_path: Path) -> None:
    programs = [path for name in ("genisoimage", "xorrisofs") if (path := shutil.which(name))]
    (tmp_path / "none").write_text("")
    hide = "".join(f"mount --bind {tmp_path}/none {os.path.realpath(path)} && " for path in programs)
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    command = ["unshare", "--mount", "sh", "-c", f"{hide}exec {BIN / 'polyvisor'} up"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=SECONDS)
    done = inside(home, "run", str(ROOT / "examples" / "qemu.yaml"))
    assert done.returncode == 1
    assert "polyvisor: demo-qemu: " in done.stderr
    assert "genisoimage is not installed; " in done.stderr
    for path in programs:
        command = ["nsenter", f"--mount=/proc/{home.pid}/ns/mnt", "umount", os.path.realpath(path)]
        subprocess.run(command, check=True)
    done = inside(home, "run", str(ROOT / "examples" / "qemu.yaml"))
    assert done.returncode == 0, done.stderr
    assert "demo-qemu: Running under qemu" in done.stderr
