"""Trees of files, packed as images into an OCI image layout on disk, the same bytes for the same tree.

A layout is changed under a lock and each of its files is replaced whole, so whoever reads it meanwhile sees either the
old state or the new one. Standard library only, and nothing of Polyvisor: it runs before anything is set up.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

REF_NAME = "org.opencontainers.image.ref.name"
STAMP = "polyvisor.inputs"
MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an image: ordinary, folder (``data`` and ``link`` None) or symbolic link."""

    mode: int
    data: bytes | None = None
    link: str | None = None


Tree = dict[str, Entry]
Descriptor = dict[str, Any]


def with_parents(tree: Tree) -> Iterator[tuple[str, Entry]]:
    """Yield every entry in a fixed order, each after its folders."""
    whole = dict(tree)
    for name in tree:
        for parent in PurePosixPath(name).parents:
            if str(parent) != ".":
                whole.setdefault(str(parent), Entry(0o755))
    yield from sorted(whole.items())


def layer(tree: Tree) -> bytes:
    """Pack a tree as an image layer, the same bytes for the same tree."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, entry in with_parents(tree):
            member = tarfile.TarInfo(name)
            member.mode = entry.mode
            if entry.link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            elif entry.data is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.data)
            tar.addfile(member, io.BytesIO(entry.data or b""))
    return raw.getvalue()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Layout:
    """An OCI image layout on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        if not (folder / "oci-layout").exists():
            write_durably(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def blob(self, media_type: str, data: bytes) -> Descriptor:
        """Store one blob and return its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / "blobs/sha256" / digest
        if not path.exists() or path.stat().st_size != len(data):
            write_durably(path, data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def image(self, tree: Tree, stamp: str) -> Descriptor:
        """Store one image and return the descriptor of its manifest; ``stamp`` says what it was made from."""
        tar = layer(tree)
        diff = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA}.manifest.v1+json",
            "config": self.blob(f"{MEDIA}.config.v1+json", encode(config)),
            "layers": [self.blob(f"{MEDIA}.layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0))],
            "annotations": {STAMP: stamp},
        }
        return self.blob(f"{MEDIA}.manifest.v1+json", encode(manifest))

    def index(self) -> Descriptor:
        """Return the index, an empty one if there is none."""
        try:
            return dict(json.loads((self.folder / "index.json").read_bytes()))
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": []}

    def name(self, images: Mapping[str, Descriptor], stamp: str) -> None:
        """Make references name these images, all at once; other references stay."""
        with self.locked():
            index = self.index()
            kept = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(REF_NAME) not in images]
            for reference, descriptor in images.items():
                platform = {"architecture": "amd64", "os": "linux"}
                annotations = {REF_NAME: reference, STAMP: stamp}
                kept.append({**descriptor, "platform": platform, "annotations": annotations})
            index["manifests"] = kept
            write_durably(self.folder / "index.json", encode(index))

    def has(self, references: list[str], stamp: str) -> bool:
        """Tell whether all references are there, whole and made from the same inputs."""
        known = {}
        for entry in self.index()["manifests"]:
            known[entry.get("annotations", {}).get(REF_NAME)] = entry
        for reference in references:
            entry = known.get(reference)
            if entry is None or entry["annotations"].get(STAMP) != stamp or not self.whole(entry):
                return False
        return True

    def whole(self, descriptor: Mapping[str, Any]) -> bool:
        """Tell whether an image's blobs are there with the right sizes."""
        path = self.folder / "blobs/sha256" / str(descriptor["digest"]).removeprefix("sha256:")
        if not path.exists() or path.stat().st_size != descriptor["size"]:
            return False
        if not str(descriptor["mediaType"]).endswith("manifest.v1+json"):
            return True
        manifest = json.loads(path.read_bytes())
        return all(self.whole(part) for part in (manifest["config"], *manifest["layers"]))


def encode(value: object) -> bytes:
    """Return JSON, the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
