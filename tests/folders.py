"""Folders of a test's own whose paths are short enough for the Unix sockets below them; ``tmp_path`` is not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder that no other run has, and remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
