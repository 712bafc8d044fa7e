"""Errors of the API server: each one is a Kubernetes ``Status`` object with its HTTP code.

Everything below the HTTP layer raises :class:`StatusError`; nothing else may reach a client. The constructors here
carry the reasons and the wording that Kubernetes' clients look for, so that a message reads the same in both worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyvisor.api.problems import Problem, invalid_status

Obj = dict[str, Any]


class StatusError(Exception):
    """A failure that a client is told about, as ``Status``."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def to_obj(self) -> Obj:
        """Return the ``Status`` object."""
        return status_object(self.code, self.reason, self.message, self.details)


class StorageError(Exception):
    """The database refused a write; nothing of it was kept. ``full`` says that there was no room for it."""

    def __init__(self, message: str, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


def status_object(code: int, reason: str, message: str, details: Obj | None = None) -> Obj:
    """Build a ``Status``; success has no reason."""
    status: Obj = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure" if code >= 400 else "Success",
    }
    if message:
        status["message"] = message
    if reason:
        status["reason"] = reason
    if details:
        status["details"] = details
    status["code"] = code
    return status


def qualified(plural: str, group: str) -> str:
    """Return ``virtualmachines.kubevirt.io``, or the bare plural in the core group."""
    return f"{plural}.{group}" if group else plural


def _details(name: str, kind: str, group: str) -> Obj:
    details = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in details.items() if value}


def not_found(plural: str, group: str, name: str) -> StatusError:
    """Say that an object does not exist."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(name, plural, group))


def no_such_path(why: str = "the server could not find the requested resource") -> StatusError:
    """Say that nothing is served at the path asked for."""
    return StatusError(404, "NotFound", why)


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """Say that the name is taken."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(name, plural, group))


def conflict(plural: str, group: str, name: str, why: str) -> StatusError:
    """Say that the object is not what the client took it for."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(name, plural, group))


def modified(plural: str, group: str, name: str) -> StatusError:
    """Say that somebody changed the object first."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(plural, group, name, why)


def bad_request(message: str) -> StatusError:
    """Say that the request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def expired(message: str) -> StatusError:
    """Say that the history asked for is gone."""
    return StatusError(410, "Expired", message)


def forbidden(message: str, plural: str = "", group: str = "", name: str = "") -> StatusError:
    """Refuse an understood request."""
    return StatusError(403, "Forbidden", message, _details(name, plural, group) or None)


def invalid(kind: str, group: str, name: str, problems: Sequence[Problem]) -> StatusError:
    """Turn problems into a 422 whose causes carry field, reason and message."""
    status = invalid_status(kind, group, name, problems)
    return StatusError(status["code"], status["reason"], status["message"], status["details"])


def storage_failure(error: StorageError) -> StatusError:
    """Say that the database could not keep the write (507 when the disk is full)."""
    if error.full:
        return StatusError(507, "InsufficientStorage", f"the write was not kept, the disk is full: {error}")
    return StatusError(500, "InternalError", f"the write was not kept: {error}")
