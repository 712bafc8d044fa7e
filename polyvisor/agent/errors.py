"""What can go wrong while a machine is made ready, as one exception that a user can act on.

The message says what, where and what to do, and never holds a secret; ``reason`` is the CamelCase word that lands in
conditions and Events; ``retry`` is False where trying again cannot help until somebody changes the object.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYNC_FAILED = "SyncFailed"
IMAGE_FAILED = "ErrImagePull"
IMAGE_BACK_OFF = "ImagePullBackOff"
PVC_NOT_FOUND = "FailedPvcNotFound"

_FULL = (errno.ENOSPC, errno.EDQUOT)


class AgentError(Exception):
    """A machine cannot be made ready, or not yet."""

    def __init__(self, message: str, *, reason: str = SYNC_FAILED, retry: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry = retry


class ImageError(AgentError):
    """An image is missing, ambiguous, damaged or not what it should be."""

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message, reason=IMAGE_FAILED, retry=retry)


class NoSuchImage(ImageError):
    """The image store holds no image of that name."""


class NoSuchClaim(AgentError):
    """A claim that a machine names is not there."""

    def __init__(self, namespace: str, name: str) -> None:
        super().__init__(f"PersistentVolumeClaim {namespace}/{name} does not exist", reason=PVC_NOT_FOUND)


class BlockClaim(AgentError):
    """A claim is a block device where a folder is wanted."""

    def __init__(self, volume: str, claim: str) -> None:
        message = f"volume {volume}: claim {claim} is a block device, and a folder is wanted; a claim with volumeMode:"
        super().__init__(f"{message} Filesystem is wanted", retry=False)


class UnsafePath(AgentError):
    """A path leaves the folder that it belongs to, or goes through a link that nobody vouches for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=False)


def full_disk(folder: Path, doing: str) -> AgentError:
    """Say that the disk below ``folder`` is full, and how full."""
    stats = os.statvfs(folder)
    free = stats.f_bavail * stats.f_frsize // (1024 * 1024)
    return AgentError(f"no space left while {doing}: {free} MiB free on the disk that holds {folder}; free some space")


@contextmanager
def translated(folder: Path, doing: str) -> Iterator[None]:
    """Turn an :class:`OSError` raised inside into one clear :class:`AgentError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full_disk(folder, doing) from error
        if error.errno == errno.EFBIG:
            message = f"{doing}: the file system that holds {folder} takes no file of that size; ask for a smaller disk"
            raise AgentError(message, retry=False) from error
        where = f" ({error.filename})" if error.filename else ""
        raise AgentError(f"{doing}: {error.strerror or error}{where}") from error
