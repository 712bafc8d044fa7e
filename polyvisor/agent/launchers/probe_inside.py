"""Probes one driver inside a container of its launcher image; a program of its own, since threads cannot be moved.

``python -m polyvisor.agent.launchers.probe_inside DRIVER SCRATCH PROCESS [devices]`` enters the mount namespace of the
process behind the descriptor PROCESS, in a private copy, and prints the answer as JSON. There it has the image's
programs and libraries, a root file system that it may write to, the agent's rights, ``/proc`` and ``/sys``, and with
``devices`` the agent's ``/dev`` instead of the container's own. What isn't obvious: everything that is Polyvisor's and
not in the image is loaded before it enters.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyvisor.agent.files import mounts
from polyvisor.drivers import registry, trial
from polyvisor.drivers.memory import written

DEVICES = "devices"


def enter(process: int, *, devices: bool) -> None:
    """Go into a private copy of a process's mount namespace, with what a probe needs of this one."""
    places = ("/sys", *(("/dev",) if devices else ()))
    brought = {at: mounts.clone_tree(mounts.AT_FDCWD, at, f"cloning {at}", recursive=True) for at in places}
    mounts.enter_namespace(process, "entering the container")
    mounts.copy_namespace("copying its mounts")
    mounts.mount("none", "/", None, mounts.MS_REC | mounts.MS_PRIVATE, None, "keeping mounts to itself")
    mounts.mount(None, "/", None, mounts.MS_REMOUNT | mounts.MS_BIND, None, "making the copy of the root writable")
    mounts.mount("tmpfs", "/run", "tmpfs", 0, "mode=755", "mounting /run")
    mounts.mount("proc", "/proc", "proc", 0, None, "mounting /proc")
    for place, tree in brought.items():
        mounts.put_tree(tree, mounts.AT_FDCWD, place, f"putting {place} in its place")
        os.close(tree)


def main(arguments: Sequence[str]) -> int:
    """Run the program."""
    name, scratch, process, *more = arguments
    driver = registry().get(name)
    if driver is None:
        os.write(2, f"no driver has the name {name}".encode())
        return 1
    with suppress(ImportError):
        importlib.import_module(f"{type(driver).__module__}.probe")
    signal.signal(signal.SIGTERM, lambda *_: trial.abandon(Path(scratch)))
    try:
        enter(int(process), devices=DEVICES in more)
        answer = driver.probe(Path(scratch))
    except Exception as error:  # what another package's driver raises is the answer, too
        os.write(2, f"{type(error).__name__}: {error}".encode())
        return 1
    sys.stdout.write(json.dumps(written(answer)))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing is loaded or cleaned up in a foreign namespace
