"""A launcher that is the first process of its container."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of processes needs root")
ORPHAN = """
import os, signal, sys, time
from polyvisor.launcher.first import step_aside
step_aside()
assert os.getpid() != 1
read, write = os.pipe()
if not os.fork():
    if not os.fork():
        os.write(write, b"%d" % os.getpid())
        time.sleep(1000)
    os._exit(0)
os.wait()
orphan = int(os.read(read, 20))
os.kill(orphan, signal.SIGKILL)
deadline = time.monotonic() + 20
try:
    while time.monotonic() < deadline:
        os.kill(orphan, 0)
        time.sleep(0.01)
except ProcessLookupError:
    sys.exit(7)
"""
TOLD = """
import signal, sys, time
from polyvisor.launcher.first import step_aside
step_aside()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))
print("ready", flush=True)
time.sleep(1000)
"""
COMMAND = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]


def test_orphans_vanish_and_the_end_is_the_launchers() -> None:
    assert subprocess.run([*COMMAND, ORPHAN], timeout=60).returncode == 7


def test_signals_reach_the_launcher() -> None:
    with subprocess.Popen([*COMMAND, TOLD], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(children) as file:  # noqa: PTH123
            first = int(file.read())
        os.kill(first, 15)
        assert process.wait(20) == 8
