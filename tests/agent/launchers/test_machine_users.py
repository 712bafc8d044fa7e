"""Launchers that become users of their own, where the agent is root: what they may do, and what is believed of them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from polyvisor.agent.errors import UnsafePath
from polyvisor.agent.launchers.confinement import GROUPS, Confinement
from polyvisor.agent.launchers.processes import Launchers, process_of
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.live import render
from polyvisor.api.resources import PODS, VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import LauncherPlan

from ...cluster import running
from ...folders import short_folder
from ..conftest import PlainDriver
from ..test_machines import Home, phase, xml

pytestmark = pytest.mark.root
USER = 0x70010000


class OwnUserDriver(PlainDriver):
    own_user = True


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    monkeypatch.setattr(render, "domain_xml", xml)
    with short_folder() as state:
        async with running(tmp_path) as client:
            home = Home(client, state)
            home.registry = DriverRegistry([OwnUserDriver()])
            try:
                yield home
            finally:
                home.kill_all()
                swept(state)


def swept(state: Path) -> None:
    """Take away the control groups of launchers that were killed, once these are gone."""
    one = Confinement(state)
    while left := list(GROUPS.glob(one._name("*"))):
        if not any((group / "cgroup.procs").read_text() for group in left):
            one.sweep()


def users(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return set(next(line.split()[1:] for line in lines if line.startswith("Uid:")))


def rights(pid: int) -> set[int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {int(line.split()[1], 16) for line in lines if line.startswith(("CapPrm", "CapEff", "CapInh", "CapAmb"))}


async def test_launchers_are_users_of_their_own_without_capabilities(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "a", "emptyDisk": {"capacity": "1Mi"}})
        await home.machine("two")
        for name in ("one", "two"):
            await home.until(VMIS, name, phase("Running"))
        first, second = home.launchers()
        assert len(users(first) | users(second)) == 2
        assert "0" not in users(first) | users(second)
        assert rights(first) == rights(second) == {0}
        folder = await home.folder("one")
        (disk,) = [path for path in (folder / "disks").iterdir() if path.is_file()]
        assert (disk.lstat().st_uid, stat.S_IMODE(disk.lstat().st_mode)) == (folder.lstat().st_uid, 0o600)
        assert folder.lstat().st_mode & 0o077 == 0


async def test_what_a_former_version_runs_as_root_goes_on_as_root(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Confinement, "_tried", lambda _: "this release has none")
    async with home.agent_running():
        await home.machine("old")
        await home.until(VMIS, "old", phase("Running"))
        (before,) = home.launchers()
        assert users(before) == {"0"}
    monkeypatch.undo()
    monkeypatch.setattr(render, "domain_xml", xml)
    async with home.agent_running():
        await home.machine("new")
        await home.until(VMIS, "new", phase("Running"))
        assert before in home.launchers()
        (new,) = set(home.launchers()) - {before}
        assert "0" not in users(new)


async def test_nothing_is_left_of_a_machine_that_is_deleted(home: Home) -> None:
    async with home.agent_running():
        vmi = await home.machine("one", {"name": "a", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        folder = await home.folder("one")
        workshop = home.state / "w" / folder.name
        assert (workshop / "prepared.json").exists()
        assert not (folder / "prepared.json").exists()
        await home.client.delete(VMIS, "one", "default", uid=vmi["metadata"]["uid"])
        await home.client.delete(PODS, "virt-launcher-one", "default")
        await home.removed(folder)
        assert not workshop.exists()


@pytest.fixture
def launchers(tmp_path: Path) -> Launchers:
    found = Launchers(tmp_path / "l", lambda _: None, None, Confinement(tmp_path))
    found.make_folder("one")
    found.give("one", USER, "default")
    plan = LauncherPlan("test:///default", devices=("/dev/null",))
    found.write_plan("one", plan, name="a", uuid="b", driver="plain")
    return found


def test_the_plan_that_counts_is_one_that_the_launcher_cannot_change(launchers: Launchers) -> None:
    folder = launchers.folder("one")
    assert json.loads((folder / "plan.json").read_text())["devices"] == ["/dev/null"]
    (folder / "plan.json").unlink()
    (folder / "plan.json").write_text(json.dumps({"devices": ["/dev/sda"], "driver": "other"}))
    known = launchers.known("one")
    assert (known["devices"], known["driver"]) == (["/dev/null"], "plain")


def test_a_launcher_names_no_process_but_its_own_to_be_killed(launchers: Launchers) -> None:
    folder = launchers.folder("one")
    with subprocess.Popen(["sleep", "100"]) as victim:
        try:
            start = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[19]
            (folder / "launcher.pid").write_text(f"{victim.pid} {start}\n")
            assert process_of(folder) == 0
            launchers._kill("one")
            assert victim.poll() is None
        finally:
            victim.kill()
    with subprocess.Popen(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "sleep", "100"]) as own:
        try:
            while Path(f"/proc/{own.pid}/comm").read_text().strip() != "sleep":
                pass
            start = Path(f"/proc/{own.pid}/stat").read_text().rpartition(")")[2].split()[19]
            (folder / "launcher.pid").write_text(f"{own.pid} {start}\n")
            assert process_of(folder) == own.pid
        finally:
            own.kill()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
async def test_a_log_that_is_another_file_is_not_written_to(launchers: Launchers, tmp_path: Path, kind: str) -> None:
    victim, log = tmp_path / "victim", launchers.folder("one") / "launcher.log"
    victim.write_text("the host's")
    launchers.confinement = Confinement(tmp_path)
    launchers.confinement.why_not = ""
    if kind == "link":
        log.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, log)
    else:
        os.mkfifo(log)
    with pytest.raises((UnsafePath, OSError)):
        await launchers._spawn("one")
    assert (victim.read_text(), victim.stat().st_uid) == ("the host's", 0)


async def test_a_launcher_that_cannot_be_confined_is_not_started_without(launchers: Launchers) -> None:
    with pytest.raises(LauncherError, match="cannot become user 1879113728"):
        await launchers._spawn("one")


async def test_a_killed_launcher_comes_back_as_the_same_user() -> None:
    with short_folder() as state:
        launchers = Launchers(state / "l", lambda _: None, None, Confinement(state))
        assert launchers.confinement
        launchers.confinement.open()
        launchers.make_folder("one")
        launchers.give("one", USER, "default")
        launchers.write_plan("one", LauncherPlan("test:///default"), name="a", uuid=str(uuid4()), driver="plain")
        before = await launchers.ensure("one")
        os.kill(before.pid, signal.SIGKILL)
        while not before.closed:
            await before.changed()
        after = await launchers.ensure("one")
        assert (users(after.pid), rights(after.pid), after.user) == ({str(USER)}, {0}, USER)
        await launchers.retire("one")
        assert not list((state / "l").iterdir())
        assert not list((state / "w").iterdir())
