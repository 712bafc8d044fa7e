"""Pages of docs/ that a tool writes: the command line that all of these tools have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def write_page(path: Path, generate: Callable[[], str], about: str | None) -> int:
    """Write the page, or with ``--check`` say that it is out of step; ``about`` is the help. Returns the exit code."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of step")
    check = parser.parse_args().check
    text = generate()
    if not check:
        path.write_text(text)
        return 0
    if path.exists() and path.read_text() == text:
        return 0
    sys.stderr.write(f"{path.name} is out of step; run {Path(sys.argv[0]).name}\n")
    return 1
