"""A trial of a driver leaves nothing behind, however it ends; libvirt's own test driver is what is tried."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.drivers import trial as trials
from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.trial import Trial, TrialError, abandon

PLAN = LauncherPlan(uri="test:///default")
XML = f"""<domain type='test'><name>tried</name><uuid>{trials.UUID}</uuid><memory>1024</memory>
<os><type>hvm</type></os></domain>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[LauncherPlan]:
    """A plan whose libvirt is reached by a socket on which nobody ever answers, and a stray that it would leave."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "mute"))
        listener.listen(16)
        yield LauncherPlan(uri=f"qemu+unix:///system?socket={tmp_path}/mute", strays=("stray",))


def processes(folder: Path) -> list[int]:
    """Return the processes that have the folder, or something in it, among their arguments."""
    path = os.fsencode(folder)
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if any(argument.startswith(path) for argument in file.read_bytes().split(b"\0")):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def test_versions_are_told_and_the_folder_goes(folder: Path) -> None:
    with Trial(folder, PLAN, "tried") as trial:
        assert trial.versions.libvirt
        assert processes(folder)
    assert not processes(folder)
    assert not folder.exists()


def test_a_machine_that_ends_is_not_waited_for(folder: Path) -> None:
    with Trial(folder, PLAN, "tried") as trial:
        trial.call("start", xml=XML)
        trial.call("destroy")
        assert not trial.says(b"anything", 3600.0)
        assert trial.ended


def test_a_trial_that_is_abandoned_while_libvirt_hangs_leaves_nothing(folder: Path, silent: LauncherPlan) -> None:
    begun = threading.Event()

    def stray() -> None:
        """Have a process that looks like what libvirt leaves, then have the trial abandoned."""
        while not (folder / "launcher.pid").exists():
            time.sleep(0.01)  # nothing tells
        subprocess.Popen(["/bin/sh", "-c", "sleep 600 & wait", f"{folder}/stray-1"], start_new_session=True)
        begun.set()
        abandon(folder.parent / "elsewhere")
        abandon(folder.parent)

    thread = threading.Thread(target=stray)
    thread.start()
    with pytest.raises(TrialError, match="stopped"):
        Trial(folder, silent, "tried").__enter__()
    thread.join()
    assert begun.is_set()
    assert not processes(folder)
    assert not folder.exists()


def test_a_trial_whose_process_is_killed_leaves_nothing(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from polyvisor.drivers.base import LauncherPlan; from polyvisor.drivers.trial import Trial\n"
        "trial = Trial(Path(sys.argv[1]), LauncherPlan(uri='test:///default'), 'tried'); trial.__enter__()\n"
        "print(trial._process.pid, flush=True); sys.stdin.read()\n"
    )
    prober = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert prober.stdout is not None
    handle = os.pidfd_open(int(prober.stdout.readline()))
    prober.send_signal(signal.SIGKILL)
    prober.communicate()
    try:
        assert select.select([handle], [], [], 60)[0], "the launcher goes on without its prober"
    finally:
        os.close(handle)
    assert not processes(folder)


def test_what_takes_too_long_is_worth_another_try(
    folder: Path, silent: LauncherPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "OPEN_SECONDS", 0.0)
    monkeypatch.setattr("polyvisor.drivers.pace.slowness", lambda: 1.0)
    with pytest.raises(TrialError, match="did not answer within") as raised:
        Trial(folder, silent, "tried").__enter__()
    assert raised.value.again
    assert not processes(folder)


def test_what_is_refused_is_not(folder: Path) -> None:
    with Trial(folder, PLAN, "tried") as trial, pytest.raises(TrialError) as raised:
        trial.call("start", xml="<domain/>")
    assert not raised.value.again


@pytest.mark.parametrize(("pace", "slow"), [(1.0, False), (8.0, True)])
def test_a_silent_machine_may_only_be_slow_on_a_slow_host(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pace: float, slow: bool
) -> None:
    monkeypatch.setattr(trials, "slowness", lambda: pace)
    with Trial(folder, PLAN, "tried") as trial:
        trial.call("start", xml=XML)
        assert not trial.says(b"anything", 0.0)
        assert trial.slow is slow
        trial.call("destroy")
        assert not trial.says(b"anything", 3600.0)
        assert not trial.slow, "what has ended by itself is not slow"
