"""What is written into a machine's root filesystem before its init begins: its host name, and where it looks up names.

A root is given as an open folder: it may be a copy of an image, or a claim that a user and a guest write to, so nothing
in it is reached but one component at a time, its links followed as a chroot would. What isn't obvious: a copy of an
image is the machine's own, and what stood there of the machine that made the image is replaced; of a claim only what
is missing is written, and what was written here before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from polyvisor.agent.files import safepath

HOSTNAME = "hostname"
RESOLVER = "resolv.conf"
OURS = b"# Written by Polyvisor as the machine was made ready.\n"


def write(root: int, folder: list[str], files: Mapping[str, bytes], mode: int = 0o600) -> None:
    """Write files into a folder of a root, in place of what has their names."""
    found = safepath.real_folder(root, folder, missing_ok=True)
    with safepath.walk(root, found, create=True) as at:
        for file, data in files.items():
            safepath.remove(at, file)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(file, flags, mode, dir_fd=at), "wb") as handle:
                handle.write(data)


def write_hostname(root: int, name: str) -> None:
    """Give a root its machine's host name, which an init sets while it starts."""
    write(root, ["etc"], {HOSTNAME: f"{name}\n".encode()}, 0o644)


def write_resolver(root: int, text: str, *, private: bool) -> None:
    """Tell a root where names are looked up; ``private``: it is this machine's alone, and what is there is nobody's."""
    if text and (private or _open(root)):
        write(root, ["etc"], {RESOLVER: OURS + text.encode()}, 0o644)


def _open(root: int) -> bool:
    """Whether a root has nothing that somebody else said about names: no file, an empty one, or one written here."""
    folder = safepath.real_folder(root, ["etc"], missing_ok=True)
    try:
        with safepath.walk(root, folder) as at:
            if not stat.S_ISREG(os.stat(RESOLVER, dir_fd=at, follow_symlinks=False).st_mode):
                return False
            with os.fdopen(safepath.open_file(at, [RESOLVER]), "rb") as file:
                return file.read(len(OURS)) in (b"", OURS)
    except FileNotFoundError:
        return True
