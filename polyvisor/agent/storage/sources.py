"""Where a machine's bytes come from: images, claims and host disks, as a node without a kubelet keeps them.

:mod:`.storage` makes a machine's disks from what it is given here and need not know whose node it is on. A node that a
kubelet keeps has sources of its own, because there images are other containers of the machine's Pod, and claims are
volumes of it. What isn't obvious: there the hypervisor sees the same files by other names than the agent, so both
names are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from polyvisor.agent.errors import ImageError, translated
from polyvisor.agent.files import giving, safepath
from polyvisor.agent.images.registry import Pull, credentials
from polyvisor.agent.images.store import ImageStore, Progress
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.disks import Image
from polyvisor.api import Obj

Secrets = Mapping[str, Mapping[str, bytes]]
"""Name of a Secret in the machine's namespace -> its data, decoded."""


class Sources(AbstractContextManager["Sources"], Protocol):
    """What one machine is made of; open while it is made. All methods block and raise :class:`AgentError`."""

    home: Path
    """The machine's folder by the name that the hypervisor has for it."""
    owner: int | None
    """The user that the hypervisor runs as, who is to own what is made; None if it is this process's own."""

    def container_disk(self, volume: str, source: Obj) -> Image:
        """Return the disk image in a containerDisk."""

    def container_root(self, volume: str, source: Obj) -> Path:
        """Return the tree of a containerDisk, to be copied."""

    def kernel_file(self, source: Obj, path: str) -> Image:
        """Return a file of the image that holds a kernel."""

    def claim_folder(self, volume: str, claim: str) -> Path:
        """Return the folder of a claim, by the hypervisor's name."""

    def opened_claim(self, volume: str, claim: str) -> AbstractContextManager[int]:
        """Give the folder of a claim, open."""

    def claim_disk(self, volume: str, claim: str, size: int) -> Image:
        """Return the raw disk of a claim, made if it is not there."""

    def host_disk(self, volume: str, source: Obj, size: int) -> Image:
        """Return a raw disk of the node."""

    def shared(self, volume: str, claim: str) -> Path | None:
        """Return the socket of the program that shares a volume's folder; None if the hypervisor shares it itself."""


class Supplier(Protocol):
    """Who has the sources of machines."""

    def sources(self, vmi: Obj, folder: Path, progress: Progress, secrets: Secrets) -> Sources:
        """Return the sources of one machine; ``secrets`` are those that its volumes name."""


@dataclass(frozen=True)
class Places:
    """Where a node without a kubelet keeps what outlives a machine."""

    images: ImageStore
    volumes: Path
    hostdisks: Path
    host_disk_limit: int | None = None
    """How many bytes the host disks of one namespace may have together."""
    owner: int | None = None
    """The user that a machine's hypervisor runs as, if that is another one than this process's."""
    home: Path | None = None
    """The machine's folder, where its disks are made in another one."""

    def of(self, owner: int | None, home: Path) -> Places:
        """Return the places of a machine whose hypervisor is another user; themselves if it is none."""
        return self if owner is None else replace(self, owner=owner, home=home)

    def sources(self, vmi: Obj, folder: Path, progress: Progress, secrets: Secrets) -> Sources:
        """Return the sources of one machine; ``secrets`` are those that its volumes name."""
        return NodeSources(self, vmi, folder, progress, secrets)


class NodeSources(Sources):
    """Images come from the image store, claims are folders of this node."""

    def __init__(self, places: Places, vmi: Obj, folder: Path, progress: Progress, secrets: Secrets) -> None:
        self.home = places.home or folder
        self.owner = places.owner
        self._places = places
        self._namespace = str(vmi["metadata"]["namespace"])
        self._architecture = str(vmi["spec"].get("architecture") or "")
        self._progress = progress
        self._secrets = secrets

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def _pull(self, source: Obj) -> Pull:
        """Return how an image that is not in the store may be pulled."""
        name = str(source.get("imagePullSecret") or "")
        if name and name not in self._secrets:
            raise ImageError(f"Secret {name} for pulling {source['image']} does not exist yet; waiting for it")
        found = credentials(self._secrets[name], name) if name else b""
        return Pull(str(source.get("imagePullPolicy") or ""), found)

    def _image(self, path: Path) -> Image:
        if self.owner is not None:
            with translated(path, "letting the machine read its image"):
                giving.show_file(self._places.images.cache, path)
        return Image.here(path, self._places.images.key_of(path))

    def container_disk(self, volume: str, source: Obj) -> Image:
        """Return a file of the image cache."""
        return self._image(
            self._places.images.disk(
                source["image"],
                source.get("path") or "",
                architecture=self._architecture,
                progress=self._progress,
                pull=self._pull(source),
            )
        )

    def container_root(self, volume: str, source: Obj) -> Path:
        """Return a tree of the image cache."""
        return self._places.images.tree(
            source["image"], architecture=self._architecture, progress=self._progress, pull=self._pull(source)
        )

    def kernel_file(self, source: Obj, path: str) -> Image:
        """Return a file of the image cache."""
        return self._image(
            self._places.images.file(
                source["image"],
                path,
                architecture=self._architecture,
                progress=self._progress,
                pull=self._pull(source),
            )
        )

    def claim_folder(self, volume: str, claim: str) -> Path:
        """Return the claim's folder, made if it is not there."""
        return disks.claim_folder(self._places.volumes, self._namespace, claim)

    def opened_claim(self, volume: str, claim: str) -> AbstractContextManager[int]:
        """Give the claim's folder, open."""
        return safepath.opened_root(self.claim_folder(volume, claim))

    def claim_disk(self, volume: str, claim: str, size: int) -> Image:
        """Return ``disk.img`` in the claim's folder."""
        return self._given(
            self._places.volumes, disks.claim_disk(self._places.volumes, self._namespace, claim, size).path
        )

    def host_disk(self, volume: str, source: Obj, size: int) -> Image:
        """Return a file below the allowed root."""
        kind = source.get("type") or "Disk"
        root = self._places.hostdisks / self._namespace
        found = disks.host_disk(root, source["path"], kind, size, limit=self._places.host_disk_limit).path
        return self._given(self._places.hostdisks, found)

    def _given(self, top: Path, path: Path) -> Image:
        """Return a disk that the machine is to write to. One that has it open already, as both may, keeps it."""
        if self.owner is not None:
            with translated(path, "giving the machine its disk"):
                giving.give_file(top, path, self.owner)
        return Image.here(path)

    def shared(self, volume: str, claim: str) -> Path | None:
        """Return None: libvirt starts what shares folders of this node."""
        return None
