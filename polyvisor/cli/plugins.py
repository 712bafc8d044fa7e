"""Telling the user of driver plug-ins that are installed and left out; the rest of the command goes on without them."""

from __future__ import annotations

from polyvisor.cli.output import note
from polyvisor.drivers import registry


def tell_left_out() -> None:
    """Write a line to standard error for each plug-in that is left out, with what is wrong with it."""
    for problem in registry().problems:
        note(problem)
