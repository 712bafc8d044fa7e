"""A private libvirt daemon in a mount namespace of its own, for drivers that cannot run inside the launcher.

The daemon outlives a killed launcher. Whether it lives is asked of its socket, and its process id is taken from the
socket's peer credentials, never from a file: a file may name a process that is long gone.

What isn't obvious: systemd's hierarchy of control groups (version 1) limits nothing, and libvirt makes no group in it
for a container, but gives the one in which it runs itself to the container's root, be it the hierarchy's first. So the
daemon has a group of its own there.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from polyvisor.launcher.plan import Plan

GROUPS = Path("/sys/fs/cgroup/systemd")
START_SECONDS = 600.0
"""A guard: whoever waits for the launcher has a limit that follows the machine's pace."""
STOP_SECONDS = 5.0

# A container with users of its own may mount sysfs only where one is seen that can be written to. Container runtimes
# make a Pod's first one read-only, and with it those of all its containers, a privileged one's as well.
# By the umask, a container with ids of its own can pass through libvirt's control groups, and not list them.
# $1 is the control group, $2 the number of folders to unmount; then those, then (source, target) pairs up to "--", then
# the daemon.
SCRIPT = """
set -e
if [ -e "${1%/*}/cgroup.procs" ]; then mkdir -p "$1"; echo 0 >"$1/cgroup.procs"; fi; shift
n=$1; shift
while [ "$n" -gt 0 ]; do umount -l "$1" 2>/dev/null || :; shift; n=$((n-1)); done
mount -o remount,rw /sys 2>/dev/null || :
while [ "$1" != -- ]; do mkdir -p "$2"; mount --bind "$1" "$2"; shift 2; done
shift
umask 066
exec "$@"
"""


class DaemonError(Exception):
    """The private daemon did not come up; the text says why."""


class Daemon:
    """Starts, finds and stops the plan's daemon."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._socket = plan.uri.partition("socket=")[2].partition("&")[0]
        self._child = 0
        self._group = GROUPS / f"polyvisor{plan.folder}".replace("/", "-")

    def ensure(self) -> None:
        """Have a living daemon: the one that a former launcher left behind, or a new one."""
        if self.pid():
            return
        self._reap()
        self._spawn()
        deadline = time.monotonic() + START_SECONDS
        while not self.pid():
            if self._reap():
                raise DaemonError(f"{self._plan.daemon[0]} ended at once; see {self._plan.folder}/daemon.log")
            if time.monotonic() > deadline:
                raise DaemonError(f"{self._plan.daemon[0]} does not answer on {self._socket}")
            time.sleep(0.01)  # nothing tells when the socket appears

    def pid(self) -> int:
        """Return the process id of the daemon that listens on the socket, 0 if none does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            try:
                peer.connect(self._socket)
            except OSError:
                return 0
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid) if uid == os.getuid() else 0

    def stop(self, *, final: bool = False) -> None:
        """End the daemon; domains of it go on, or have ended (``final``)."""
        self._end()
        deadline = time.monotonic() + STOP_SECONDS
        while final and not _removed(self._group) and time.monotonic() < deadline:
            time.sleep(0.01)  # nothing tells when the last of a container's processes has gone

    def _end(self) -> None:
        pid = self.pid()
        if not pid:
            return
        descriptor = os.pidfd_open(pid)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(descriptor, number)
                deadline = time.monotonic() + STOP_SECONDS
                while time.monotonic() < deadline:
                    self._reap()
                    if not _alive(pid):
                        return
                    time.sleep(0.01)  # it may be a former launcher's child, which nobody can wait for
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    def _spawn(self) -> None:
        plan = self._plan
        pairs = [item for host, below in plan.binds.items() for item in (str(plan.folder / below), host)]
        spaces = ["--mount", "--propagation", "private", *(["--cgroup"] if strange_groups() else [])]
        command = ["/usr/bin/unshare", *spaces, "--", "/bin/sh", "-c", SCRIPT, "sh"]
        command += [str(self._group), str(len(plan.unmounts)), *plan.unmounts, *pairs, "--", *plan.daemon]
        log = str(plan.folder / "daemon.log")
        self._child = os.posix_spawn(
            command[0],
            command,
            {**os.environ, **plan.environment},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._say(f"started {plan.daemon[0]} as process {self._child}")

    def _reap(self) -> bool:
        if not self._child:
            return False
        try:
            ended = os.waitpid(self._child, os.WNOHANG)[0] == self._child
        except ChildProcessError:
            ended = True
        if ended:
            self._child = 0
        return ended


def _removed(group: Path) -> bool:
    """Remove a control group and those that a container has made in it; whether none is left."""
    todo = [group]
    try:
        while todo:
            if inner := [entry for entry in todo[-1].iterdir() if entry.is_dir()]:
                todo += inner
            else:
                todo.pop().rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        return False
    return True


def strange_groups(groups: str = "", root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether control groups are seen from another place than the one that /proc names them from.

    In a container they may be: its own group is the top of what is mounted, while /proc tells the host's path of it,
    which libvirt would look for in vain. In a namespace of control groups both agree.
    """
    for line in (groups or Path("/proc/self/cgroup").read_text()).splitlines():
        _, controllers, path = line.split(":", 2)
        hierarchy = root / controllers.removeprefix("name=")
        if controllers and hierarchy.is_dir() and not (hierarchy / path.lstrip("/")).is_dir():
            return True
    return False


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
