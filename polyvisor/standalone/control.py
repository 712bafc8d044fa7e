"""Starting, finding and stopping the background process from another one.

A stop is a signal, and its end is waited for on a pidfd, so that there is no guessing. SIGTERM leaves the guests
running (the next start finds them again); SIGUSR1 shuts them down first. If no process is there but launchers are
(it was killed), stopping falls to the caller, who then starts one in order to stop it properly.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyvisor.agent.launchers.processes import process_of
from polyvisor.drivers.pace import Deadline
from polyvisor.standalone.failure import TIMEOUT, StartError
from polyvisor.standalone.state import StateFolder, running

LOOK_SECONDS = 1.0
SILENT_SECONDS = 300.0
STOP_SECONDS = 120.0
KEEP_GUESTS = signal.SIGTERM
DRAIN = signal.SIGUSR1


def start(
    state: StateFolder, *, port: int, timeout: float | None = None, debug: bool = False
) -> Iterator[dict[str, Any]]:
    """Start the process in the background; yield its progress until it is ready. Raises :class:`StartError`.

    Without a ``timeout`` (seconds) the process is waited for as long as it tells that it goes on.
    """
    ours, theirs = os.pipe()
    # -P: the folder that the user stands in must not become the process's import path.
    command = [sys.executable, "-P", "-m", "polyvisor.standalone", "--state-dir", str(state.root)]
    command += ["--port", str(port), "--progress-fd", str(theirs)]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if debug else subprocess.DEVNULL,
            pass_fds=[theirs],
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        yield from _progress(pipe.fileno(), state, timeout, child)


def _progress(
    fd: int, state: StateFolder, timeout: float | None, child: subprocess.Popen[bytes]
) -> Iterator[dict[str, Any]]:
    rest = b""
    began = heard = time.monotonic()
    while True:
        ready, _, _ = select.select([fd], [], [], LOOK_SECONDS)
        now = time.monotonic()
        if timeout is not None and now - began > timeout:
            raise StartError(
                f"not ready after {timeout:g} s; it goes on starting", f"{state.log} says what it waits for.", TIMEOUT
            )
        if not ready:
            if timeout is None and now - heard > SILENT_SECONDS:
                raise StartError(
                    f"the process has told nothing for {SILENT_SECONDS:g} s; it goes on starting",
                    f"See {state.log}. `polyvisor up` waits for it again.",
                    TIMEOUT,
                )
            continue
        heard = now
        data = os.read(fd, 65536)
        if not data:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            raise StartError(f"the process ended while it started (code {child.returncode})", f"See {state.log}.")
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "failed" in message:
                raise StartError(message["failed"], message.get("hint", ""), message.get("code", 1))
            yield message
            if "ready" in message:
                return


def stop(state: StateFolder, *, keep_guests: bool, timeout: float | None = None) -> bool:
    """Stop the process and wait for its end; False if none runs.

    Without a ``timeout`` (seconds) the limit is ``STOP_SECONDS``, more on a slow machine.
    """
    deadline = Deadline(STOP_SECONDS) if timeout is None else Deadline(timeout, measure=lambda: 1.0)
    info = running(state.pid_file)
    if info is None:
        return False
    pid = int(info.get("pid") or 0)
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return False
    try:
        if (running(state.pid_file) or {}).get("pid") != pid:
            return False
        signal.pidfd_send_signal(handle, KEEP_GUESTS if keep_guests else DRAIN)
        ended: list[int] = []
        while not ended and not deadline.passed:
            ended, _, _ = select.select([handle], [], [], deadline.left)
    finally:
        os.close(handle)
    if not ended:
        raise StartError(
            f"the process {pid} has not ended after {deadline.waited:.0f} s",
            f"Guests may still be shutting down; {state.log} tells. Ask again, with a longer --timeout.",
            TIMEOUT,
        )
    return True


def leftovers(state: StateFolder) -> list[Path]:
    """Return the folders of launchers that are still running."""
    try:
        folders = sorted(p for p in state.launchers.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []
    return [folder for folder in folders if process_of(folder)]
