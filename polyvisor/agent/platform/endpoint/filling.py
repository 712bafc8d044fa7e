"""DataVolumes whose claims are disks on endpoints' hosts: what is brought is looked at here, then goes to the host.

All sources are taken as for a claim of this machine, into a folder that lasts as long as that takes, so the same is
checked, unpacked and refused everywhere. The raw disk there is converted to the volume's format and uploaded in the
place of the empty volume. A claim of the same host is copied by the host itself. What was uploaded in part is deleted,
or, where the host is away, replaced by the next try; a claim is not used before its DataVolume has succeeded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.agent.images import decoding
from polyvisor.agent.images.examining import RAW
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.filling import Filler, Needs, Tell
from polyvisor.agent.imports.incoming import DISK, Incoming
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.pools import Pools, need_room
from polyvisor.agent.platform.endpoint.provisioner import HostPlace, Provisioner
from polyvisor.agent.storage import disks
from polyvisor.agent.storage import making as storage
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS, STORAGE_CLASSES
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.reading import nested, phase_of
from polyvisor.api.resources import PVCS
from polyvisor.kube import ApiError, Informer, KubeClient

T = TypeVar("T")
STAGED, CONVERTED = 0.5, 0.6
"""How much of the whole is done once a disk is here, and once it has the volume's format."""


class HostClaims:
    """The claims of mapped classes. ``pools`` gives an endpoint's pools, and the addresses of volumes' raw content."""

    def __init__(
        self,
        client: KubeClient,
        provisioner: Provisioner,
        pools: Callable[[str], tuple[Pools, Callable[[str, str], str]] | None],
        vmis: Informer,
    ) -> None:
        self._client = client
        self._provisioner = provisioner
        self._pools = pools
        self._vmis = vmis

    async def holds(self, claim: Obj) -> bool:
        """Whether a claim's class is mapped, and its volumes are made on hosts."""
        if not self._provisioner.mapping(claim):
            return False
        found = await self._found(STORAGE_CLASSES, str(claim["spec"]["storageClassName"]))
        return found is not None and found.get("provisioner") == ENDPOINT_CSI_DRIVER

    async def bind(self, claim: Obj) -> None:
        """Make a claim's volume, which is empty; whoever binds claims binds it."""
        try:
            await self._provisioner.bind(claim)
        except HostError as error:
            raise AgentError(str(error)) from error

    async def place(self, claim: Obj) -> HostPlace:
        """Return where a claim's volume is."""
        return await self._provisioner.place(claim)

    def in_use(self, namespace: str, name: str) -> bool:
        """Whether a machine that is not over has a claim."""
        machines = (vmi for vmi in self._vmis.items() if vmi["metadata"]["namespace"] == namespace)
        return any(phase_of(vmi) not in FINAL_PHASES and name in storage.needed(vmi).claims for vmi in machines)

    async def source(self, namespace: str, name: str) -> Source | None:
        """Return the volume that a claim stands for, None if it is not on an endpoint's host."""
        claim = await self._found(PVCS, name, namespace)
        if claim is None:
            raise AgentError(f"PersistentVolumeClaim {namespace}/{name} does not exist")
        bound = await self._found(PVS, str(claim["spec"].get("volumeName") or "none"))
        csi = nested(bound or {}, "spec", "csi")
        if csi.get("driver") != ENDPOINT_CSI_DRIVER:
            return None
        endpoint, pool, volume = str(csi["volumeHandle"]).split("/", 2)
        found = self._pools(endpoint)
        if found is None:
            raise AgentError(
                f"claim {namespace}/{name} is a disk on the host of endpoint {endpoint}, which is not served"
            )
        pools, url = found
        given = str(nested(csi, "volumeAttributes").get("format") or "")
        return Source(endpoint, pool, volume, pools, url(pool, volume), given)

    async def _found(self, resource: Any, name: str, namespace: str | None = None) -> Obj | None:
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise


class Source:
    """A volume of a host that is copied from."""

    def __init__(self, endpoint: str, pool: str, name: str, pools: Pools, url: str, given: str) -> None:
        self.endpoint = endpoint
        self._pool, self._name, self._pools, self._url, self._given = pool, name, pools, url, given

    async def copy_to(self, place: HostPlace) -> None:
        """Have the host itself copy it into the place of another volume."""
        there = await self._pools.volume(self._pool, self._name)
        if there is None:
            raise AgentError(f"there is no volume {self._name} in pool {self._pool} of endpoint {self.endpoint}")
        if there.capacity > place.size:
            what = f"volume {self._name} holds a disk of {there.capacity} bytes, and the claim has {place.size}"
            raise AgentError(f"{what}; ask for more storage", retry=False)
        need_room(place.pool, there.capacity, f"the copy of volume {self._name}")
        await place.pools.delete(place.pool.name, place.name)
        await place.pools.make(place.pool, place.name, place.format, place.size, copy=there)

    async def fetch(self, file: Path, tell: Tell) -> str:
        """Write it to a new file of this machine; return its format."""
        there = await self._pools.volume(self._pool, self._name)
        if there is None:
            raise AgentError(f"there is no volume {self._name} in pool {self._pool} of endpoint {self.endpoint}")

        def progress(come: int, length: int) -> None:
            tell(min(come / length, 1.0) if length else 0.0)

        await self._pools.download(self._pool, self._name, file, progress, self._url)
        return RAW if self._url else (self._given or there.format)


class HostFiller(Filler):
    """Fills claims that are on hosts; its threads ask the hosts through the event loop."""

    def __init__(
        self, staging: Path, here: Path | None, images: Callable[[], ImageStore | None], claims: HostClaims
    ) -> None:
        """``here`` is where claims of this machine are, if it has any."""
        super().__init__(staging, images, claims.in_use, self.fetch, here)
        self._staging = staging
        self._claims = claims
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the loop that hosts are asked in."""
        self._loop = asyncio.get_running_loop()

    def _wait(self, work: Coroutine[Any, Any, T], stop: threading.Event) -> T:
        """Have the loop do something and wait for it, in a thread, unless it is given up."""
        if self._loop is None:
            work.close()
            raise AgentError("the agent of endpoints is still starting")
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return done.result(0.2)
            except TimeoutError:
                if done.done():
                    raise
                if stop.is_set():
                    done.cancel()
                    raise AgentError("the volume's filling was given up") from None
            except HostError as error:
                raise AgentError(f"the host: {error}") from error

    def fetch(self, namespace: str, name: str, file: Path, tell: Tell, stop: threading.Event) -> str:
        """Bring the disk of a claim on a host to a new file; see :data:`polyvisor.agent.filling.Fetch`."""
        source = self._wait(self._claims.source(namespace, name), stop)
        if source is None:
            return ""
        if self._claims.in_use(namespace, name):
            raise AgentError(f"claim {namespace}/{name} is in use by a machine; it is copied when that has ended")
        return self._wait(source.fetch(file, tell), stop)

    def incoming(self, claim: Obj, called: str, archive: bool, tell: Tell, stop: threading.Event) -> Incoming:
        """Return what takes bytes for a claim."""
        if archive:
            raise AgentError("an archive becomes a tree of files, and a claim on a host is a disk", retry=False)
        return super().incoming(claim, called, archive, tell, stop)

    def fill(self, volume: Obj, claim: Obj, given: Needs, tell: Tell, stop: threading.Event) -> str:
        """Fill a claim as its DataVolume asks; return what is odd about the disk, if anything is."""
        source = nested(volume["spec"], "source")
        if (pvc := source.get("pvc")) and self._copied(claim, pvc["namespace"], pvc["name"], stop):
            return ""
        if "blank" in source or not source:
            self._wait(self._emptied(claim), stop)
            return ""
        try:
            warning = super().fill(volume, claim, given, lambda done: tell(done * STAGED), stop)
            self.deliver(claim, lambda done: tell(STAGED + done * (1 - STAGED)), stop)
        finally:
            self._forget(claim)
        return warning

    def deliver(self, claim: Obj, tell: Tell, stop: threading.Event) -> None:
        """Bring the disk that was taken for a claim to its host."""
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        disk = self._staging / namespace / name / DISK
        place = self._wait(self._claims.place(claim), stop)
        file, share = disk, (CONVERTED - STAGED) / (1 - STAGED)
        if not place.url and place.format != RAW:
            file = disk.with_name(f"disk.{place.format}")
            safepath.remove_path(file)
            called = f"claim {namespace}/{name}"
            decoding.convert(disk, RAW, file, place.format, place.size, called, lambda done: tell(done * share), stop)
        try:
            self._wait(_upload(place, file, lambda done: tell(share + done * (1 - share))), stop)
        finally:
            self._forget(claim)

    def _copied(self, claim: Obj, namespace: str, name: str, stop: threading.Event) -> bool:
        """Have a host copy a claim of its own; return whether it is on the same host."""
        source = self._wait(self._claims.source(namespace, name), stop)
        place = self._wait(self._claims.place(claim), stop)
        if source is None or source.endpoint != place.endpoint:
            return False
        if self._claims.in_use(namespace, name):
            raise AgentError(f"claim {namespace}/{name} is in use by a machine; it is copied when that has ended")
        self._wait(source.copy_to(place), stop)
        return True

    async def _emptied(self, claim: Obj) -> None:
        place = await self._claims.place(claim)
        if await place.pools.volume(place.pool.name, place.name) is None:
            await place.pools.make(place.pool, place.name, place.format, place.size)

    def _forget(self, claim: Obj) -> None:
        folder = disks.claim_folder(self._staging, claim["metadata"]["namespace"], claim["metadata"]["name"])
        safepath.remove_path(folder)


async def _upload(place: HostPlace, file: Path, tell: Tell) -> None:
    """Put a file into the place of a volume; what was uploaded in part is deleted, if the host is there."""
    pool, name, pools = place.pool, place.name, place.pools
    length = (await asyncio.to_thread(file.stat)).st_size
    need_room(pool, length, f"volume {name}")
    await pools.delete(pool.name, name)
    await pools.make(pool, name, place.format, place.size)
    try:
        await pools.upload(pool.name, name, file, lambda sent: tell(sent / length), place.url)
    except BaseException:
        await pools.give_up(pool.name, name)
        raise
