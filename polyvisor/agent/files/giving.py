"""Giving what lies below the state folder to a machine's own user: the file alone, and the way to it.

The state folder itself is closed to all but root, so what is opened to others below it is open to machines, whose
mounts have these folders (:mod:`.confinement`). All is done through descriptors; no link is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.agent.errors import UnsafePath
from polyvisor.agent.files import safepath

MAX_DEPTH, MAX_ENTRIES = 8, 1000
"""Of folders in each other, and of files in one, in what a TPM or firmware keeps; a handful of files, as they come."""
PASSED = stat.S_IXOTH
READ = stat.S_IROTH | stat.S_IRGRP


def give_file(top: Path, path: Path, user: int) -> None:
    """Make a user the owner of a file below ``top``."""
    with _reached(top, path.relative_to(top).parts[:-1]) as folder:
        file = safepath.open_file(folder, [path.name])
    try:
        os.fchown(file, user, user)
    finally:
        os.close(file)


def show_file(top: Path, path: Path) -> None:
    """Let all machines read a file below ``top``."""
    with _reached(top, path.relative_to(top).parts[:-1]) as folder:
        file = safepath.open_file(folder, [path.name])
    try:
        _allow(file, READ)
    finally:
        os.close(file)


def give_folder(top: Path, path: Path, user: int) -> None:
    """Make a user the owner of a folder below ``top`` and of all in it but files that have other names elsewhere."""
    with _reached(top, path.relative_to(top).parts[:-1]) as parent, safepath.walk(parent, [path.name]) as folder:
        _give_all(folder, user, 0)


def _give_all(folder: int, user: int, depth: int) -> None:
    """Give an open folder and what is in it. It may have been another hypervisor's, who may have made it anything."""
    if depth > MAX_DEPTH:
        raise UnsafePath(f"the state of a machine has more than {MAX_DEPTH} folders in each other")
    names = os.listdir(folder)
    if len(names) > MAX_ENTRIES:
        raise UnsafePath(f"the state of a machine has more than {MAX_ENTRIES} files in a folder")
    for name in names:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            with safepath.walk(folder, [name]) as inner:
                _give_all(inner, user, depth + 1)
        elif found.st_nlink == 1:
            os.chown(name, user, user, dir_fd=folder, follow_symlinks=False)
    os.fchown(folder, user, user)


def show_tree(top: Path, path: Path) -> None:
    """Let all machines read a tree below ``top``; there need be none."""
    with suppress(FileNotFoundError), _reached(top, path.relative_to(top).parts) as folder:
        for _, folders, files, at in os.fwalk(".", dir_fd=folder):
            for name in folders:
                with safepath.walk(at, [name]) as inner:
                    _allow(inner, PASSED | READ)
            for name in files:
                file = safepath.open_file(at, [name])
                try:
                    _allow(file, READ)
                finally:
                    os.close(file)
        _allow(folder, READ)


def show_folder(top: Path, path: Path) -> None:
    """Let all machines pass to a folder below ``top``."""
    with _reached(top, path.relative_to(top).parts):
        pass


@contextmanager
def _reached(top: Path, names: Sequence[str]) -> Iterator[int]:
    """Open a folder, and let others pass to it from ``top`` on."""
    with safepath.opened_root(top) as root:
        _allow(root, PASSED)
        for length in range(1, len(names)):
            with safepath.walk(root, list(names[:length])) as on_the_way:
                _allow(on_the_way, PASSED)
        with safepath.walk(root, list(names)) as folder:
            _allow(folder, PASSED)
            yield folder


def _allow(descriptor: int, rights: int) -> None:
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & rights != rights:
        os.fchmod(descriptor, mode | rights)
