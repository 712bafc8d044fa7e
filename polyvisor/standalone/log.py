"""The log of the process behind ``polyvisor up``: a file in its state folder, set aside when it has grown too large."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

from polyvisor.process import log

MAX_BYTES = 16 * 1024 * 1024


def set_up(path: Path, foreground: bool, verbose: bool = False) -> None:
    """Log to ``path``, and to standard error as well in the foreground. A log grown too large is set aside first."""
    if path.exists() and path.stat().st_size > MAX_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    if foreground:
        handlers.append(logging.StreamHandler(sys.stderr))
    log.set_up(handlers, verbose=verbose, component="standalone", node=socket.gethostname().lower())
