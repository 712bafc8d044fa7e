"""A room from inside: what it sees of the machine, and that nothing of it is left. It has the host's own programs.

Names and addresses are the test's own, so that it does not meet a real room.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import room_spaces

TOP = Path(__file__).resolve().parents[2]
OWN = {"VETH": "pvcleant", "TABLE": "polyvisor_clean_test", "GROUP": f"polyvisor-clean-test-{os.getpid()}",
       "OUTSIDE": "198.51.100.5", "INSIDE": "198.51.100.6", "SUBNET": "198.51.100.4/30"}  # fmt: skip
LOOK = """
set -e
echo first: $(tr '\\0' ' ' </proc/1/cmdline)
echo processes: $(ls -d /proc/[0-9]* | wc -l)
test -c /dev/null && test -c /dev/net/tun && test -c /dev/ptmx && test -d /dev/shm && echo devices
! find /dev -type b ! -name 'loop*' | grep . && echo no disks
grep -c . /proc/self/cgroup >/dev/null && ! grep -v ':/\\(init\\)\\?$' /proc/self/cgroup && echo own groups
mkdir "$(dirname "$(find /sys/fs/cgroup -name cgroup.procs | head -n 1)")/below" && echo groups can be made
ls /sys/class/net | tr '\\n' ' '; echo interfaces
ping -c 1 -W 5 198.51.100.5 >/dev/null 2>&1 || bash -c ': >/dev/tcp/198.51.100.5/9' 2>&1 | grep -q refused && echo host
awk '$5 == "/mnt" || $5 ~ "^/mnt/"' /proc/self/mountinfo | grep . || echo nothing of the host
setsid bash -c '(sleep 0.1 & echo $! >/tmp/orphan)'
until ! test -e /proc/$(cat /tmp/orphan); do sleep 0.05; done; echo orphans are reaped
exit 7
"""
SCRIPT = """
import signal
import sys
from pathlib import Path
import clean_room
import room_spaces
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background may have had it ignored
for name, value in {own!r}.items():
    setattr(room_spaces, name, value)
binds = {{Path(source): source.strip("/") for source in ("/usr", "/etc")}}
sys.exit(clean_room.enter(Path({root!r}), Path({log!r}), {steps!r}, binds))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if os.geteuid():
        pytest.skip("root: a room requires it")
    root = tmp_path / "root"
    for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "mnt"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return root


def _start(root: Path, script: str) -> tuple[subprocess.Popen[str], Path]:
    log = root.parent / "log"
    text = SCRIPT.format(own=OWN, root=str(root), log=str(log), steps=["/usr/bin/bash", "-c", script])
    room = subprocess.Popen(
        [sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": str(TOP / "tools")}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return room, log


def _left(word: str) -> list[str]:
    """Return what is left of a room on the host."""
    left = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{OWN['GROUP']}")]
    left += [str(path) for path in Path("/sys/class/net").glob(OWN["VETH"])]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in entry.read_text():
                left.append(entry.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return left + [line for line in tables.splitlines() if OWN["TABLE"] in line]


def test_a_room_is_as_a_machine(root: Path) -> None:
    room, log = _start(root, LOOK)
    said, _ = room.communicate(timeout=120)
    assert room.returncode == 7, said
    lines = [line.split(" s  ", 1)[1] for line in log.read_text().splitlines()]
    assert lines[0].startswith("first: ")
    assert "init.py" in lines[0]
    assert int(lines[1].removeprefix("processes: ")) < 10
    assert lines[2:] == [
        "devices", "no disks", "own groups", "groups can be made", "eth0 lo interfaces", "host",
        "nothing of the host", "orphans are reaped",
    ]  # fmt: skip
    assert _left(str(root)) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_room_ends_with_all_its_processes(root: Path, blow: signal.Signals) -> None:
    mark = f"86400.{os.getpid()}"
    room, _ = _start(root, f"setsid sleep {mark} & echo here; sleep {mark}")
    assert room.stdout is not None
    assert "here" in room.stdout.readline()
    room.send_signal(blow)
    room.communicate(timeout=60)
    assert _left(mark) == []


def test_a_killed_tool_takes_its_room_along(root: Path) -> None:
    mark = f"86401.{os.getpid()}"
    room, _ = _start(root, f"setsid sleep {mark} & echo here; sleep {mark}")
    assert room.stdout is not None
    assert "here" in room.stdout.readline()
    room.kill()
    room.wait()
    deadline = time.monotonic() + 60
    while any(mark in one for one in _left(mark)):
        assert time.monotonic() < deadline, "processes of the room go on"
        time.sleep(0.05)
    for name, value in OWN.items():  # what it left on the host is removed by the next one
        setattr(room_spaces, name, value)
    room_spaces.disconnect()
    room_spaces.remove_cgroups(room_spaces.cgroups())
    assert _left(mark) == []
