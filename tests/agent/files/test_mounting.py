"""Files of one mount namespace shown in another, with the kernel's own calls; needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import mounting
from tests.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@contextmanager
def elsewhere() -> Iterator[int]:
    """Yield a process in a mount namespace of its own, by its number."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.communicate(b"\n")


@contextmanager
def opened(path: Path | str, flags: int = os.O_PATH) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_file_is_shown_in_another_namespace_and_taken_away(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("shown")
    (tmp_path / "theirs").write_text("hidden")
    with elsewhere() as pid, opened(f"/proc/{pid}/ns/mnt", os.O_RDONLY) as namespace:
        seen = Path(f"/proc/{pid}/root{tmp_path}/theirs")
        with opened(tmp_path / "ours") as file, opened(seen) as target, opened(seen.parent) as folder:
            tree = mounting.clone_here(file, read_only=True)
            mounting.place(namespace, [(tree, target)])
            os.close(tree)
            assert seen.read_text() == "shown"
            assert (tmp_path / "theirs").read_text() == "hidden"
            with pytest.raises(OSError, match="Read-only"):
                seen.write_text("changed")
            mounting.take_away(namespace, folder, ["theirs"])
            mounting.take_away(namespace, folder, ["theirs"])  # is left as it is
            assert seen.read_text() == "hidden"


def test_a_root_of_another_namespace_is_cloned_read_only() -> None:
    with (
        elsewhere() as pid,
        opened(f"/proc/{pid}/ns/mnt", os.O_RDONLY) as namespace,
        opened(f"/proc/{pid}/root") as root,
    ):
        tree = mounting.clone_of(namespace, root)
        try:
            assert Path(f"/proc/self/fd/{tree}/etc").is_dir()
            with pytest.raises(OSError, match="Read-only"):
                os.open("polyvisor-test", os.O_CREAT | os.O_WRONLY, dir_fd=tree)
        finally:
            os.close(tree)


def test_what_is_no_namespace_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path) as folder, pytest.raises(AgentError, match="entering a mount namespace: "):
        mounting.take_away(folder, folder, ["name"])
