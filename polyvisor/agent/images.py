"""The image store: from a reference in a manifest to an unpacked, read-only tree, kept by digest.

``images/`` is filled by the administrator; ``cache/`` is ours. A tree is unpacked beside its final place and renamed,
so one that is there is whole: whoever dies half way leaves a ``tmp.`` folder that the next start sweeps away. What
isn't obvious: machines' disks are overlays on files of the cache, so nothing in it may ever be changed.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent import oci, safepath
from polyvisor.agent.errors import ImageError, UnsafePath, translated
from polyvisor.agent.unpack import Unpacker

Progress = Callable[[str], None]
_TMP = "tmp."
_libc = ctypes.CDLL(None, use_errno=True)


def silent(_: str) -> None:
    """Report progress to nobody."""


class ImageStore:
    """Finds images below ``store`` and keeps them unpacked below ``cache``. Blocking; safe to use from threads."""

    def __init__(self, store: Path, cache: Path) -> None:
        self._store = store
        self._cache = cache
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def sweep(self) -> None:
        """Remove what an interrupted run left half made. Only while nobody unpacks."""
        if self._cache.is_dir():
            for entry in self._cache.iterdir():
                if entry.name.startswith(_TMP):
                    safepath.remove_path(entry)

    def tree(self, reference: str, *, architecture: str = "", progress: Progress = silent) -> Path:
        """Return the folder with the unpacked content of an image; unpack it first if need be."""
        if not self._store.is_dir():
            raise ImageError(f"no image {reference}: the image store {self._store} does not exist")
        try:
            with oci.opened_image(self._store, reference, architecture or oci.host_architecture()) as image:
                place = self._cache / image.key
                with self._guard:
                    lock = self._locks[image.key]
                with lock:
                    if not place.is_dir():
                        progress(f"unpacking image {reference}")
                        self._unpack(image, place)
                return place
        except UnsafePath as error:
            raise ImageError(f"image {reference}: {error}", retry=False) from error

    def _unpack(self, image: oci.Image, place: Path) -> None:
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = self._cache / f"{_TMP}{secrets.token_hex(6)}"
        try:
            with translated(self._cache, f"unpacking image {image.reference}"):
                scratch.mkdir(mode=0o755)
                with safepath.opened_root(scratch) as root:
                    unpacker = Unpacker(root)
                    for layer in image.layers:
                        with layer.opened() as content:
                            unpacker.layer(content, layer.digest)
                    unpacker.finish()
                    _libc.syncfs(root)  # what is renamed into place survives a power cut whole
                scratch.rename(place)
        except BaseException:
            safepath.remove_path(scratch)
            raise

    def file(self, reference: str, path: str, *, architecture: str = "", progress: Progress = silent) -> Path:
        """Return a file out of an image (a kernel, an initrd)."""
        return self.file_in(self.tree(reference, architecture=architecture, progress=progress), reference, path)

    def disk(self, reference: str, path: str = "", *, architecture: str = "", progress: Progress = silent) -> Path:
        """Return the disk image in a containerDisk: the file at ``path``, else the only one below ``/disk``."""
        tree = self.tree(reference, architecture=architecture, progress=progress)
        return self.file_in(tree, reference, path) if path else self._only_disk(tree, reference)

    def file_in(self, tree: Path, reference: str, path: str) -> Path:
        """Return a file of an unpacked tree, never one outside of it."""
        try:
            with safepath.opened_root(tree) as root:
                return tree.joinpath(*safepath.real_file(root, safepath.parts(path)))
        except UnsafePath as error:
            raise ImageError(f"image {reference}: {error}", retry=False) from error
        except OSError as error:
            raise ImageError(f"image {reference} has no file {path} ({error.strerror})", retry=False) from error

    def _only_disk(self, tree: Path, reference: str) -> Path:
        try:
            with safepath.opened_root(tree) as root:
                folder = safepath.real_folder(root, ["disk"])
                with safepath.walk(root, folder) as at:
                    names = sorted(n for n in os.listdir(at) if not n.startswith("."))  # noqa: PTH208
        except (OSError, UnsafePath):
            names = []
        if not names:
            raise ImageError(f"image {reference} has no file below /disk; name the disk image in 'path'", retry=False)
        if len(names) > 1:
            raise ImageError(
                f"image {reference} is ambiguous: /disk holds {', '.join(names[:10])}; name one in 'path'", retry=False
            )
        return self.file_in(tree, reference, f"disk/{names[0]}")
