"""Who listens on a launcher's socket: opened without following links, believed because of what the kernel says.

A launcher of this process's own making runs as the same user, or as the one whose folder it works in. One in a Pod may
be any user; it is a process of that Pod if its control group says so, which nothing inside the Pod can change. The Pod
is known from the socket's path, and that path is ours: only its last part lies where the launcher can write.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.agent.link import containers

QUEUE_SECONDS = 0.02
"""After what time a full queue is tried again; nothing tells when there is room."""
_POD = re.compile(r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/volumes/kubernetes\.io~empty-dir/")


def peer_of(connection: socket.socket) -> tuple[int, int, int]:
    """Return process id, user id and group id of a unix socket's other end."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid, gid


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Give an address to connect to that is the socket at ``path`` itself, however long the path; no link is followed.

    Raises OSError where there is no socket.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a socket")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


async def connect(path: Path) -> socket.socket:
    """Return a connection to the socket at ``path``. A launcher that is asked by many at once is waited for.

    The event loop's own ``sock_connect`` takes a full queue (EAGAIN) for a connection that is on its way, and hands
    over a socket that is not connected. Raises OSError where there is no socket, or nobody listens.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with address_of(path) as address:
            while True:
                try:
                    peer.connect(address)
                    return peer
                except BlockingIOError:
                    await asyncio.sleep(QUEUE_SECONDS)
    except BaseException:
        peer.close()
        raise


def _owner(folder: Path) -> Iterator[int]:
    with suppress(FileNotFoundError):
        yield folder.stat(follow_symlinks=False).st_uid


def stranger(path: Path, pid: int, uid: int) -> str:
    """Return what is wrong with the process behind a launcher's socket; empty if it is to be believed."""
    pod = _POD.search(str(path))
    if pod is None:
        ours = (0, os.geteuid(), *_owner(path.parent))
        return "" if uid in ours else f"belongs to process {pid} of user {uid}, not to a launcher of ours"
    if pid <= 0:
        return "belongs to a process that cannot be seen from here; the agent has to share the host's process ids"
    if not (groups := containers.groups_of(pid)):
        return f"belongs to process {pid}, which is gone"
    return "" if containers.is_of(groups, pod[1]) else f"belongs to process {pid}, which is not of Pod {pod[1]}"
