"""A launcher that is the first process of its container."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.root
ORPHANS = """
import os, signal, threading, time
from polyvisor.launcher.first import reap_orphans
assert os.getpid() == 1
reap_orphans()
reap, told = signal.getsignal(signal.SIGCHLD), threading.Event()

def handler(*arguments):
    reap(*arguments)
    told.set()

signal.signal(signal.SIGCHLD, handler)

def work():
    try:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            if not os.fork():
                os.setsid()
                os.write(write, b"%d" % os.getpid())
                time.sleep(1000)
            os._exit(5)
        orphan = int(os.read(read, 20))
        told.wait()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        os.kill(orphan, signal.SIGKILL)
        try:
            while True:
                os.kill(orphan, 0)
                time.sleep(0.01)
        except ProcessLookupError:
            os._exit(7)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)

threading.Thread(target=work).start()
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    time.sleep(1)  # a signal's handler runs meanwhile
os._exit(2)
"""
LAUNCHER = """
import os, sys
from polyvisor.launcher.__main__ import main
sys.exit(main(["--pod", sys.argv[1]]))
"""
COMMAND = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c"]


def test_orphans_vanish_and_a_threads_own_children_are_left_to_it() -> None:
    done = subprocess.run([*COMMAND, ORPHANS], timeout=60, capture_output=True, text=True)
    assert done.returncode == 7, done.stdout + done.stderr


def test_a_launcher_is_one_process(tmp_path: os.PathLike[str]) -> None:
    """It waits for its plan, and ends when it is told to before it has one."""
    process = subprocess.Popen([*COMMAND, LAUNCHER, os.fspath(tmp_path)])
    try:
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        first = ""
        while not first or not _catches(int(first), 15):
            assert process.poll() is None
            with open(children) as file:  # noqa: PTH123
                first = file.read()
        with open(f"/proc/{int(first)}/task/{int(first)}/children") as file:  # noqa: PTH123
            assert not file.read().split(), "the launcher has no other process"
        os.kill(int(first), 15)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _catches(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))
