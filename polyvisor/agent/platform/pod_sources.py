"""Where the bytes of a machine in a launcher Pod come from, and how its launcher gets to see them.

Images are the roots of other containers of the Pod, claims are volumes in the launcher's container, host disks are
files of the node. What the machine has for itself is made in a folder that nobody but the agent can write to while that
goes on; afterwards each disk alone is handed over, as a mount that the launcher may write through.

What isn't obvious: nothing is opened by a path that goes through what a launcher or an image controls. Roots are opened
by process, and from there :mod:`.safepath` walks.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from polyvisor.agent.errors import AgentError, BlockClaim, UnsafePath, translated
from polyvisor.agent.files import mounting, safepath
from polyvisor.agent.images import store
from polyvisor.agent.images.store import Progress
from polyvisor.agent.link import containers
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.cloudinit import KINDS
from polyvisor.agent.storage.disks import Image
from polyvisor.agent.storage.prepared import DISKS, SCRATCH, Prepared
from polyvisor.agent.storage.sources import Secrets, Sources
from polyvisor.api import Obj
from polyvisor.api import launcher_pods as inside
from polyvisor.api.names import MACHINE_FOLDER

IMAGE = ".image"
HOST = ".host"


@dataclass(frozen=True)
class Launcher:
    """The launcher's process as the kernel told of it, and whether it may write to the machine's folder by itself."""

    pid: int
    user: int
    privileged: bool


@dataclass(frozen=True)
class PodPlaces:
    """Where a node with a kubelet has what the machine in one Pod is made of."""

    pod: Obj
    launcher: Launcher
    hostdisks: Path
    """Those of the machine's namespace."""
    claims: Mapping[str, Obj]
    limit: int | None = None
    """How many bytes the host disks of a namespace may have together."""

    def sources(self, vmi: Obj, folder: Path, progress: Progress, secrets: Secrets) -> Sources:
        """Return the sources of the Pod's machine."""
        return PodSources(self, folder)

    @property
    def uid(self) -> str:
        """The Pod's uid, by which the kernel's control groups know it."""
        return str(self.pod["metadata"]["uid"])

    @contextmanager
    def image(self, container: str) -> Iterator[int]:
        """Give the root folder of a container as it came out of its image, as a mount that is nowhere."""
        identity = containers.container_id(self.pod, container)
        if not identity:
            raise AgentError(f"container {container}, which holds an image, does not run yet")
        try:
            pid = containers.first_of(self.uid, identity)
            with containers.entered(pid, self.uid, identity) as (process, root):
                tree = mounting.clone_of(process, root)
        except (ProcessLookupError, FileNotFoundError) as error:
            raise AgentError(f"container {container}, which holds an image, does not run any more") from error
        with _closed(tree):
            yield tree

    @contextmanager
    def launchers(self) -> Iterator[tuple[int, int]]:
        """Give the launcher's process and its root folder, held."""
        pid = self.launcher.pid
        try:
            with containers.entered(pid, self.uid) as found:
                yield found
        except (ProcessLookupError, FileNotFoundError) as error:
            raise AgentError("the launcher has ended") from error


@contextmanager
def _closed(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(descriptor: int) -> Path:
    """Return a path by which other programs, too, open what is open here."""
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


class PodSources(Sources):
    """The sources of a machine in a launcher Pod. ``folder`` is its folder as the agent sees it."""

    def __init__(self, places: PodPlaces, folder: Path) -> None:
        self.home = Path(MACHINE_FOLDER)
        self.owner = places.launcher.user or None
        self._places = places
        self._scratch = folder / SCRATCH
        self._open = ExitStack()
        self._images: dict[str, int] = {}
        self._boot = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _image(self, container: str) -> int:
        if container not in self._images:
            self._images[container] = self._open.enter_context(self._places.image(container))
        return self._images[container]

    def _opened(self, root: int, names: list[str]) -> int:
        return self._open.enter_context(_closed(safepath.open_file(root, names)))

    def container_disk(self, volume: str, source: Obj) -> Image:
        """Return a file of the image's container; the launcher will see the image's tree in its folder."""
        root = self._image(inside.image_container(volume))
        names = store.find_disk(root, source["image"], source.get("path") or "")
        with translated(self._scratch, f"opening the disk of {source['image']}"):
            file = self._opened(root, names)
            (self._scratch / f"{volume}{IMAGE}").mkdir(mode=0o755)
        return Image(_name(file), self.home.joinpath(DISKS, f"{volume}{IMAGE}", *names), file)

    def container_root(self, volume: str, source: Obj) -> Path:
        """Return the root folder of the image's container."""
        return _name(self._image(inside.image_container(volume)))

    def kernel_file(self, source: Obj, path: str) -> Image:
        """Return a copy, in the machine's folder, of a file of the image."""
        root = self._image(inside.KERNEL_CONTAINER)
        names = store.find_file(root, source["image"], path)
        self._boot += 1
        copy = self._scratch / f"{self._boot}.boot"
        with translated(self._scratch, f"copying {path} of {source['image']}"):
            with os.fdopen(os.dup(self._opened(root, names)), "rb") as file, copy.open("xb") as target:
                shutil.copyfileobj(file, target, 1 << 20)
            copy.chmod(0o644)
        return Image(copy, self.home / DISKS / copy.name)

    def claim_folder(self, volume: str, claim: str) -> Path:
        """Return where the Pod has the claim."""
        return Path(inside.claim_folder(volume))

    @contextmanager
    def opened_claim(self, volume: str, claim: str) -> Iterator[int]:
        """Give the claim's folder as the launcher has it, open."""
        with self._places.launchers() as (_, root):
            names = safepath.real_folder(root, safepath.parts(inside.claim_folder(volume)))
            with safepath.walk(root, names) as folder:
                yield folder

    def claim_disk(self, volume: str, claim: str, size: int) -> Image:
        """Return the claim's device, or ``disk.img`` in the claim, which is made if it is not there."""
        doing = f"preparing claim {claim}"
        with self._places.launchers() as (_, root), translated(self._scratch, doing):
            if inside.is_block(self._places.claims.get(claim) or {}):
                place = inside.claim_device(volume)
                device = self._device(root, safepath.parts(place))
                return Image(_name(device), Path(place), device, block=True)
            place = inside.claim_folder(volume)
            with safepath.walk(root, safepath.real_folder(root, safepath.parts(place))) as folder:
                try:
                    file = self._opened(folder, ["disk.img"])
                except FileNotFoundError:
                    whole = disks.capacity(size, f"claim {claim}")
                    disks.create_raw(folder, "disk.img", whole, Path(place), self.owner)
                    file = self._opened(folder, ["disk.img"])
            return Image(_name(file), Path(place, "disk.img"), file)

    def _device(self, root: int, names: list[str]) -> int:
        """Open a block device that the kubelet put into the launcher's container, and give it to the launcher."""
        with safepath.walk(root, names[:-1]) as folder:
            device = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        self._open.callback(os.close, device)
        if not stat.S_ISBLK(os.fstat(device).st_mode):
            raise UnsafePath(f"/{'/'.join(names)} is not a block device")
        if self.owner is not None:
            os.fchown(device, self.owner, self.owner)  # the node in the container, which the runtime made for it
        return device

    def host_disk(self, volume: str, source: Obj, size: int) -> Image:
        """Return a file below the allowed root of this node; the launcher will see it in its folder."""
        with translated(self._scratch, f"preparing host disk {source['path']}"):
            (self._scratch / f"{volume}{HOST}").touch(mode=0o600, exist_ok=False)
            file = self._open.enter_context(host_disk(self._places, source, size))
        return Image(_name(file), self.home / DISKS / f"{volume}{HOST}", file)

    def shared(self, volume: str, claim: str) -> Path | None:
        """Return the socket of the container that shares the volume, once it listens."""
        if claim and inside.is_block(self._places.claims.get(claim) or {}):
            raise BlockClaim(volume, claim)
        place = inside.share_socket(volume)
        *folders, name = safepath.parts(place)
        waiting = AgentError(f"container {inside.share_container(volume)}, which shares a folder, is not ready yet")
        with self._places.launchers() as (_, root), translated(self._scratch, f"looking for {place}"):
            try:
                with safepath.walk(root, safepath.real_folder(root, folders)) as folder:
                    kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            except FileNotFoundError:
                raise waiting from None
        if not stat.S_ISSOCK(kind):
            raise UnsafePath(f"{place} is not a socket")
        return Path(place)


@contextmanager
def host_disk(places: PodPlaces, source: Obj, size: int = 0) -> Iterator[int]:
    """Give a disk of the node, opened below the root that is allowed for them."""
    kind = source.get("type") or "Disk"
    found = disks.host_disk(places.hostdisks, source["path"], kind, size, places.launcher.user or None, places.limit)
    with safepath.opened_root(places.hostdisks) as root:
        names = list(found.path.relative_to(places.hostdisks).parts)
        with _closed(safepath.open_file(root, names, os.O_RDWR)) as file:
            yield file


def hand_over(vmi: Obj, prepared: Prepared, folder: Path, places: PodPlaces) -> None:
    """Show the launcher its machine's images, and let it write to its disks. Blocking; safe to repeat.

    A launcher with all of the node's privileges sees the folder as it is and needs none of this but the images.
    """
    known = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
    home = Path(MACHINE_FOLDER, DISKS)
    with ExitStack() as stack, translated(folder, "handing disks over to the launcher"):
        made = stack.enter_context(safepath.opened_root(folder / DISKS))
        sources: dict[str, int] = {}
        for name in sorted(os.listdir(made)):  # noqa: PTH208
            volume = known.get(name.partition(".")[0]) or {}
            if name.endswith(IMAGE) and "containerDisk" in volume:
                sources[name] = stack.enter_context(places.image(inside.image_container(volume["name"])))
            elif name.endswith(HOST) and "hostDisk" in volume:
                sources[name] = _cloned(stack, stack.enter_context(host_disk(places, volume["hostDisk"])))
            elif not places.launcher.privileged and any(file.path == home / name for file in prepared.files.values()):
                file = stack.enter_context(_closed(safepath.open_file(made, [name], os.O_RDWR)))
                sources[name] = _cloned(stack, file)
        if not sources:
            return
        process, root = stack.enter_context(places.launchers())
        target = stack.enter_context(safepath.walk(root, safepath.real_folder(root, safepath.parts(str(home)))))
        pairs: list[tuple[int, int]] = []
        for name, source in sources.items():
            place = stack.enter_context(_closed(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)))
            if mount_of(place) == mount_of(target):  # not handed over yet
                pairs.append((source, place))
        mounting.place(process, pairs)


def name_seeds(vmi: Obj, folder: Path) -> None:
    """Give cloud-init's discs the names that they have in KubeVirt's launchers, too. Blocking; safe to repeat."""
    metadata = vmi["metadata"]
    found = [
        (volume["name"], kind) for volume in vmi["spec"].get("volumes") or [] for kind in KINDS if kind.volume in volume
    ]
    if not found:
        return
    with translated(folder, "naming cloud-init's discs"), safepath.opened_root(folder) as top:
        there = [inside.SEED_FOLDER, metadata["namespace"], metadata["name"]]
        with safepath.walk(top, [DISKS]) as made, safepath.walk(top, there, create=True) as named:
            for name, kind in found:
                with suppress(
                    FileExistsError, FileNotFoundError
                ):  # where files are put into the root, there is no disc
                    os.link(f"{name}.iso", kind.disc, src_dir_fd=made, dst_dir_fd=named, follow_symlinks=False)


def _cloned(stack: ExitStack, file: int) -> int:
    return stack.enter_context(_closed(mounting.clone_here(file)))


def mount_of(descriptor: int) -> str:
    """Return which mount a descriptor was opened through."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id"))
