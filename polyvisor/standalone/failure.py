"""Why the process cannot start, in words, with the exit code that a script sees."""

from __future__ import annotations

ERROR = 1
ALREADY_RUNNING = 5
TIMEOUT = 6
NOT_PERMITTED = 8


class StartError(Exception):
    """The process cannot start or go on; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "", code: int = ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
