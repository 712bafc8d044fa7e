"""The image store: from a reference in a manifest to an unpacked, read-only tree, kept by digest.

``images/`` is filled by the administrator; ``cache/`` is ours. A tree is unpacked beside its final place and renamed,
so one that is there is whole: whoever dies half way leaves a ``tmp.`` folder that the next start sweeps away. Beside
it lies ``KEY.json`` with the references that led to it: once none of them does and no machine uses the tree, it is
pruned. What isn't obvious: machines' disks are overlays on files of the cache, so nothing in it may ever be changed.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path

from polyvisor.agent.errors import AgentError, ImageError, NoSuchImage, UnsafePath, translated
from polyvisor.agent.files import safepath
from polyvisor.agent.images import oci
from polyvisor.agent.images.registry import Pull, Reference, Registries
from polyvisor.agent.images.unpack import Unpacker

Progress = Callable[[str], None]
ANYHOW = Pull()
PULLED = "pulled:"
"""What notes call an image that was pulled: this, and the name of its layout."""
_TMP = "tmp."
YOUNG_SECONDS = 3600.0
"""How long a tree that was asked for counts as used: a machine may be on its way that is not known to use it yet."""
log = logging.getLogger("polyvisor.images")
_libc = ctypes.CDLL(None, use_errno=True)


def silent(_: str) -> None:
    """Report progress to nobody."""


class ImageStore:
    """Finds images below ``store`` or in registries, and keeps them unpacked below ``cache``.

    Blocking; safe to use from threads.
    """

    def __init__(self, store: Path, cache: Path, registries: Registries | None = None) -> None:
        self._store = store
        self._cache = cache
        self._registries = registries
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._asked: dict[str, float] = {}

    @property
    def cache(self) -> Path:
        """The folder below which images are unpacked."""
        return self._cache

    def sweep(self) -> None:
        """Remove what an interrupted run left half made. Only while nobody unpacks."""
        if self._cache.is_dir():
            for entry in self._cache.iterdir():
                if entry.name.startswith(_TMP):
                    safepath.sweep_path(entry)
        if self._registries is not None:
            self._registries.sweep()

    def tree(self, reference: str, *, architecture: str = "", progress: Progress = silent, pull: Pull = ANYHOW) -> Path:
        """Return the folder with the unpacked content of an image; pull and unpack it first if need be."""
        if not self._store.is_dir():
            raise ImageError(f"no image {reference}: the image store {self._store} does not exist")
        architecture = architecture or oci.host_architecture()
        try:
            try:
                with oci.opened_image(self._store, reference, architecture) as image:
                    return self._unpacked(image, reference, architecture, progress)
            except NoSuchImage:
                wanted = Reference.parse(reference) if self._registries is not None else None
                if wanted is None or self._registries is None:
                    raise
            return self._pulled(self._registries, wanted, architecture, progress, pull)
        except UnsafePath as error:
            raise ImageError(f"image {reference}: {error}", retry=False) from error

    def _pulled(
        self, registries: Registries, wanted: Reference, architecture: str, progress: Progress, pull: Pull
    ) -> Path:
        layout = registries.layout(wanted, pull, architecture, progress)
        try:
            with oci.opened_image(layout.parent, f"oci:{layout.name}", architecture) as image:
                tree = self._unpacked(image, f"{PULLED}{layout.name}", architecture, progress)
                registries.slim(layout, [layer.digest for layer in image.layers])
                return tree
        except AgentError as error:
            registries.forget(layout)
            if isinstance(error, UnsafePath):
                raise
            raise ImageError(f"image {wanted}: {error}", retry=error.retry) from error

    def _unpacked(self, image: oci.Image, reference: str, architecture: str, progress: Progress) -> Path:
        place = self._cache / image.key
        with self._lock(image.key):
            self._asked[image.key] = time.monotonic()
            if not place.is_dir():
                progress(f"unpacking image {image.reference}")
                self._unpack(image, place)
            self._note(image.key, reference, architecture)
        return place

    def key_of(self, path: Path) -> str:
        """Return the name of the tree that a file of the cache is in."""
        return path.relative_to(self._cache).parts[0]

    def prune(self, used: Collection[str]) -> list[str]:
        """Remove the trees that no reference leads to any more and that are not ``used``; return their names."""
        if not self._cache.is_dir():
            return []
        if self._registries is not None:
            self._registries.prune()
        gone = []
        for note in sorted(self._cache.glob("*.json")):
            key = note.stem
            with self._lock(key):
                young = time.monotonic() - self._asked.get(key, -YOUNG_SECONDS) < YOUNG_SECONDS
                if key in used or young or any(self._leads(key, *one) for one in _notes(note)):
                    continue
                log.info("image %s left the store and no machine uses it: pruned", key)
                safepath.remove_path(self._cache / key)
                note.unlink()
                gone.append(key)
        return gone

    def _lock(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks[key]

    def _note(self, key: str, reference: str, architecture: str) -> None:
        path = self._cache / f"{key}.json"
        known = _notes(path)
        if (reference, architecture) not in known:
            safepath.write_atomic(path, json.dumps([*known, (reference, architecture)]).encode())

    def _leads(self, key: str, reference: str, architecture: str) -> bool:
        try:
            with self._kept(reference, architecture) as image:
                return image.key == key
        except (ImageError, UnsafePath, FileNotFoundError):
            return False

    def _kept(self, reference: str, architecture: str) -> AbstractContextManager[oci.Image]:
        if self._registries is not None and reference.startswith(PULLED):
            name = reference.removeprefix(PULLED)
            return oci.opened_image(self._registries.folder, f"oci:{name}", architecture)
        return oci.opened_image(self._store, reference, architecture)

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

    def file(
        self, reference: str, path: str, *, architecture: str = "", progress: Progress = silent, pull: Pull = ANYHOW
    ) -> Path:
        """Return a file out of an image (a kernel, an initrd)."""
        tree = self.tree(reference, architecture=architecture, progress=progress, pull=pull)
        return self.file_in(tree, reference, path)

    def disk(
        self,
        reference: str,
        path: str = "",
        *,
        architecture: str = "",
        progress: Progress = silent,
        pull: Pull = ANYHOW,
    ) -> Path:
        """Return the disk image in a containerDisk: the file at ``path``, else the only one below ``/disk``."""
        tree = self.tree(reference, architecture=architecture, progress=progress, pull=pull)
        with safepath.opened_root(tree) as root:
            return tree.joinpath(*find_disk(root, reference, path))

    def file_in(self, tree: Path, reference: str, path: str) -> Path:
        """Return a file of an unpacked tree, never one outside of it."""
        with safepath.opened_root(tree) as root:
            return tree.joinpath(*find_file(root, reference, path))


def find_file(root: int, reference: str, path: str) -> list[str]:
    """Return where a file of an image is below the image's open tree, free of links; never one outside of it."""
    try:
        return safepath.real_file(root, safepath.parts(path))
    except UnsafePath as error:
        raise ImageError(f"image {reference}: {error}", retry=False) from error
    except OSError as error:
        raise ImageError(f"image {reference} has no file {path} ({error.strerror})", retry=False) from error


def find_disk(root: int, reference: str, path: str = "") -> list[str]:
    """Return where the disk image in a containerDisk is: the file at ``path``, else the only one below ``/disk``."""
    if path:
        return find_file(root, reference, path)
    try:
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
    return find_file(root, reference, f"disk/{names[0]}")


def _notes(path: Path) -> list[tuple[str, str]]:
    """Read which references (and architectures) led to a tree."""
    try:
        found = json.loads(path.read_text())
        return [(str(reference), str(architecture)) for reference, architecture in found]
    except (OSError, ValueError, TypeError):
        return []
