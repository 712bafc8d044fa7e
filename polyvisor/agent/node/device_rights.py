"""Which devices of the node the processes of a container may open, and one right more or less of a container that runs.

That is the devices control group's to say. What isn't obvious: it is also the one witness of which device a Pod was
really given. A device node in a container's own files proves nothing, since a container's root can make one; but the
list of rights is the runtime's. Control groups of version 2 have a program in the list's place, which cannot be added
to; so there the answer is a refusal.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyvisor.agent.errors import AgentError, UnsafePath
from polyvisor.agent.link import containers

ROOT = Path("/proc/1/root/sys/fs/cgroup/devices")
"""The node's own view, by the process that began it: a container sees but its own part."""
VERSION_2 = (
    "this node has control groups of version 2, where a launcher that runs cannot be given a device in this release; "
    "claims of volumeMode Filesystem can come here, and a block device from the machine's next start on"
)


def has(pid: int, device: int) -> bool:
    """Whether a container's runtime gave it this very block device; ``pid`` is a process of the container."""
    lines = (_group(pid) / "devices.list").read_text().split("\n")
    return any(line.startswith(f"{_named(device)} ") and "r" in line.rpartition(" ")[2] for line in lines)


def give(pid: int, device: int) -> None:
    """Let the container of a process open a block device."""
    _write(pid, "devices.allow", device)


def take(pid: int, device: int) -> None:
    """Have the container of a process open a block device no more; what is open stays so."""
    _write(pid, "devices.deny", device)


def _write(pid: int, file: str, device: int) -> None:
    try:
        (_group(pid) / file).write_text(f"{_named(device)} rwm")
    except OSError as error:
        raise AgentError(f"changing the rights to block device {_named(device)[2:]}: {error.strerror}") from error


def _named(device: int) -> str:
    return f"b {os.major(device)}:{os.minor(device)}"


def _group(pid: int) -> Path:
    """Return the folder of a process's devices control group; the process has to be held by the caller."""
    for line in containers.groups_of(pid).splitlines():
        _, controllers, path = line.split(":", 2)
        if "devices" in controllers.split(","):
            folder = ROOT.joinpath(*[part for part in path.split("/") if part and part != ".."])
            if str(pid) not in (folder / "cgroup.procs").read_text().split():
                raise UnsafePath(f"the control group of process {pid} is not found below {ROOT}")
            return folder
    raise AgentError(VERSION_2)
