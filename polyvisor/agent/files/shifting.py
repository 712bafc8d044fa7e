"""Giving the files of a machine's own root the ids of its guest on disk, where they cannot be mapped as it is mounted.

That is so on file systems without id-mapped mounts, and on kernels before 5.12. It is done while nobody but the agent
has a way to the files, and goes from folder to folder by descriptors. What isn't obvious: the kernel takes set-user-ID
bits and capabilities from a file that changes hands, so they are written again, the capabilities as ones that hold in
the user namespace of the new root alone.
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from polyvisor.agent.errors import AgentError
from polyvisor.domain.ids import EACH, TRIAL
from polyvisor.launcher import mapped

CAPABILITIES = "security.capability"
REVISION, REVISION_2, REVISION_3 = 0xFF000000, 0x02000000, 0x03000000
"""Of ``struct vfs_cap_data`` (include/uapi/linux/capability.h)."""
SPECIAL = stat.S_ISUID | stat.S_ISGID
SECONDS = 60.0


def why_unmapped(folder: int) -> str:
    """Return why an open folder cannot be mounted with its ids mapped; empty if it can."""
    command = [sys.executable, "-P", "-m", "polyvisor.agent.files.shifting", str(folder)]
    done = subprocess.run(
        command, pass_fds=[folder], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
    )
    return done.stderr.decode(errors="replace").strip() or "exit code" if done.returncode else ""


def shift(root: int, first: int) -> None:
    """Have every file below an open folder, and the folder itself, belong to ids from ``first`` on."""
    done: set[tuple[int, int]] = set()
    _give(root, ".", first, done)
    for _, folders, files, at in os.fwalk(".", dir_fd=root):
        for name in (*folders, *files):
            _give(at, name, first, done)


def _give(folder: int, name: str, first: int, done: set[tuple[int, int]]) -> None:
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        if (info.st_dev, info.st_ino) in done:
            return
        done.add((info.st_dev, info.st_ino))
    if max(info.st_uid, info.st_gid) >= EACH:
        raise AgentError(
            f"{name!r} in the root file system belongs to {info.st_uid}:{info.st_gid}, and a container has the ids "
            f"below {EACH}",
            retry=False,
        )
    path = f"/proc/self/fd/{folder}/{name}"
    capabilities = b""
    with suppress(OSError):  # none, or a file system without any
        capabilities = os.getxattr(path, CAPABILITIES, follow_symlinks=False)
    os.chown(name, first + info.st_uid, first + info.st_gid, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(info.st_mode) and info.st_mode & SPECIAL:
        os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=folder)
    if capabilities:
        os.setxattr(path, CAPABILITIES, of_root(capabilities, first), follow_symlinks=False)


def of_root(capabilities: bytes, first: int) -> bytes:
    """Return a file's capabilities as ones that hold where ``first`` is root."""
    (magic,) = struct.unpack_from("<I", capabilities)
    if magic & REVISION != REVISION_2:
        return capabilities
    return struct.pack("<I", magic & ~REVISION | REVISION_3) + capabilities[4:20] + struct.pack("<I", first)


def main(arguments: Sequence[str]) -> int:
    """Try to map the ids of the folder that is open under a number."""
    try:
        mapped.mapped(int(arguments[0]), mapped.user_namespace(TRIAL, EACH), "the folder")
    except (mapped.Refused, OSError) as error:
        os.write(2, str(error).encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
