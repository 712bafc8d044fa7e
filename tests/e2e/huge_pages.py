"""Setting huge pages of this host aside for a test; they are given back when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import absent, need_root

FOLDER = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
MIB = 2
"""The size of a page."""


def count(name: str) -> int:
    """Return one of the kernel's counts: ``nr``, ``free``."""
    return int((FOLDER / f"{name}_hugepages").read_text())


@contextmanager
def set_aside(pages: int) -> Iterator[None]:
    """Set pages aside, beside those that are."""
    need_root()
    if not FOLDER.is_dir():
        absent("huge pages", "the kernel has none of this size")
    before = count("nr")
    (FOLDER / "nr_hugepages").write_text(str(before + pages))
    try:
        if count("nr") < before + pages:
            absent("huge pages", f"the kernel finds no room for {pages}")
        yield
    finally:
        (FOLDER / "nr_hugepages").write_text(str(max(count("nr") - pages, 0)))
