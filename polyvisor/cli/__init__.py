"""The command line. ``main`` is the entry point; nothing is imported before it is called, so that it starts fast."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit with its code.

    What is imported lasts as long as the process. The collector would look through all of it again and again while it
    grows, which takes a tenth of a short command's time; so it rests until a command has begun.
    """
    gc.set_threshold(50_000)
    from polyvisor.cli.app import run

    sys.exit(run(sys.argv[1:]))


def plugin() -> None:
    """Run as a plug-in of kubectl (``kubectl virt ...``): the cluster is the one that kubectl itself works on."""
    gc.set_threshold(50_000)
    from polyvisor.cli.app import run

    sys.exit(run(sys.argv[1:], plugin=True))
