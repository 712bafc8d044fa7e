"""Setting huge pages of this host aside for a test; they are given back when it is over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
MIB = 2
"""The size of a page."""


def count(name: str) -> int:
    """Return one of the kernel's counts: ``nr``, ``free``."""
    return int((FOLDER / f"{name}_hugepages").read_text())


@contextmanager
def set_aside(pages: int) -> Iterator[None]:
    """Set pages aside, beside those that are."""
    if os.geteuid() or not FOLDER.is_dir():
        pytest.skip("setting huge pages aside needs root, and a kernel that has them")
    before = count("nr")
    (FOLDER / "nr_hugepages").write_text(str(before + pages))
    try:
        if count("nr") < before + pages:
            pytest.skip(f"the kernel finds no room for {pages} huge pages")
        yield
    finally:
        (FOLDER / "nr_hugepages").write_text(str(max(count("nr") - pages, 0)))
