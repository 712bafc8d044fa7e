"""One installation that runs as root: each machine's QEMU is a user of its own, without rights, in its own mounts.

What is asked of the running processes is asked of the kernel; what they cannot do is tried as their user, in their
mounts and control groups.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.standalone import Standalone, bare_machine, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        try:
            home.run("up")
            home.run_machines(with_disk(home.folder, "one"), with_disk(home.folder, "two"))
            yield home
        finally:
            home.run("delete", "vmi", "one", "two")
            home.run("down", "--timeout", "60")


def with_disk(home: Path, name: str) -> dict[str, Any]:
    """Return a machine with an image's kernel, an empty disk and a disk on the host."""
    machine = bare_machine(name, resources={"requests": {"memory": "64Mi"}})
    spec = machine["spec"]
    spec["volumes"] = [
        {"name": "empty", "emptyDisk": {"capacity": "1Mi"}},
        {
            "name": "host",
            "hostDisk": {"path": f"{home}/hostdisks/default/{name}.img", "type": "DiskOrCreate", "capacity": "1Mi"},
        },
    ]
    spec["domain"]["devices"]["disks"] = [{"name": "empty", "disk": {}}, {"name": "host", "disk": {}}]
    return machine


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def guest_process(home: Standalone, name: str) -> int:
    (pid,) = home.processes("qemu-system", f"guest=default_{name},", f"{home.folder}/l/")
    return pid


def as_guest(pid: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the user of a process, in its mounts."""
    user = status(pid)["Uid"].split()[0]
    becoming = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    return subprocess.run(
        ["nsenter", f"--target={pid}", "--mount", "--", *becoming, *command], capture_output=True, text=True
    )


def test_the_hypervisor_is_a_user_of_its_own_and_has_no_capabilities(home: Standalone) -> None:
    pids = [guest_process(home, "one"), guest_process(home, "two"), *home.launchers().values()]
    told = [status(pid) for pid in pids]
    assert all(set(one["Uid"].split()) != {"0"} and one["CapEff"].strip("0") == "" for one in told), told
    assert all(one["CapPrm"].strip("0") == "" and one["NoNewPrivs"] == "1" for one in told), told
    assert len({one["Uid"] for one in told}) == 2  # a launcher is the user of its machine


def test_a_hypervisor_reads_no_disk_of_another_machine_and_none_of_the_host(home: Standalone) -> None:
    one = guest_process(home, "one")
    mine, others = disks(home, "one"), disks(home, "two")
    for path in mine:
        done = as_guest(one, "head", "-c1", str(path))
        assert done.returncode == 0, (path, done.stderr)
    for path in (*others, home.folder / "db.sqlite", home.folder / "token", Path("/etc/shadow")):
        done = as_guest(one, "head", "-c1", str(path))
        assert (done.returncode, done.stdout) == (1, ""), path
        assert "Permission denied" in done.stderr or "No such file" in done.stderr, done.stderr


def disks(home: Standalone, name: str) -> list[Path]:
    """Return the files that a machine writes to, as the host has them."""
    (launcher,) = [
        plan.parent.name
        for plan in (home.folder / "w").glob("*/plan.json")
        if json.loads(plan.read_text())["domain"]["name"] == f"default_{name}"
    ]
    made = sorted((home.folder / "l" / launcher / "disks").iterdir())
    found = [*made, home.folder / f"hostdisks/default/{name}.img"]
    assert len(found) == 2
    return found


def test_a_hypervisor_cannot_write_to_the_image_that_machines_share(home: Standalone) -> None:
    (kernel,) = (home.folder / "cache").glob("*/boot/vmlinuz")
    done = as_guest(guest_process(home, "one"), "sh", "-c", f"head -c1 {kernel} >/dev/null && echo x >>{kernel}")
    assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr, done.stderr


def test_status_tells_what_is_in_force(home: Standalone) -> None:
    said = home.run("status")
    assert "New machines:      each has a user of its own, where its driver needs no root\n" in said
    for name in ("one", "two"):
        user = status(guest_process(home, name))["Uid"].split()[0]
        line = next(line for line in said.splitlines() if f"qemu-system-x86 of default_{name}: " in line)
        assert f"user {user}, no capabilities, a filter of system calls, mounts of its own, " in line


def test_a_machine_goes_on_when_its_launcher_and_the_installation_are_killed(home: Standalone) -> None:
    pid = guest_process(home, "one")
    before = home.launchers()
    os.kill(home.pid, signal.SIGKILL)
    for launcher in before.values():
        os.kill(launcher, signal.SIGKILL)
    home.run("up")
    home.run("pause", "vmi", "one")
    home.run("unpause", "vmi", "one")
    assert guest_process(home, "one") == pid
    assert {status(launcher)["Uid"] for launcher in home.launchers().values()} == {
        status(guest_process(home, name))["Uid"] for name in ("one", "two")
    }
