"""Bytes on their way into a claim: unpacked as they come, looked at, made raw, and put in place whole or not at all.

Everything happens in a scratch folder beside the claim's, on the same file system, so the last step is a rename. What
isn't obvious: what is compressed is unpacked without being stored first, so a small file that unpacks to a huge one is
stopped as soon as it has grown past what its claim can hold.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from polyvisor.agent.errors import AgentError, ImageError, translated
from polyvisor.agent.files import safepath, tools
from polyvisor.agent.files.sparse import copy_sparse, only_zeros
from polyvisor.agent.images import decoding, examining
from polyvisor.agent.images.unpack import Unpacker
from polyvisor.agent.images.unpacking import BROKEN, Unpacking, unpacking
from polyvisor.agent.storage import disks

SCRATCH = ".import."
DISK = "disk.img"
ROOM = 1 << 30
"""How much longer than its claim an image may be that holds a disk in another format."""


class Incoming:
    """One import into one claim; a context manager. Blocking."""

    def __init__(
        self,
        volumes: Path,
        namespace: str,
        claim: str,
        size: int,
        called: str,
        *,
        archive: bool = False,
        progress: Callable[[float], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        self.called = called
        self._folder = disks.claim_folder(volumes, namespace, claim)
        self._scratch = self._folder.parent / f"{SCRATCH}{claim}"
        self._doing = f"importing {called} into claim {namespace}/{claim}"
        self._size = disks.capacity(size, f"claim {namespace}/{claim}")
        self._archive = archive
        self._progress = progress
        self._stop = stop or threading.Event()
        self._stream: _Stream | None = None
        self.warning = ""
        """What is odd about the disk that was brought, though it was taken."""

    def __enter__(self) -> Self:
        with translated(self._folder, self._doing):
            safepath.remove_path(self._scratch)
            self._scratch.mkdir(mode=0o700)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
        safepath.remove_path(self._scratch)

    def pause(self, seconds: float) -> None:
        """Wait, unless the import is given up."""
        if self._stop.wait(seconds):
            raise AgentError(f"{self._doing} was given up")

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of what is brought."""
        if self._stop.is_set():
            raise AgentError(f"{self._doing} was given up")
        with translated(self._folder, self._doing):
            if self._stream is None:
                self._stream = _Stream(self._scratch / "image", self.called, self._size, self._archive)
            self._stream.write(chunk)

    def finish(self) -> None:
        """All bytes are there: look at them and put the disk, or the tree of an archive, in place."""
        with translated(self._folder, self._doing):
            if self._stream is None:
                raise ImageError(f"{self.called} is empty", retry=False)
            self._stream.finish()
            image = self._scratch / "image"
            if self._archive:
                self._unpack(image)
            else:
                self._place(self._raw(image))

    def take(self, image: Path) -> None:
        """Copy an image out of the image cache."""
        with translated(self._folder, self._doing):
            copied = self._scratch / "image"
            with image.open("rb") as file:
                examining.examine(file.fileno(), self.called)
                decoding.own_copy(file.fileno(), copied)
            self._place(self._raw(copied))

    def copy(self, disk: int) -> None:
        """Copy a raw disk that is open, whatever stands in it."""
        with translated(self._folder, self._doing):
            self._fits(os.fstat(disk).st_size)
            copied = self._scratch / DISK
            with copied.open("xb") as file:
                copy_sparse(disk, file.fileno(), self._progress)
            self._place(copied)

    @property
    def scratch(self) -> Path:
        """A folder of this import's own, as long as it lasts."""
        return self._scratch

    def take_as(self, image: Path, format_: str) -> None:
        """Take a disk in a file of our own whose format is known, so that what a guest wrote decides nothing."""
        with translated(self._folder, self._doing):
            if format_ != examining.RAW:
                with image.open("rb") as file:
                    found = examining.examine(file.fileno(), self.called).format
                if found != format_:
                    raise ImageError(f"{self.called} is {found}, and {format_} is expected", retry=False)
                self._place(self._raw(image))
                return
            self._fits(image.stat().st_size)
            self._place(image)

    def copy_tree(self, tree: Path) -> None:
        """Copy a folder of this node that nothing writes to."""
        with translated(self._folder, self._doing):
            root = self._scratch / "root"
            tools.run(["cp", "-ax", "--reflink=auto", "-T", "--", tree, root], self._doing, self._scratch)
            self._replace(root)

    def blank(self) -> None:
        """Make an empty disk."""
        with translated(self._folder, self._doing):
            place = self._scratch / DISK
            place.touch(mode=0o600)
            self._place(place)

    def _raw(self, image: Path) -> Path:
        with image.open("rb") as file:
            found = examining.examine(file.fileno(), self.called)
        self._fits(found.size)
        if found.format == examining.RAW:
            if not found.holds:
                self.warning = (
                    f"{self.called} shows neither a boot sector nor a file system that is known here; it is used as a"
                    " raw disk"
                )
            return image
        decoding.check(image, found.format, self.called)
        size = decoding.virtual_size(image, found.format, self.called)
        self._fits(size)
        converted = self._scratch / DISK
        decoding.convert(image, found.format, converted, examining.RAW, size, self.called, self._progress, self._stop)
        return converted

    def _fits(self, size: int) -> None:
        if size > self._size:
            raise ImageError(
                f"{self.called} holds a disk of {size} bytes, and the claim has {self._size}; ask for more storage",
                retry=False,
            )

    def _place(self, image: Path) -> None:
        image.chmod(0o600)
        with image.open("r+b") as file:
            os.ftruncate(file.fileno(), self._size)
            os.fsync(file.fileno())
        with safepath.opened_root(self._scratch) as source, safepath.opened_root(self._folder) as target:
            os.replace(image.name, DISK, src_dir_fd=source, dst_dir_fd=target)
            os.fsync(target)

    def _unpack(self, image: Path) -> None:
        root = self._scratch / "root"
        root.mkdir(mode=0o755)
        try:
            with safepath.opened_root(root) as top, image.open("rb") as file:
                unpacker = Unpacker(top, most=self._size)
                unpacker.layer(file, self.called)
                unpacker.finish()
        except tarfile.TarError as error:
            raise ImageError(f"{self.called} is not a tar archive: {error}", retry=False) from None
        self._replace(root)

    def _replace(self, root: Path) -> None:
        """Put a tree in the place of the claim's folder, which must be empty: nothing of a user's is overwritten."""
        with suppress(FileNotFoundError):
            (self._folder / DISK).unlink()  # what a machine would have been given, had there been nothing yet
        try:
            self._folder.rmdir()
        except OSError:
            raise AgentError(f"{self._doing}: the claim is not empty", retry=False) from None
        root.rename(self._folder)


class _Stream:
    """Writes what comes into a file, without its compression and without its zeros."""

    def __init__(self, place: Path, called: str, size: int, archive: bool) -> None:
        self._called = called
        self._size = size
        self._archive = archive
        self._file = place.open("wb")
        self._waiting = b""
        self._head = b""
        self._most = 0
        self._end = 0
        self._unpacker: Unpacking | None = None
        self._begun = False

    def write(self, chunk: bytes) -> None:
        if not self._begun:
            self._waiting += chunk
            if len(self._waiting) < examining.HEAD:
                return
            chunk = self._begin()
        self._pass(chunk)

    def _begin(self) -> bytes:
        self._begun = True
        found, self._waiting = self._waiting, b""
        self._unpacker = unpacking(found)
        return found

    def _pass(self, chunk: bytes) -> None:
        if self._unpacker is None:
            self._put(chunk)
            return
        try:
            for data in self._unpacker.feed(chunk):
                self._put(data)
        except BROKEN as error:
            raise ImageError(f"{self._called} is damaged: {error}") from None

    def _put(self, data: bytes) -> None:
        if len(self._head) < examining.HEAD:
            self._head += data[: examining.HEAD - len(self._head)]
            raw = not self._archive and examining.format_of(self._head, self._called) == examining.RAW
            self._most = self._size + (0 if raw else ROOM)
        if self._end + len(data) > self._most:
            raise ImageError(
                f"{self._called} is larger than its claim, which has {self._size} bytes; ask for more storage",
                retry=False,
            )
        self._end += len(data)
        if only_zeros(data):
            self._file.seek(self._end)
        else:
            self._file.write(data)

    def finish(self) -> None:
        if not self._begun:
            self._pass(self._begin())
        if self._unpacker is not None and not self._unpacker.whole:
            raise ImageError(f"{self._called} is cut off: its compressed data ends too early")
        if not self._end:
            raise ImageError(f"{self._called} is empty", retry=False)
        self._file.flush()
        os.ftruncate(self._file.fileno(), self._end)
        self._file.close()

    def close(self) -> None:
        self._file.close()
