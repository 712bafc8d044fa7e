"""Everything that a machine boots from, made ready before its domain is rendered.

What belongs to one machine is built in ``disks.tmp`` and renamed to ``disks`` of its folder when all of it is there,
with the result as ``prepared.json``. So preparation can be interrupted anywhere and repeated at any time: a machine
that was prepared keeps its disks and what its guest wrote there. Host disks and claims live elsewhere and stay when the
machine goes. What isn't obvious: where something else than the agent may write to the machine's folder, all is built in
a folder that the agent alone has (``workshop``), and the result stays there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from polyvisor.agent.errors import AgentError, BlockClaim, NoSuchClaim, translated
from polyvisor.agent.files import iso, safepath, shifting, tools
from polyvisor.agent.images.store import Progress, silent
from polyvisor.agent.storage import cloudinit, contents, disks, rootfs
from polyvisor.agent.storage.disks import DiskFile, Image
from polyvisor.agent.storage.prepared import DISKS, RESULT, SCRATCH, Prepared, move, prepared
from polyvisor.agent.storage.seeds import seed_of
from polyvisor.agent.storage.sources import Sources, Supplier
from polyvisor.api import Obj
from polyvisor.api.dumps import dump_claim
from polyvisor.api.host_names import host_name
from polyvisor.api.launcher_pods import is_block
from polyvisor.api.quantity import whole
from polyvisor.api.reading import devices_of, nested
from polyvisor.api.volumes import access_secrets, claim_of, shared
from polyvisor.domain import Share
from polyvisor.domain.kept import state_claim
from polyvisor.drivers.base import Driver, RootKind


@dataclass(frozen=True, repr=False)
class Inputs:
    """What volumes name in their namespace: data of Secrets and ConfigMaps, claims; the Pod and its account's files.

    ``resolver`` is what a root file system is told of where names are looked up; empty: nothing. ``first_id`` begins
    the range of the node's ids that is the guest's, if it has one.
    """

    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    claims: Mapping[str, Obj] = field(default_factory=dict)
    configmaps: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    pod: Obj = field(default_factory=dict)
    account: Mapping[str, bytes] = field(default_factory=dict)
    resolver: str = ""
    first_id: int = 0


class Needed(NamedTuple):
    """Names of the objects in its namespace that a machine's volumes name."""

    secrets: set[str]
    claims: set[str]
    configmaps: set[str]


def needed(vmi: Obj) -> Needed:
    """Return what a machine's volumes name."""
    found = Needed(set(), set(), set())
    for volume in vmi["spec"].get("volumes") or []:
        secrets, configmaps = contents.names_of(volume)
        found.secrets.update(cloudinit.secret_names(volume), secrets, _pull_secret(volume.get("containerDisk")))
        found.configmaps.update(configmaps)
        if claim := claim_of(volume) or dump_claim(volume):
            found.claims.add(claim)
    found.secrets.update(access_secrets(vmi["spec"]))
    if state := state_claim(vmi):
        found.claims.add(state)
    boot = nested(vmi["spec"], "domain", "firmware").get("kernelBoot") or {}
    found.secrets.update(_pull_secret(boot.get("container")))
    return found


def _pull_secret(source: Obj | None) -> set[str]:
    return {str((source or {}).get("imagePullSecret") or "")} - {""}


def prepare(
    vmi: Obj,
    driver: Driver,
    folder: Path,
    places: Supplier,
    inputs: Inputs,
    progress: Progress = silent,
    workshop: Path | None = None,
) -> Prepared:
    """Make all that the machine boots from, or find it made. Blocking; raises :class:`AgentError`."""
    if found := prepared(folder, workshop):
        return found if found.first_id else replace(found, first_id=inputs.first_id)  # an earlier release's has none
    here = workshop or folder
    scratch = here / SCRATCH
    try:
        with (
            translated(folder, "preparing the machine's folder"),
            safepath.opened_root(folder),
            safepath.opened_root(here, create=True) as top,
        ):
            safepath.remove(top, SCRATCH)
            os.mkdir(SCRATCH, 0o700, dir_fd=top)
        with places.sources(vmi, here, progress, inputs.secrets) as sources:
            made = _Preparation(vmi, driver, here, sources, inputs, progress).all()
            if sources.owner is not None:
                scratch.chmod(0o711)  # the hypervisor's user has a way to its files
        text = made.to_json().encode()
        with translated(here, "preparing the machine's folder"):
            if workshop is None:
                safepath.write_atomic(scratch / RESULT, text)
                scratch.rename(folder / DISKS)
            else:
                move(workshop, folder)
                safepath.write_atomic(workshop / RESULT, text)
    except BaseException:
        safepath.remove_path(scratch)
        raise
    return made


class _Preparation:
    """One run of :func:`prepare`. Files are made in the scratch folder and named by where they will be."""

    def __init__(
        self, vmi: Obj, driver: Driver, folder: Path, sources: Sources, inputs: Inputs, progress: Progress
    ) -> None:
        self._vmi = vmi
        self._spec: Obj = vmi["spec"]
        self._driver = driver
        self._scratch = folder / SCRATCH
        self._final = sources.home / DISKS
        self._sources = sources
        self._inputs = inputs
        self._progress = progress
        self._files: dict[str, DiskFile] = {}
        self._folders: dict[str, Path] = {}
        self._shared = shared(self._spec)
        self._shares: dict[str, Share] = {}
        self._root: Path | None = None
        self._root_volume = ""
        self._opened: Callable[[], AbstractContextManager[int]] | None = None
        self._trees: set[str] = set()
        self._sizes: dict[str, int] = {}

    def all(self) -> Prepared:
        volumes = self._spec.get("volumes") or []
        if self._driver.root == RootKind.FILESYSTEM:
            self._choose_root(volumes)
        for volume in volumes:
            if volume["name"] != self._root_volume and not dump_claim(volume):
                self._volume(volume)
        kernel, initrd = self._kernel()
        root = self._final / self._root.name if self._root and self._root.parent == self._scratch else self._root
        trees = tuple(sorted(self._trees))
        return Prepared(
            self._files,
            self._folders,
            self._shares,
            root,
            self._root_volume,
            kernel,
            initrd,
            trees,
            self._sizes,
            self._inputs.first_id,
            self._shifted(),
        )

    def _shifted(self) -> bool:
        """Give the files of a root of the machine's own the guest's ids, if they cannot be mounted with them."""
        if not self._inputs.first_id or not self._root or self._root.parent != self._scratch:
            return False
        with translated(self._root, "giving its files to the guest"), safepath.opened_root(self._root) as root:
            if not (why := shifting.why_unmapped(root)):
                return False
            self._progress(f"changing the owner of each file of the root file system, as {why}")
            shifting.shift(root, self._inputs.first_id)
        return True

    @property
    def _disks(self) -> list[Obj]:
        return devices_of(self._spec).get("disks") or []

    @property
    def _hostname(self) -> str:
        return host_name(self._vmi)

    def _choose_root(self, volumes: list[Obj]) -> None:
        """The first container disk becomes the root filesystem; without one, the first claim's folder does."""
        devices = nested(self._spec, "domain").get("devices") or {}
        order = [disk["name"] for disk in [*(devices.get("disks") or []), *(devices.get("filesystems") or [])]]
        ranked = sorted(volumes, key=lambda volume: order.index(volume["name"]) if volume["name"] in order else 999)
        for volume in ranked:
            if source := volume.get("containerDisk"):
                tree = self._sources.container_root(volume["name"], source)
                self._progress(f"copying the root filesystem of {source['image']}")
                self._root = self._scratch / "root"
                tools.run(
                    ["cp", "-axH", "--reflink=auto", "-T", "--", tree, self._root], "copying the root", self._scratch
                )
                self._root_volume = volume["name"]
                self._opened = partial(safepath.opened_root, self._root)
                with translated(self._root, "writing the host name"), self._opened() as root:
                    rootfs.write_hostname(root, self._hostname)
                    rootfs.write_resolver(root, self._inputs.resolver, private=True)
                return
        for volume in ranked:
            if "ephemeral" not in volume and (claim := claim_of(volume)):
                self._root = self._folder_of(volume["name"], claim)
                self._root_volume = volume["name"]
                self._opened = partial(self._sources.opened_claim, volume["name"], claim)
                with translated(self._root, f"writing to the root in claim {claim}"), self._opened() as root:
                    rootfs.write_resolver(root, self._inputs.resolver, private=False)
                return
        raise AgentError(
            f"{self._driver.title} needs a root filesystem: a volume with containerDisk, dataVolume or "
            "persistentVolumeClaim",
            retry=False,
        )

    def _volume(self, volume: Obj) -> None:
        name = volume["name"]
        safe = "".join(safepath.parts(name))
        if safe != name:
            raise AgentError(f"volume name {name!r} cannot be a file's name", retry=False)
        if name in self._shared and (socket := self._sources.shared(name, claim_of(volume))):
            self._shares[name] = Share(socket, socket=True)
            return
        for kind, make in self._kinds().items():
            if (source := volume.get(kind)) is not None:
                make(name, source)
                return
        kinds = ", ".join(key for key in volume if key != "name") or "no source"
        raise AgentError(f"volume {name}: {kinds} is not supported", retry=False)

    def _kinds(self) -> dict[str, Callable[[str, Obj], None]]:
        return {
            "containerDisk": self._container_disk,
            "emptyDisk": self._empty_disk,
            "hostDisk": self._host_disk,
            "persistentVolumeClaim": lambda name, source: self._claim_disk(name, source["claimName"]),
            "dataVolume": lambda name, source: self._claim_disk(name, source["name"]),
            "ephemeral": self._ephemeral,
            "downwardMetrics": lambda *_: None,  # the launcher makes that disk, and writes it anew
            **{kind.volume: partial(self._cloud_init, kind) for kind in cloudinit.KINDS},
            **{kind: partial(self._contents, make) for kind, make in contents.KINDS.items()},
        }

    def _own(self, name: str, file: DiskFile) -> None:
        """Take a file that was made for this machine alone."""
        if self._sources.owner is not None:
            file.path.chmod(0o600)
            os.chown(file.path, self._sources.owner, self._sources.owner)  # nobody else has a way to it yet
        image = Image.here(file.path)
        self._sized(name, image, file.format)
        self._files[name] = DiskFile(self._final / file.path.name, file.format, False, *self._blocks(name, image))

    def _whole(self, name: str, image: Image) -> None:
        """Take a raw disk that is somebody else's."""
        if not image.block and any(disk["name"] == name and "lun" in disk for disk in self._disks):
            raise AgentError(
                f"volume {name} is a lun, a SCSI device of the node, but what is behind it is a file; a cluster's claim"
                " with volumeMode: Block is wanted",
                retry=False,
            )
        self._sized(name, image, "raw")
        self._files[name] = DiskFile(image.seen_at, "raw", image.block, *self._blocks(name, image))

    def _blocks(self, name: str, image: Image) -> tuple[int, int]:
        """Return the block sizes of what holds a disk, if the guest is to see those (``matchVolume``)."""
        sizes = [nested(disk, "blockSize").get("matchVolume") for disk in self._disks if disk["name"] == name]
        wanted = any(one is not None and one.get("enabled") is not False for one in sizes)
        return disks.block_sizes(image) if wanted else (0, 0)

    def _sized(self, name: str, image: Image, format_: str) -> None:
        if size := disks.size_of(image, format_):
            self._sizes[name] = size

    def _image(self, image: Image) -> Image:
        self._trees.update({image.tree} - {""})
        return image

    def _container_disk(self, name: str, source: Obj) -> None:
        image = self._image(self._sources.container_disk(name, source))
        called = f"the disk image of {source['image']}"
        has = disks.examined(image, called).format
        if has not in disks.LAYERED:
            self._progress(f"converting {called}, which is {has}")
        self._own(name, disks.overlay(image, self._scratch, name, self._driver.disk_formats, called, has))

    def _empty_disk(self, name: str, source: Obj) -> None:
        self._own(name, disks.empty(self._scratch, name, whole(source["capacity"]), self._driver.disk_formats))

    def _host_disk(self, name: str, source: Obj) -> None:
        size = whole(source["capacity"]) if source.get("capacity") else 0
        self._whole(name, self._sources.host_disk(name, source, size))

    def _claim(self, name: str) -> Obj:
        claim = self._inputs.claims.get(name)
        if claim is None:
            raise NoSuchClaim(self._vmi["metadata"]["namespace"], name)
        return claim

    def _claim_disk(self, name: str, claim: str) -> None:
        if self._wants_folder(name):
            self._has_folder(name, self._folder_of(name, claim))
        else:
            self._whole(name, self._disk_of(name, claim))

    def _wants_folder(self, name: str) -> bool:
        return self._driver.root == RootKind.FILESYSTEM or name in self._shared

    def _has_folder(self, name: str, folder: Path) -> None:
        if name in self._shared:
            self._shares[name] = Share(folder)
        else:
            self._folders[name] = folder

    def _folder_of(self, name: str, claim: str) -> Path:
        if is_block(self._claim(claim)):
            raise BlockClaim(name, claim)
        return self._sources.claim_folder(name, claim)

    def _disk_of(self, name: str, claim: str) -> Image:
        requests = ((self._claim(claim)["spec"].get("resources") or {}).get("requests")) or {}
        return self._sources.claim_disk(name, claim, whole(requests.get("storage", 0)))

    def _ephemeral(self, name: str, source: Obj) -> None:
        """A claim that the machine writes above, not into."""
        claim = str(source["persistentVolumeClaim"]["claimName"])
        below = self._disk_of(name, claim)
        called = f"the disk of claim {claim}"
        self._own(name, disks.overlay(below, self._scratch, name, self._driver.disk_formats, called, "raw"))

    def _cloud_init(self, kind: cloudinit.Kind, name: str, source: Obj) -> None:
        seed = seed_of(self._vmi, kind, source, self._inputs.secrets)
        if self._opened is not None:
            with translated(self._scratch, "writing the cloud-init seed"), self._opened() as root:
                cloudinit.write_into(seed, root)
        else:
            self._own(name, DiskFile(cloudinit.write_disc(seed, self._scratch, name), "raw"))

    def _contents(self, make: Callable[[str, Obj, contents.Given], contents.Contents], name: str, source: Obj) -> None:
        inputs = self._inputs
        found = make(name, source, contents.Given(inputs.secrets, inputs.configmaps, inputs.pod, inputs.account))
        doing = f"making volume {name}"
        if self._wants_folder(name):
            folder = self._scratch / f"{name}.files"
            with translated(self._scratch, doing):
                folder.mkdir(mode=0o755)
                iso.write_files(folder, found.files, 0o644)
            self._has_folder(name, self._final / folder.name)
        else:
            place = iso.write_iso(found.files, self._scratch, name, found.label, doing)
            self._own(name, DiskFile(place, "raw"))

    def _kernel(self) -> tuple[Path | None, Path | None]:
        firmware = nested(self._spec, "domain").get("firmware") or {}
        source: Any = nested(firmware, "kernelBoot").get("container")
        if not source:
            return None, None
        found = [
            self._boot_file(source, path, key) if (path := source.get(key)) else None
            for key in ("kernelPath", "initrdPath")
        ]
        return found[0], found[1]

    def _boot_file(self, source: Obj, path: str, key: str) -> Path:
        image = self._image(self._sources.kernel_file(source, path))
        return disks.boot_file(image, f"{path} of {source['image']}", key).seen_at
