"""A process's log: one JSON object a line, with the object that a line is about in fields of its own.

Each line says which component wrote it and on which node; a line of a controller also says which controller and which
object (``namespace``, ``name``, ``uid``, from :mod:`polyvisor.kube.about`). ``logger.info("...", extra={"hint": "x"})``
adds fields of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from polyvisor.kube import about

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; ``constant`` holds fields of every line."""

    def __init__(self, constant: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._constant = {key: value for key, value in (constant or {}).items() if value}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= self._constant | dict(about.fields())
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def set_up(handlers: Sequence[logging.Handler] = (), *, verbose: bool = False, **constant: str) -> None:
    """Log to the handlers, by default to standard error, where a container's log is taken from.

    ``constant`` are fields of every line, such as the component and its node.
    """
    handlers = handlers or [logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        handler.setFormatter(JsonLines(constant))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=handlers, force=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
