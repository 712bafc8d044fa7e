"""Where images come from: an OCI layout (a folder or a tar file) or a docker-archive, below one folder.

A reference never names anything outside that folder, and no byte of a blob is used before its digest was checked.
Nothing here unpacks anything: the result is an :class:`Image`, a list of layers that can be opened.

What isn't obvious: an OCI manifest names layers by the digest of the (compressed) blob, a docker-archive only by the
digest of the uncompressed tar in its config. :class:`Layer` says which of the two ``digest`` is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from polyvisor.agent.errors import ImageError, NoSuchImage
from polyvisor.agent.files import safepath
from polyvisor.agent.images.compression import decompressed
from polyvisor.api.problems import nearest
from polyvisor.api.reading import nested

MAX_JSON = 4 * 1024 * 1024
CHUNK = 1024 * 1024
NAME_ANNOTATIONS = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
Json = dict[str, Any]


def host_architecture() -> str:
    """Return this machine's architecture as images name it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


class Files(Protocol):
    """A folder, or a tar file in its place."""

    def open(self, path: str) -> BinaryIO:
        """Open a regular file in it; FileNotFoundError if there is none."""


class FolderFiles:
    """Files below a folder, opened without following links."""

    def __init__(self, root: int) -> None:
        self._root = root

    def open(self, path: str) -> BinaryIO:
        """Open a regular file."""
        return os.fdopen(safepath.open_file(self._root, safepath.parts(path)), "rb")


class TarFiles:
    """The regular files of a tar archive."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {os.path.normpath(member.name): member for member in archive.getmembers()}

    def open(self, path: str) -> BinaryIO:
        """Open a regular file; links inside the archive are followed inside the archive."""
        member = self._members.get(os.path.normpath(path))
        if member is None:
            raise FileNotFoundError(path)
        try:
            file = self._archive.extractfile(member)
        except KeyError:
            file = None
        if file is None:
            raise FileNotFoundError(path)
        return file  # type: ignore[return-value]


@dataclass(frozen=True)
class Layer:
    """One layer; ``digest`` is of the blob as stored, or of the tar inside if ``of_content``."""

    digest: str
    of_content: bool
    open_blob: Callable[[], BinaryIO]

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the uncompressed tar, after its digest was checked."""
        with self.open_blob() as blob:
            if self.of_content:
                with decompressed(blob) as content:
                    self._check(content)
            else:
                self._check(blob)
            blob.seek(0)
            with decompressed(blob) as content:
                yield content

    def _check(self, file: BinaryIO) -> None:
        digest = hashlib.sha256()
        try:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        except (EOFError, tarfile.TarError, ValueError) as error:
            raise ImageError(f"layer {self.digest} is corrupt: {error}; copy the image again") from error
        if f"sha256:{digest.hexdigest()}" != self.digest:
            raise ImageError(
                f"layer {self.digest} is corrupt: its content has the digest sha256:{digest.hexdigest()}; "
                "copy the image again"
            )


@dataclass(frozen=True)
class Image:
    """An image that was found: its layers, lowest first, and a key for its content."""

    reference: str
    layers: tuple[Layer, ...]

    @property
    def key(self) -> str:
        """Return a name for what the layers unpack to."""
        text = "\n".join(f"{layer.digest} {layer.of_content}" for layer in self.layers)
        return hashlib.sha256(text.encode()).hexdigest()


def _json(files: Files, path: str, digest: str = "") -> Any:
    try:
        with files.open(path) as file:
            data = file.read(MAX_JSON + 1)
    except FileNotFoundError:
        raise ImageError(f"the image is incomplete: {path} is missing") from None
    if len(data) > MAX_JSON:
        raise ImageError(f"{path} is larger than {MAX_JSON} bytes, too large for an image's description")
    if digest and hashlib.sha256(data).hexdigest() != digest.removeprefix("sha256:"):
        raise ImageError(f"{path} is corrupt: its content does not have that digest; copy the image again")
    try:
        return json.loads(data)
    except ValueError as error:
        raise ImageError(f"{path} is not JSON: {error}") from None


def _blob_path(descriptor: Json) -> str:
    digest = descriptor.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError(f"the image names a blob by {digest!r}; only sha256 digests are supported")
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _blob_json(files: Files, descriptor: Json) -> Json:
    found = _json(files, _blob_path(descriptor), descriptor["digest"])
    if not isinstance(found, dict):
        raise ImageError(f"blob {descriptor['digest']} is not a JSON object")
    return found


def _names(descriptor: Json) -> set[str]:
    annotations = descriptor.get("annotations") or {}
    return {annotations[key] for key in NAME_ANNOTATIONS if key in annotations}


def _manifests(index: Any, what: str) -> list[Json]:
    found = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ImageError(f"{what} lists no manifests")
    return found


def _leaves(files: Files, descriptor: Json, depth: int = 0) -> Iterator[Json]:
    """Go down through nested indexes to manifests."""
    if descriptor.get("mediaType") not in INDEX_TYPES:
        yield descriptor
        return
    if depth > 3:
        raise ImageError("image indexes are nested too deeply")
    for entry in _manifests(_blob_json(files, descriptor), f"index {descriptor['digest']}"):
        yield from _leaves(files, entry, depth + 1)


def from_layout(files: Files, reference: str, wanted: str, architecture: str) -> Image:
    """Find ``wanted`` (a name, a digest, or nothing for the only image) in an OCI layout."""
    index = _manifests(_json(files, "index.json"), "index.json")
    known = sorted({name for entry in index for name in _names(entry)})
    matching = index
    if wanted:
        names = {wanted, f"{wanted}:latest"}
        digest = wanted.rpartition("@")[2]
        matching = [entry for entry in index if names & _names(entry) or entry.get("digest") == digest]
        if not matching:
            raise NoSuchImage(no_such_image(reference, wanted, known))
    elif len(known) > 1 or not matching:
        raise ImageError(f"{reference} is ambiguous: it holds {', '.join(known) or 'no image'}; name one after a colon")
    leaves = [leaf for entry in matching for leaf in _leaves(files, entry)]
    return _from_manifest(files, reference, _for_architecture(files, reference, leaves, architecture))


def no_such_image(reference: str, wanted: str, known: list[str]) -> str:
    """Say that an image is not there, and which are."""
    near = nearest(wanted, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known[:20]) or 'none'}"
    return f"no image {reference} in the image store; {hint}"


def _for_architecture(files: Files, reference: str, leaves: list[Json], architecture: str) -> Json:
    fitting: dict[str, Json] = {}
    others: set[str] = set()
    for leaf in leaves:
        platform_ = leaf.get("platform") or {}
        if platform_.get("os") == "unknown":  # build attestations
            continue
        has = platform_.get("architecture") or _config_architecture(files, leaf)
        if has in ("", architecture):
            fitting[leaf["digest"]] = _blob_json(files, leaf)
        else:
            others.add(str(has))
    if not fitting:
        raise ImageError(f"image {reference} is for {', '.join(sorted(others)) or 'nothing'}, not for {architecture}")
    if len(fitting) > 1:
        raise ImageError(f"image {reference} is ambiguous: {len(fitting)} images have that name and {architecture}")
    return next(iter(fitting.values()))


def _config_architecture(files: Files, leaf: Json) -> str:
    config = _blob_json(files, leaf).get("config")
    if not isinstance(config, dict) or "image" not in str(config.get("mediaType")):
        return ""
    return str(_blob_json(files, config).get("architecture") or "")


def _from_manifest(files: Files, reference: str, manifest: Json) -> Image:
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ImageError(f"image {reference} is incomplete: its manifest lists no layers")
    return Image(reference, tuple(_layer(files, layer["digest"], _blob_path(layer), False) for layer in layers))


def _layer(files: Files, digest: str, path: str, of_content: bool) -> Layer:
    def open_blob() -> BinaryIO:
        try:
            return files.open(path)
        except FileNotFoundError:
            raise ImageError(f"the image is incomplete: layer {path} is missing") from None

    return Layer(digest, of_content, open_blob)


def from_docker_archive(files: Files, reference: str, wanted: str, architecture: str) -> Image:
    """Find ``wanted`` (a name, or nothing for the only image) in an archive as ``docker save`` makes it."""
    entries = _json(files, "manifest.json")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImageError(f"{reference}: manifest.json is not a list of images")
    known = sorted({name for entry in entries for name in entry.get("RepoTags") or []})
    if wanted:
        names = {wanted, f"{wanted}:latest"}
        entries = [
            entry
            for entry in entries
            if any(tag in names or tag.rpartition(":")[2] == wanted for tag in entry.get("RepoTags") or [])
        ]
        if not entries:
            raise ImageError(no_such_image(reference, wanted, known))
    if len(entries) != 1:
        raise ImageError(f"{reference} is ambiguous: it holds {', '.join(known) or 'no image'}; name one after a colon")
    config = _json(files, str(entries[0].get("Config")))
    has = config.get("architecture") if isinstance(config, dict) else None
    if has and has != architecture:
        raise ImageError(f"image {reference} is for {has}, not for {architecture}")
    paths = entries[0].get("Layers") or []
    digests = nested(config, "rootfs").get("diff_ids") or [] if isinstance(config, dict) else []
    if len(paths) != len(digests) or not all(_DIGEST.fullmatch(str(digest)) for digest in digests):
        raise ImageError(f"image {reference} is incomplete: its config has no digest for each layer")
    return Image(
        reference, tuple(_layer(files, digest, str(path), True) for digest, path in zip(digests, paths, strict=True))
    )


@contextmanager
def opened_image(store: Path, reference: str, architecture: str) -> Iterator[Image]:
    """Look a reference up below ``store``: a name of its layout, ``oci:``, ``oci-archive:`` or ``docker-archive:``."""
    kind, colon, rest = reference.partition(":")
    with ExitStack() as stack:
        root = stack.enter_context(safepath.opened_root(store))
        if not colon or kind not in ("oci", "oci-archive", "docker-archive"):
            if not (store / "index.json").exists():
                raise NoSuchImage(no_such_image(reference, reference, []))
            yield from_layout(FolderFiles(root), reference, reference, architecture)
            return
        path, _, wanted = rest.partition(":")
        names = safepath.parts(path)
        if not names or path.startswith("/"):
            raise ImageError(f"{reference}: a path below the image store ({store}) is needed", retry=False)
        try:
            if kind == "oci":
                folder = stack.enter_context(safepath.walk(root, names))
                yield from_layout(FolderFiles(folder), reference, wanted, architecture)
                return
            file = stack.enter_context(os.fdopen(safepath.open_file(root, names), "rb"))
        except FileNotFoundError as error:
            raise ImageError(_missing(store, reference, error)) from None
        except NotADirectoryError:
            raise ImageError(f"{reference}: {path} in the image store is not a folder") from None
        archive = stack.enter_context(_opened_tar(file, reference))
        find = from_layout if kind == "oci-archive" else from_docker_archive
        yield find(TarFiles(archive), reference, wanted, architecture)


def _missing(store: Path, reference: str, error: FileNotFoundError) -> str:
    found = sorted(entry.name for entry in store.iterdir() if entry.name not in ("blobs", "index.json", "oci-layout"))
    known = ", ".join(found[:20]) or "none"
    return f"no image {reference}: {error.filename or 'it'} is not in {store}; there are: {known}"


@contextmanager
def _opened_tar(file: io.BufferedReader, reference: str) -> Iterator[tarfile.TarFile]:
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
    except tarfile.TarError as error:
        raise ImageError(f"{reference} is not a tar archive, or is damaged: {error}") from None
    with archive:
        yield archive
