"""The command line. ``main`` is the entry point; nothing is imported before it is called, so that it starts fast."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from polyvisor.cli.app import run

    sys.exit(run(sys.argv[1:]))
