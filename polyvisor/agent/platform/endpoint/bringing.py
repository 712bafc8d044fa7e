"""A machine's disks on an endpoint's host: images brought there once, and for each machine a layer, a copy or a file.

An image is found in the store of this machine, examined as everywhere, converted to a format that the driver takes,
and uploaded under a name that follows from its content; whoever needs it next finds it there. An upload that was cut
leaves a volume without the small one beside it that says that it is whole, and is begun anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent.errors import AgentError, NoSuchClaim
from polyvisor.agent.files import iso, safepath
from polyvisor.agent.images.store import ImageStore, Progress
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.pools import Pool, Pools, Volume, need_room
from polyvisor.agent.storage import cloudinit, contents, disks
from polyvisor.agent.storage.disks import SECTOR, Image
from polyvisor.agent.storage.making import Inputs
from polyvisor.agent.storage.seeds import seed_of
from polyvisor.agent.storage.sources import NodeSources, Places
from polyvisor.api import Obj
from polyvisor.api.dumps import dump_claim
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.quantity import whole
from polyvisor.api.reading import nested, phase_of
from polyvisor.api.volumes import claim_of
from polyvisor.domain import DiskSource, HostPath
from polyvisor.drivers.base import Driver

PREFIX = "polyvisor-"
LAYERED = "qcow2"
"""The one format in which a volume can be a layer above another."""
STEP = 10
"""Percent of an upload between two words on it."""
GIB = 1 << 30
FORMATS = ("raw", "qcow2", "vmdk", "vhdx", "vdi")
Lookup = Callable[[str], Obj | None]
"""Gives a PersistentVolume by its name."""


@dataclass(frozen=True)
class Brought:
    """Disks by volume, their sizes in bytes where these are known; a kernel and an initrd, if there are any."""

    disks: Mapping[str, DiskSource] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    kernel: HostPath | None = None
    initrd: HostPath | None = None


class Bringer:
    """Brings disks to the host of one endpoint; ``folder`` is for what is made here on the way."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self._keeper = keeper
        self._folder = folder
        self._pools = Pools(keeper)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def uri(self) -> str:
        """The endpoint's URI."""
        return str(self._keeper.endpoint["spec"]["uri"])

    async def bring(
        self, vmi: Obj, driver: Driver, images: ImageStore, inputs: Inputs, volumes: Mapping[str, Obj], say: Progress
    ) -> Brought:
        """Make all disks of a machine, or find them made. ``volumes`` are PersistentVolumes by name.

        Raises :class:`AgentError` for what cannot be, :class:`HostError` where the host refuses or is away.
        """
        wanted = [volume for volume in vmi["spec"].get("volumes") or [] if not dump_claim(volume)]
        own = [volume for volume in wanted if not claim_of(volume)]
        boots = bool(nested(vmi, "spec", "domain", "firmware", "kernelBoot", "container"))
        pool = await self._pools.images() if own or boots else Pool("", "", 0)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        try:
            sources = NodeSources(_places(images, scratch), vmi, scratch, say, inputs.secrets)
            making = _Making(self, vmi, driver, sources)
            making.pool, making.inputs, making.scratch, making.say = pool, inputs, scratch, say
            found: dict[str, Volume] = {}
            for volume in wanted:
                if name := claim_of(volume):
                    found[volume["name"]] = await self._claimed(vmi, name, inputs, volumes)
                else:
                    found[volume["name"]] = await making.make(volume)
            kernel, initrd = await making.kernel()
        finally:
            await asyncio.to_thread(safepath.remove_path, scratch)
        return Brought(
            {name: volume.disk() for name, volume in found.items()},
            {name: volume.capacity for name, volume in found.items() if volume.capacity},
            kernel,
            initrd,
        )

    async def remove(self, uid: str) -> None:
        """Delete the volumes that were made for one machine. Its claims stay."""
        mapped = self._keeper.endpoint["spec"].get("storage") or []
        for pool in dict.fromkeys(one["pool"] for one in mapped):
            for name in await self._pools.names(pool, f"{PREFIX}{uid}-"):
                await self._pools.delete(pool, name)

    async def _claimed(self, vmi: Obj, name: str, inputs: Inputs, volumes: Mapping[str, Obj]) -> Volume:
        """Return the volume of the host that a claim stands for."""
        namespace, endpoint = vmi["metadata"]["namespace"], self._keeper.endpoint["metadata"]["name"]
        claim = inputs.claims.get(name)
        if claim is None:
            raise NoSuchClaim(namespace, name)
        if not claim["spec"].get("volumeName"):
            if phase_of(claim) == "Bound":
                what = f"claim {namespace}/{name} is a folder of this machine, not a disk on the host of endpoint"
                raise AgentError(
                    f"{what} {endpoint}; use a claim of a storage class that the endpoint maps", retry=False
                )
            raise AgentError(f"claim {namespace}/{name} is not bound to a volume yet; waiting for it")
        bound = volumes.get(str(claim["spec"]["volumeName"])) or {}
        csi = (bound.get("spec") or {}).get("csi") or {}
        place, _, rest = str(csi.get("volumeHandle") or "").partition("/")
        pool, _, volume = rest.partition("/")
        if csi.get("driver") != ENDPOINT_CSI_DRIVER or place != endpoint or not volume:
            where = f"claim {namespace}/{name} is not a disk on the host of endpoint {endpoint}"
            raise AgentError(f"{where}; a PersistentVolume of that endpoint is wanted", retry=False)
        if pool not in {one["pool"] for one in self._keeper.endpoint["spec"].get("storage") or []}:
            raise AgentError(f"claim {namespace}/{name} is in pool {pool}, which endpoint {endpoint} does not map")
        found = await self._pools.volume(pool, volume)
        if found is None:
            raise AgentError(f"claim {namespace}/{name}: there is no volume {volume} in pool {pool} of the host")
        given = str((csi.get("volumeAttributes") or {}).get("format") or "")
        return Volume(pool, volume, found.path, given or found.format, found.capacity, found.block)

    async def kept(
        self,
        driver: Driver,
        pool: Pool,
        image: Image,
        ending: str,
        called: str,
        ready: Callable[[], tuple[Path, int]],
        say: Progress,
    ) -> Volume:
        """Return the volume that holds what was made of an image, uploaded if it is not there.

        ``ready`` gives a file to upload, and the size in bytes of the disk in it; it runs in a thread.
        """
        place = str(image.path).partition(image.tree)[2] if image.tree else str(image.path)
        digest = hashlib.sha256(f"{image.tree}{place}/{ending}".encode()).hexdigest()[:20]
        name, whole_mark = (driver.volume_name(f"{PREFIX}image-{digest}.{end}") for end in (ending, "whole"))
        async with self._locks[name]:
            there = await self._pools.volume(pool.name, name)
            if there is not None and await self._pools.volume(pool.name, whole_mark) is not None:
                return there
            if there is not None:
                say(f"{called} was not brought to the host whole; beginning anew")
                await self._pools.delete(pool.name, name)
            file, size = await asyncio.to_thread(ready)
            form, url = ending if ending in FORMATS else "raw", driver.upload_url(self.uri, pool.name, name)
            made = await self._bring(pool, name, form, size, file, called, say, url)
            await self._pools.make(pool, whole_mark, form if url else "raw", disks.WHOLE if url else SECTOR)
        return made

    async def _bring(
        self, pool: Pool, name: str, format_: str, size: int, file: Path, called: str, say: Progress, url: str = ""
    ) -> Volume:
        length = await asyncio.to_thread(_length, file)
        need_room(pool, length, called)
        await self._pools.make(pool, name, format_, max(size, length if format_ == "raw" else size))
        told = 0

        def progress(sent: int) -> None:
            nonlocal told
            percent = 100 * sent // length // STEP * STEP
            if percent > told:
                told = percent
                say(f"uploading {called} to pool {pool.name}: {percent}%")

        try:
            await self._pools.upload(pool.name, name, file, progress, url)
        except BaseException:
            await self._pools.give_up(pool.name, name)
            raise
        found = await self._pools.volume((await self._pools.pool(pool.name)).name, name)
        if found is None:
            raise HostError(f"the volume {name} is gone from pool {pool.name}")
        return Volume(found.pool, found.name, found.path, format_, size, found.block)

    async def file(self, pool: Pool, name: str, file: Path, called: str) -> Volume:
        """Bring a small file as a volume of its own, in place of what is there by that name."""
        await self._pools.delete(pool.name, name)
        size = await asyncio.to_thread(_length, file)
        return await self._bring(pool, name, "raw", size, file, called, lambda _: None)

    async def own(self, pool: Pool, name: str, format_: str, size: int, image: Volume | None) -> Volume:
        """Return a machine's own volume: empty, a layer above an image, or a copy of one; made if it is not there."""
        there = await self._pools.volume(pool.name, name)
        if there is not None:
            return there
        if image is None:
            return await self._pools.make(pool, name, format_, size)
        if format_ == LAYERED:
            return await self._pools.make(pool, name, format_, size, above=image)
        need_room(pool, size, name)
        return await self._pools.make(pool, name, format_, size, copy=image)


class _Making:
    """The making of one machine's own disks."""

    pool: Pool
    inputs: Inputs
    scratch: Path
    say: Progress

    def __init__(self, bringer: Bringer, vmi: Obj, driver: Driver, sources: NodeSources) -> None:
        self._bringer = bringer
        self._vmi = vmi
        self._driver = driver
        self._formats = driver.disk_formats
        self._sources = sources

    def _format(self) -> str:
        """Return the best of the driver's formats that the pool has."""
        return next((one for one in self._formats if one == "raw" or self.pool.of_files), "raw")

    def _name(self, volume: str, ending: str) -> str:
        return self._driver.volume_name(f"{PREFIX}{self._vmi['metadata']['uid']}-{volume}.{ending}")

    async def make(self, volume: Obj) -> Volume:
        name = str(volume["name"])
        if "".join(safepath.parts(name)) != name:
            raise AgentError(f"volume name {name!r} cannot be a file's name", retry=False)
        if source := volume.get("containerDisk"):
            return await self._container_disk(name, source)
        if source := volume.get("emptyDisk"):
            size = disks.capacity(whole(source["capacity"]), f"empty disk {name}")
            return await self._bringer.own(self.pool, self._name(name, self._format()), self._format(), size, None)
        for kind in cloudinit.KINDS:
            if (source := volume.get(kind.volume)) is not None:
                seed = seed_of(self._vmi, kind, source, self.inputs.secrets)
                return await self._texts(name, seed.files, kind.label)
        for word, make in contents.KINDS.items():
            if (source := volume.get(word)) is not None:
                given = contents.Given(self.inputs.secrets, self.inputs.configmaps, self.inputs.pod)
                found = make(name, source, given)
                return await self._texts(name, found.files, found.label)
        kinds = ", ".join(key for key in volume if key != "name") or "no source"
        raise AgentError(f"volume {name}: {kinds} is not supported on endpoints", retry=False)

    async def _container_disk(self, name: str, source: Obj) -> Volume:
        image = await asyncio.to_thread(self._sources.container_disk, name, source)
        called, form = f"the disk image of {source['image']}", self._format()
        direct = self._driver.upload_url(self._bringer.uri, self.pool.name, name)

        def ready() -> tuple[Path, int]:
            return to_upload(image, self.scratch, "raw" if direct else form, called, self.say)

        base = await self._bringer.kept(self._driver, self.pool, image, form, called, ready, self.say)
        return await self._bringer.own(self.pool, self._name(name, form), form, base.capacity, base)

    async def kernel(self) -> tuple[HostPath | None, HostPath | None]:
        """Return where kernel and initrd are on the host, if the machine has them."""
        firmware = (self._vmi["spec"].get("domain") or {}).get("firmware") or {}
        source: Obj = (firmware.get("kernelBoot") or {}).get("container") or {}
        keys = ("kernelPath", "initrdPath")
        found = [await self._boot_file(source, key) if source.get(key) else None for key in keys]
        return found[0], found[1]

    async def _boot_file(self, source: Obj, key: str) -> HostPath:
        if not self.pool.of_files:
            raise AgentError(f"a kernel is a file, and pool {self.pool.name} of the host has none", retry=False)
        path = str(source[key])
        called = f"{path} of {source['image']}"
        image = await asyncio.to_thread(self._sources.kernel_file, source, path)

        def ready() -> tuple[Path, int]:
            file = disks.boot_file(image, called, key).path
            return file, file.stat().st_size

        kept = await self._bringer.kept(self._driver, self.pool, image, "boot", called, ready, self.say)
        return HostPath(kept.path)

    async def _texts(self, name: str, files: Mapping[str, bytes], label: str) -> Volume:
        doing = f"making volume {name}"
        place = await asyncio.to_thread(iso.write_iso, files, self.scratch, name, label, doing)
        return await self._bringer.file(self.pool, self._name(name, "iso"), place, f"volume {name}")


def _length(file: Path) -> int:
    return file.stat().st_size


def to_upload(image: Image, folder: Path, wanted: str, called: str, say: Progress) -> tuple[Path, int]:
    """Return an image as a file to upload, in the format that is wanted, and the size in bytes of the disk in it.

    The image is examined before anything else reads it. Raises :class:`ImageError` if it is refused.
    """
    has = disks.examined(image, called).format
    if has != wanted:
        say(f"converting {called}, which is {has}, to {wanted}")
    if has == wanted and has in disks.LAYERED:
        return image.path, disks.capacity(disks.size_of(image, has) or 0, called, SECTOR)
    place = folder / f"image.{wanted}"
    size = disks.converted(image, has, folder / "image.brought", place, wanted, called)
    return place, size


def _places(images: ImageStore, folder: Path) -> Places:
    """Return where images are; claims and host disks of this machine are none of an endpoint's."""
    return Places(images, Path(os.devnull, "volumes"), Path(os.devnull, folder.name))
