"""What must hold before anything is started, so that a refusal leaves nothing half made."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import tempfile
from importlib.util import find_spec
from pathlib import Path

from polyvisor.standalone.failure import NOT_PERMITTED, StartError
from polyvisor.standalone.state import StateFolder

LONGEST_ROOT = 48
"""Below it libvirt makes sockets, whose paths the kernel limits to 107 bytes."""
LEAST_FREE = 64 * 1024 * 1024
HOST = "127.0.0.1"


def check_folder(state: StateFolder) -> None:
    """Make the state folder if need be, and see that it can be used."""
    root = state.root
    if len(os.fsencode(root)) > LONGEST_ROOT:
        raise StartError(
            f"the path of the state folder is too long for Unix sockets below it: {root}",
            f"Choose one of at most {LONGEST_ROOT} bytes with --state-dir or POLYVISOR_STATE_DIR.",
        )
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise folder_failure(root, error) from error
    if (free := shutil.disk_usage(root).free) < LEAST_FREE:
        raise StartError(
            f"the disk of {root} is full: {free >> 20} MiB left, at least {LEAST_FREE >> 20} MiB are needed",
            "Make room, or choose another folder with --state-dir.",
        )


def folder_failure(root: Path, error: OSError) -> StartError:
    """Say why a folder cannot be written."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(
            f"the state folder {root} cannot be written: {error.strerror}",
            "Run as its owner (or with sudo), or choose another folder with --state-dir.",
            NOT_PERMITTED,
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StartError(
            f"the disk of {root} is full: {error.strerror}", "Make room, or choose another folder with --state-dir."
        )
    return StartError(
        f"the state folder {root} cannot be used: {error.strerror}", "Choose another folder with --state-dir."
    )


def check_libvirt() -> None:
    """See that libvirt's Python binding is there and loads."""
    hint = "Install libvirt (on Debian: apt-get install libvirt0), then `pip install libvirt-python`."
    if find_spec("libvirt") is None:
        raise StartError("libvirt's Python binding is not installed", hint)
    try:
        import libvirt

        libvirt.getVersion()
    except Exception as error:
        raise StartError(f"libvirt cannot be loaded: {error}", hint) from error


def check_database(path: Path) -> None:
    """See that an existing database is one and is whole."""
    if not path.exists():
        return
    hint = (
        f"Set it aside (mv {path} {path}.broken) and start again: objects in it are lost, disks are not. "
        "Its -wal and -shm files belong to it."
    )
    try:
        connection = sqlite3.connect(path, timeout=2)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if "full" in str(error):
            raise StartError(f"the disk of {path} is full", "Make room and start again.") from error
        raise StartError(f"the database {path} cannot be used: {error}", hint) from error
    if found != "ok":
        raise StartError(f"the database {path} is damaged: {found}", hint)


def listen(port: int, preferred: int) -> socket.socket:
    """Return a listening socket: on ``port`` if one is given, else on the preferred one, else on any free one."""
    try:
        return _listen(port or preferred)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StartError(f"cannot listen on {HOST}:{port or preferred}: {error.strerror}") from error
        if port:
            raise StartError(
                f"port {port} on {HOST} is in use by another program",
                "Give another with --port, or none to let Polyvisor choose.",
            ) from error
        return _listen(0)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
