"""What a launcher of root's is confined by, as this machine permits it: mounts, devices, no new privileges."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.launchers import confinement
from polyvisor.agent.launchers.confinement import GROUPS, Confinement, closed, load_profile
from polyvisor.domain import ids

from ...folders import short_folder
from ...needs import absent, need

USER = ids.TRIAL


@pytest.fixture
def state() -> Iterator[Path]:
    with short_folder() as state:
        for name in ("l/one", "l/two", "volumes/mine", "volumes/other", "hostdisks/mine", "cache"):
            (state / name).mkdir(parents=True)
        os.chown(state / "l/one", USER, USER)
        (state / "secret").write_text("x")
        yield state


def confined(state: Path) -> Confinement:
    found = Confinement(state)
    found.open()
    if "mknod" in found.why_not:
        absent("device nodes", found.why_not)
    assert found.why_not == ""
    return found


def run(state: Path, script: str, devices: tuple[str, ...] = ("/dev/null",)) -> subprocess.CompletedProcess[str]:
    """Run a script where a launcher would be, as the user that it would become."""
    one = confined(state)
    becoming = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "sh", "-c", script]
    try:
        return subprocess.run(
            [*one.command(state / "l/one", USER, devices, "one", "mine"), *becoming], capture_output=True, text=True
        )
    finally:
        one.release("one")


@pytest.mark.root
def test_nothing_but_its_own_and_the_disks_is_seen(state: Path) -> None:
    looks = f"cd {state} && ls -d l/* volumes/* hostdisks/* cache"
    done = run(state, f"{looks}; ls l/two volumes/other; echo x >l/one/x; echo x >cache/x; cat secret")
    assert done.stdout.split() == ["cache", "hostdisks/mine", "l/one", "volumes/mine"]
    assert (state / "l/one/x").lstat().st_uid == USER
    for name, what in (("cache/x", "Read-only file system"), ("secret", "No such file")):
        assert any(name in line and what in line for line in done.stderr.splitlines()), done.stderr


@pytest.mark.root
def test_a_folder_that_is_closed_further_up_is_covered_there(state: Path) -> None:
    inner = state / "a/b"
    inner.mkdir(parents=True)
    assert (closed(inner), closed(Path("/usr/lib"))) == (state, Path("/usr/lib"))


@pytest.mark.root
def test_no_privilege_comes_back_and_devices_are_its_own(state: Path) -> None:
    done = run(state, "grep NoNewPrivs /proc/self/status; stat -c %u:%a /dev/null; echo x >/dev/null && echo written")
    assert done.stdout.split() == ["NoNewPrivs:", "1", f"{USER}:600", "written"]
    assert Path("/dev/null").stat().st_uid == 0


@pytest.mark.root
def test_other_devices_are_refused_by_its_control_group(state: Path) -> None:
    if not (GROUPS / "devices.list").exists():
        absent("control groups v1", "there is no devices controller of version 1")
    one = confined(state)
    command = [*one.command(state / "l/one", USER, ["/dev/null"], "one", "mine"), "sh", "-c"]
    script = (
        f"mknod {state}/l/one/loop c 10 237; cat {state}/l/one/loop; head -c 1 /dev/zero | wc -c; cat /proc/self/cgroup"
    )
    done = subprocess.run([*command, script], capture_output=True, text=True)  # as root, whom modes do not stop
    assert "Operation not permitted" in done.stderr
    assert done.stdout.split()[0] == "1"
    assert f"/polyvisor{state}-one".replace("/", "-").lstrip("-") in done.stdout
    one.release("one")
    assert not list(GROUPS.glob(f"polyvisor{state}*".replace("/", "-")))


@pytest.mark.root
@pytest.mark.parametrize("lacking", ["sys_admin", "setuid", "setgid", "chown"])
def test_a_root_that_lacks_a_right_for_it_is_told(state: Path, lacking: str) -> None:
    program = (
        "from pathlib import Path\nfrom polyvisor.agent.launchers.confinement import Confinement\n"
        f"one = Confinement(Path({str(state)!r}))\none.open()\nprint(one.why_not)"
    )
    without = ["setpriv", f"--bounding-set=-{lacking}", f"--inh-caps=-{lacking}"]
    done = subprocess.run([*without, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "ermitted" in done.stdout or "failed" in done.stdout, done.stdout


def test_who_is_not_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = Confinement(tmp_path)
    found.open()
    assert found.why_not == "Polyvisor does not run as root"


@pytest.mark.root
def test_an_installation_that_would_be_covered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Confinement(Path(confinement.__file__).parents[3])
    found.open()
    assert "is installed below" in found.why_not


@pytest.mark.root
def test_what_a_machine_refuses_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "SCRIPT", "echo mount: permission denied >&2; exit 1")
    found = Confinement(state)
    found.open()
    assert found.why_not == "mount: permission denied"


def test_a_profile_is_loaded_only_where_apparmor_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    parser = programs / "apparmor_parser"
    parser.write_text(f"#!/bin/sh\ncat >{tmp_path}/loaded; [ ! -e {tmp_path}/refused ] || {{ echo no >&2; exit 1; }}\n")
    parser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    said = tmp_path / "enabled"
    assert load_profile(said) == ""
    said.write_text("N\n")
    assert (load_profile(said), (tmp_path / "loaded").exists()) == ("", False)
    said.write_text("Y\n")
    assert load_profile(said) == confinement.PROFILE
    assert f"profile {confinement.PROFILE} " in (tmp_path / "loaded").read_text()
    (tmp_path / "refused").touch()
    assert load_profile(said) == ""


def test_the_profile_is_one_that_apparmor_understands() -> None:
    need("apparmor_parser")
    done = subprocess.run(["apparmor_parser", "--skip-kernel-load", "--skip-cache"], input=confinement.RULES, text=True)
    assert done.returncode == 0
