"""Finds the processes of one container of one Pod, by what the kernel says of them.

A process belongs to a container if its control group lies below that of the Pod; nothing inside a Pod can change that,
whatever a Pod says of itself. What isn't obvious: a number may go to another process at any moment, so each process is
held by a descriptor, and what was found out by its number counts only if the descriptor's process still lives after it.
"""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.api import Obj
from polyvisor.api.reading import read_status

PROC = Path("/proc")
_ID = re.compile(r"[a-z0-9-]+://([0-9a-f]{12,128})")
_NUMBER = re.compile(r"[0-9]+")


def is_of(groups: str, pod: str, container: str = "") -> bool:
    """Whether control groups, as /proc tells them, are those of a process of a Pod (and of one of its containers)."""
    # pod<uid> with the cgroupfs driver, kubepods-<class>-pod<uid with underscores>.slice with systemd's
    wanted = re.compile(f"(.*-)?pod({re.escape(pod)}|{re.escape(pod.replace('-', '_'))})(\\.slice)?")
    for line in groups.splitlines():
        names = line.rpartition(":")[2].split("/")
        for number, name in enumerate(names):
            if wanted.fullmatch(name):
                # <id>, or cri-containerd-<id>.scope
                inner = (part.removesuffix(".scope").rpartition("-")[2] for part in names[number + 1 :])
                return not container or container in inner
    return False


def groups_of(pid: int) -> str:
    """Return the control groups of a process; empty if it is gone."""
    try:
        return (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return ""


def container_id(pod: Obj, name: str) -> str:
    """Return the runtime's id of a container that runs, by the Pod's status; empty if it does not run."""
    for one in read_status(pod).get("containerStatuses") or []:
        if one.get("name") == name and "running" in (one.get("state") or {}):
            found = _ID.fullmatch(str(one.get("containerID")))
            return found[1] if found else ""
    return ""


def processes_of(pod: str, container: str) -> list[int]:
    """Return the processes of a container, oldest number first."""
    numbers = sorted(int(entry.name) for entry in PROC.iterdir() if _NUMBER.fullmatch(entry.name))
    return [number for number in numbers if is_of(groups_of(number), pod, container)]


def first_of(pod: str, container: str) -> int:
    """Return a process of a container; raises ProcessLookupError if there is none."""
    for pid in processes_of(pod, container):
        return pid
    raise ProcessLookupError(f"no process of container {container} of Pod {pod}")


@contextmanager
def held(pid: int, pod: str, container: str = "") -> Iterator[int]:
    """Hold a process of a Pod by a descriptor; raises ProcessLookupError if it is none, or has ended meanwhile."""
    descriptor = os.pidfd_open(pid)
    try:
        if not is_of(groups_of(pid), pod, container):
            raise ProcessLookupError(f"process {pid} is not of Pod {pod}")
        check(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def check(process: int) -> None:
    """Raise ProcessLookupError if the process behind a descriptor has ended."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if poll.poll(0):
        raise ProcessLookupError("the process has ended")


def root_of(process: int, pid: int) -> int:
    """Open the root folder of a process that is held by a descriptor; the caller owns what is opened."""
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(process)
    except BaseException:
        os.close(root)
        raise
    return root


@contextmanager
def entered(pid: int, pod: str, container: str = "") -> Iterator[tuple[int, int]]:
    """Hold a process of a Pod, and its root folder with it; both are descriptors. Raises as :func:`held` does."""
    with held(pid, pod, container) as process:
        root = root_of(process, pid)
        try:
            yield process, root
        finally:
            os.close(root)


def end(pod: str, container: str) -> int:
    """Ask a container's processes to end; return how many there were."""
    found = processes_of(pod, container)
    for pid in found:
        with suppress(ProcessLookupError), held(pid, pod, container) as process:
            signal.pidfd_send_signal(process, signal.SIGTERM)
    return len(found)
