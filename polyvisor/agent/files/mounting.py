"""Shows files of one mount namespace in another: a container's image to the launcher, a disk of its own for writing.

A mount is cloned where its file is, travels as a descriptor, and is put where it is to be seen; the path of neither
side is ever walked by the kernel as root. What isn't obvious: cloning and putting are only allowed inside the namespace
concerned, and a process with threads cannot enter one. So both are done by this module run as a program of its own,
which gets everything as descriptors. It leans on the standard library alone, all of it loaded before it enters.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import mounts

SECONDS = 60.0


def clone_here(descriptor: int, *, read_only: bool = False) -> int:
    """Clone the mount of a file or folder of this process's own namespace; the caller owns the descriptor."""
    tree = mounts.clone_tree(descriptor, "", "cloning a mount")
    attributes = mounts.NO_SUID | mounts.NO_DEVICES | mounts.NO_PROGRAMS | (mounts.READ_ONLY if read_only else 0)
    try:
        mounts.set_attributes(tree, attributes, "setting a mount's attributes")
    except BaseException:
        os.close(tree)
        raise
    return tree


def clone_of(process: int, root: int) -> int:
    """Clone the root of another process's namespace, read-only; the caller owns the descriptor."""
    return _cloned("clone", process, root)


def share_of(process: int, file: int) -> int:
    """Clone the mount of a file of another process's namespace, to be written to; the caller owns the descriptor."""
    return _cloned("share", process, file)


def _cloned(what: str, process: int, opened: int) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _run(what, [process, opened, theirs.fileno()])
        _, found, _, _ = socket.recv_fds(ours, 16, 1)
    os.set_inheritable(found[0], False)
    return found[0]


def place(process: int, pairs: Sequence[tuple[int, int]]) -> None:
    """Put cloned mounts over files or folders of another process's namespace, all given as descriptors."""
    if pairs:
        _run("place", [process, *(number for pair in pairs for number in pair)])


def take_away(process: int, folder: int, names: Sequence[str]) -> None:
    """Take what was put over files of a folder of another process's namespace away; one without is left as it is."""
    if names:
        _run("take", [process, folder], names)


def _run(what: str, descriptors: Sequence[int], names: Sequence[str] = ()) -> None:
    given = (what, str(len(descriptors)), *map(str, descriptors), *names)
    command = [sys.executable, "-P", "-m", "polyvisor.agent.files.mounting", *given]
    try:
        done = subprocess.run(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise AgentError("showing files to the launcher: no end within a minute") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise AgentError(f"showing files to the launcher: {said[-500:]}")


def _enter(process: int) -> None:
    mounts.enter_namespace(process, "entering a mount namespace")


def _clone(process: int, opened: int, answer: int, *, read_only: bool) -> None:
    _enter(process)
    with socket.socket(fileno=answer) as peer:
        socket.send_fds(peer, [b"mount"], [clone_here(opened, read_only=read_only)])


def _place(process: int, numbers: Sequence[int]) -> None:
    _enter(process)
    for tree, target in zip(numbers[::2], numbers[1::2], strict=True):
        mounts.put_tree(tree, target, "", "putting a mount in its place")


def _take(process: int, folder: int, names: Sequence[str]) -> None:
    _enter(process)
    os.fchdir(folder)  # so that the kernel walks nothing but the name
    for name in names:
        mounts.detach(name, f"taking {name} away")


def main(arguments: Sequence[str]) -> int:
    """Do one thing in another namespace; the arguments are what, a count, as many numbers of descriptors, and names."""
    what, count, *rest = arguments
    process, *numbers = map(int, rest[: int(count)])
    try:
        if what in ("clone", "share"):
            _clone(process, *numbers, read_only=what == "clone")
        elif what == "place":
            _place(process, numbers)
        else:
            _take(process, numbers[0], rest[int(count) :])
    except OSError as error:
        os.write(2, str(error.strerror or error).encode())
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing is loaded or cleaned up in a foreign namespace
