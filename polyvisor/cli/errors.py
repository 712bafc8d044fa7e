"""Exit codes, and the one exception that a command raises to say what is wrong and what to do next.

Whatever a command meets (an answer of the API server, a file, a signal) becomes a :class:`CliError` before it leaves
the command, so that a user reads sentences and a script reads a number.
"""

from __future__ import annotations

from enum import IntEnum

from polyvisor.api.reading import nested
from polyvisor.kube.errors import ApiError


class ExitCode(IntEnum):
    """What a script can tell apart. Documented in docs/cli.md."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    CONFLICT = 5
    TIMEOUT = 6
    NOT_RUNNING = 7
    NOT_PERMITTED = 8
    INTERRUPTED = 130


class CliError(Exception):
    """A failure as the user shall read it; ``hint`` says what to do next."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


GONE = "Precondition failed"
"""In a refusal of an object that is written with the uid or version of another one."""
INSTANCES = ("virtualmachineinstances", "virtualmachineinstance", "VirtualMachineInstance")


def code_of(error: ApiError) -> ExitCode:
    """Return the exit code that fits an answer of the API server."""
    if error.unreachable:
        return ExitCode.NOT_RUNNING
    if error.code in (401, 403):
        return ExitCode.NOT_PERMITTED
    if error.code in (400, 415, 422):
        return ExitCode.INVALID
    return {404: ExitCode.NOT_FOUND, 409: ExitCode.CONFLICT, 408: ExitCode.TIMEOUT, 504: ExitCode.TIMEOUT}.get(
        error.code, ExitCode.ERROR
    )


def explain(error: ApiError, where: str = "") -> CliError:
    """Turn an answer of the API server into the message for the user, one line a cause."""
    lines = [f"{where}: {error.message}" if where else error.message]
    causes = error.causes
    if causes:
        lines[0] = f"{where}: refused" if where else _headline(error)
        lines += [
            f"  {c.get('field')}: {c.get('message')}" if c.get("field") else f"  {c.get('message')}" for c in causes
        ]
    hint = ""
    if error.unreachable:
        hint = "Is it running? `polyvisor status` tells, `polyvisor up` starts it."
    elif error.not_found and nested(error.status, "details").get("kind") in INSTANCES:
        name = nested(error.status, "details").get("name") or "NAME"
        hint = (
            f"A virtual machine that is not running has no instance: `polyvisor describe vm {name}` says why, "
            f"`polyvisor start {name}` starts it."
        )
    elif error.code == 401:
        hint = "The credentials in the kubeconfig are not this server's: `polyvisor kubeconfig` prints the right file."
    elif error.conflict and "field manager" in error.message:
        hint = "Give --force-conflicts to take those fields over."
    elif error.conflict and GONE in error.message:
        lines[0] = f"{where}: refused: {error.message}" if where else lines[0]
        hint = (
            "The manifest was written from an object that is gone: leave metadata.uid and metadata.resourceVersion out."
        )
    return CliError("\n".join(lines), code_of(error), hint)


def _headline(error: ApiError) -> str:
    details = error.status.get("details") or {}
    kind, name = details.get("kind"), details.get("name")
    return f"{kind} {name!r} was refused:" if kind and name else "refused:"
