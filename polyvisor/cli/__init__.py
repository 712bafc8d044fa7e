"""The command line. ``main`` is the entry point; nothing is imported before it is called, so that it starts fast."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    _hurry()
    from polyvisor.cli.app import run

    sys.exit(run(sys.argv[1:]))


def plugin() -> None:
    """Run as a plug-in of kubectl (``kubectl virt ...``): the cluster is the one that kubectl itself works on."""
    _hurry()
    from polyvisor.cli.app import run

    sys.exit(run(sys.argv[1:], plugin=True))


def _hurry() -> None:
    """Leave out what a short command has nothing from, a sixth of its time together.

    What is imported lasts as long as the process, and the collector would look through all of it again and again while
    it grows. And pydantic looks for plug-ins among all packages that are installed; there is none that we use.
    """
    gc.set_threshold(200_000)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
