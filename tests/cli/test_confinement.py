"""What ``polyvisor status`` says of the confinement of guests: what the kernel says of their processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from polyvisor.agent.images import decoding
from polyvisor.cli import confinement


def launcher(state: Path, id_: str, name: str) -> Path:
    folder = state / "l" / id_
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"domain": {"name": name}}))
    return folder


def sleeping(*arguments: str) -> subprocess.Popen[bytes]:
    program = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()  # it has come as far as its program
    return process


def test_processes_of_machines_are_found_and_described(tmp_path: Path) -> None:
    folder = launcher(tmp_path, "abc", "default_m")
    launcher(tmp_path, "empty", "default_other")
    (tmp_path / "l" / "broken").mkdir()
    guest, ours = sleeping(f"file={folder}/root/x"), sleeping("polyvisor.launcher", f"{folder}/")
    try:
        found = confinement.report(tmp_path)
    finally:
        for process in (guest, ours):
            process.communicate()
    (one,) = found["processes"]
    status = Path("/proc/self/status").read_text()
    capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert (one["machine"], one["pid"]) == ("default_m", guest.pid)
    assert one["capabilities"] == int(capabilities, 16).bit_count()
    assert one["user"] == confinement._user(os.geteuid())
    (decoder, users, row) = confinement.rows(found)
    assert users[0] == "New machines:"
    assert decoder == ["Image decoder:", confinement.DECODERS[decoding.confinement()]]
    assert row[1].startswith(f"{one['program']} of default_m: user {one['user']}, ")


def pretended(proc: Path, pid: int, folder: Path, **fields: str) -> None:
    place = proc / str(pid)
    (place / "ns").mkdir(parents=True)
    (place / "attr").mkdir()
    told = {
        "Uid": "64055\t64055\t64055\t64055",
        "CapEff": "0",
        "Seccomp": "2",
        "NoNewPrivs": "1",
        "PPid": "1",
        **fields,
    }
    (place / "status").write_text("".join(f"{key}:\t{value}\n" for key, value in told.items()))
    (place / "cmdline").write_bytes(f"x\0{folder}/y".encode())
    (place / "comm").write_text("guest\n")
    (place / "ns/mnt").symlink_to(f"mnt:[{pid}]")
    (place / "ns/user").symlink_to("user:[1]")


def test_what_is_in_force_is_told(tmp_path: Path) -> None:
    folder, proc = launcher(tmp_path, "abc", "default_m"), tmp_path / "proc"
    pretended(proc, 1, tmp_path / "nowhere")
    (proc / "self").symlink_to("1")
    pretended(proc, 20, folder)
    (proc / "20/attr/current").write_text("libvirt-abc (enforce)\n")
    (proc / "20/cgroup").write_text("7:pids:/\n5:devices:/polyvisor-state-abc\n0::/\n")
    pretended(proc, 30, folder, CapEff="1ff", Seccomp="0")
    (proc / "30/ns/mnt").unlink()
    (proc / "30/ns/mnt").symlink_to("mnt:[1]")
    (proc / "30/attr/current").write_text("unconfined\n")
    said = [row[1] for row in confinement.rows(confinement.report(tmp_path, proc))[2:]]
    user = confinement._user(64055)
    assert said == [
        f"guest of default_m: user {user}, no capabilities, a filter of system calls, mounts of its own, "
        "its devices alone, profile libvirt-abc (enforce)",
        f"guest of default_m: user {user}, 9 capabilities, no filter of system calls, the host's mounts, "
        "no list of devices, no profile (AppArmor, SELinux)",
    ]


def test_a_containers_init_is_found_by_who_began_it(tmp_path: Path) -> None:
    launcher(tmp_path, "abc", "default_m")
    proc = tmp_path / "proc"
    pretended(proc, 1, tmp_path / "nowhere")
    (proc / "self").symlink_to("1")
    for pid, arguments, parent in ((20, "lxc\0--name\0default_m\0--more", "1"), (30, "/sbin/init", "20")):
        pretended(proc, pid, tmp_path, PPid=parent, CapEff="1ff")
        (proc / str(pid) / "cmdline").write_bytes(arguments.encode())
    pretended(proc, 40, tmp_path, PPid="30")  # a program of the container's
    (proc / "40/cmdline").write_bytes(b"sshd")
    for pid in (30, 40):
        (proc / f"{pid}/ns/user").unlink()
        (proc / f"{pid}/ns/user").symlink_to("user:[2]")
    found = confinement.report(tmp_path, proc)
    assert [(one["pid"], one["machine"], one["ownUsers"]) for one in found["processes"]] == [
        (20, "default_m", False),
        (30, "default_m", True),
    ]
    assert "9 capabilities that hold in a user namespace of its own, a filter" in confinement.rows(found)[3][1]
