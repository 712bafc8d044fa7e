"""How far the start has come, told to whoever started the process: one JSON object a line on a pipe.

The pipe's end says as much as its lines: if it closes before ``ready`` or ``failed`` was said, the process died.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

logger = logging.getLogger(__name__)


class Progress:
    """Writes steps to a pipe (if there is one) and to the log."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd

    def step(self, name: str, text: str) -> None:
        """Something begins."""
        logger.info(text, extra={"step": name})
        self._send({"step": name, "text": text})

    def waiting(self, text: str) -> None:
        """It still goes on, and this is what it waits for (if that is known)."""
        logger.debug(text)
        self._send({"waiting": text})

    def done(self, name: str, text: str, ok: bool = True) -> None:
        """Something is there (or is known not to be)."""
        logger.info(text, extra={"step": name, "ok": ok})
        self._send({"done": name, "text": text, "ok": ok})

    def ready(self, info: dict[str, Any]) -> None:
        """All is there; the pipe is closed."""
        self._send({"ready": info})
        self._close()

    def failed(self, message: str, hint: str, code: int) -> None:
        """The start has failed; the pipe is closed."""
        self._send({"failed": message, "hint": hint, "code": code})
        self._close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, json.dumps(message).encode() + b"\n")
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
