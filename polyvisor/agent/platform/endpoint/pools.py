"""Storage pools of an endpoint's host, as the agent uses them: volumes made, filled and deleted there.

All names of volumes that Polyvisor makes begin with ``polyvisor-``; the launcher writes to and deletes no others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lxml import etree

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files.sparse import only_zeros
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError, answer_of
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity
from polyvisor.domain import DiskSource, HostPath
from polyvisor.domain.xml import add

CHUNK = 1024 * 1024
MAX_PIECE = 16 * CHUNK
MAKE_SECONDS = 1800.0
"""How long the host may take to make a volume: a copy of another takes as long as it is large."""
OF_FILES = ("dir", "fs", "netfs", "gluster", "vstorage")
"""Kinds of pools whose volumes are files, which have formats; other pools' volumes are raw."""
MAX_TEXT = 4096
"""Characters of a name or a path on the host; longer ones are none."""
GIVE_UP_SECONDS = 10.0
ROOM = 64 * 1024 * 1024
"""Bytes that stay free in a pool."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as its host tells of it; ``available`` in bytes."""

    name: str
    kind: str
    available: int

    @property
    def of_files(self) -> bool:
        """Whether its volumes are files, so that they have formats."""
        return self.kind in OF_FILES


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume; ``capacity`` is the disk's size in bytes as a guest sees it."""

    pool: str
    name: str
    path: str
    format: str
    capacity: int
    block: bool = False

    def disk(self, format_: str = "") -> DiskSource:
        """Return it as a domain's disk, in the format that is known of it or given."""
        return DiskSource(HostPath(self.path), format_ or self.format, self.block)


class Pools:
    """The pools of one endpoint's host. All methods raise :class:`HostError` where the host refuses or is away."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def images(self) -> Pool:
        """Return the pool that images and machines' own disks go to. Raises :class:`AgentError` if none is mapped."""
        endpoint = self._keeper.endpoint
        mapped: list[Obj] = endpoint["spec"].get("storage") or []
        if not mapped:
            name = endpoint["metadata"]["name"]
            raise AgentError(
                f"endpoint {name} maps no storage pool, so there is no place for disks on its host; an administrator "
                "adds one to spec.storage: {storageClass: NAME, pool: POOL, defaultForImages: true}"
            )
        chosen = next((one for one in mapped if one.get("defaultForImages")), mapped[0])
        return await self.pool(chosen["pool"])

    async def pool(self, name: str) -> Pool:
        """Return a pool that can be used."""
        told = await self._keeper.ask("pool", pool=name)
        if told.get("active") is not True:
            raise AgentError(f"storage pool {name} on the host is not active; `virsh pool-start {name}` starts it")
        available = told.get("available")
        return Pool(name, str(told.get("type") or ""), available if isinstance(available, int) else 0)

    async def volume(self, pool: str, name: str) -> Volume | None:
        """Return a volume, None if there is none of that name."""
        try:
            return _volume(pool, await self._keeper.ask("volume", pool=pool, name=name))
        except HostError as error:
            if error.code == "no-volume":
                return None
            raise

    async def make(
        self, pool: Pool, name: str, format_: str, size: int, *, above: Volume | None = None, copy: Volume | None = None
    ) -> Volume:
        """Make a volume of ``size`` bytes: empty, a layer ``above`` another one, or a ``copy`` of another one."""
        root = etree.Element("volume")
        add(root, "name", name)
        add(root, "capacity", size, unit="bytes")
        if copy is None:
            add(root, "allocation", 0, unit="bytes")
        add(add(root, "target"), "format", type=format_)
        if above is not None:
            below = add(root, "backingStore")
            add(below, "path", above.path)
            add(below, "format", type=above.format)
        source = {"fromPool": copy.pool, "fromName": copy.name} if copy is not None else {}
        xml = etree.tostring(root, encoding="unicode")
        return _volume(
            pool.name, await self._keeper.ask("create-volume", MAKE_SECONDS, pool=pool.name, xml=xml, **source)
        )

    async def delete(self, pool: str, name: str) -> None:
        """Delete a volume of ours, if it is there."""
        await self._keeper.ask("delete-volume", pool=pool, name=name)

    async def give_up(self, pool: str, name: str) -> None:
        """Delete what was uploaded in part, if the host is there; else the next try finds it."""
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self.delete(pool, name)
        except (HostError, TimeoutError):
            return

    async def names(self, pool: str, prefix: str) -> list[str]:
        """Return the names of a pool's volumes that begin with ``prefix``."""
        found = await self._keeper.every("volume-names", "volumes", pool=pool, prefix=prefix)
        return [name for one in found if (name := _text(one.get("name"))).startswith(prefix)]

    async def upload(self, pool: str, name: str, file: Path, progress: Callable[[int], None], url: str = "") -> None:
        """Write a file of this machine into a volume of ours; ``progress`` is told how many bytes have gone.

        With ``url`` it goes there by HTTPS, with the credentials of the connection, else through libvirt.
        """
        length = (await asyncio.to_thread(file.stat)).st_size
        asked = {"op": "upload", "pool": pool, "name": name, "length": length, **({"url": url} if url else {})}
        reader, writer = await self._keeper.stream(**asked)
        sent = 0
        try:
            with file.open("rb") as source, suppress(OSError):  # a launcher that refuses says why
                while data := await asyncio.to_thread(source.read, CHUNK):
                    writer.write(data)
                    await writer.drain()
                    sent += len(data)
                    progress(sent)
            await answer_of(reader)
        finally:
            writer.close()

    async def download(
        self, pool: str, name: str, place: Path, progress: Callable[[int, int], None], url: str = ""
    ) -> None:
        """Write a volume's content to a new file of this machine; zeros are left out.

        ``progress`` is told how many bytes have come, and of how many, which is 0 where the host does not tell. With
        ``url`` it is read there by HTTPS, with the credentials of the connection, else through libvirt.
        """
        asked = {"op": "download", "pool": pool, "name": name, **({"url": url} if url else {})}
        reader, writer = await self._keeper.stream(**asked)
        try:
            length = (await answer_of(reader)).get("length")
            come = 0
            with place.open("xb") as file:
                while size := int.from_bytes(await reader.readexactly(4), "big"):
                    if size > MAX_PIECE:
                        raise HostError("the launcher sends a piece that is too long")
                    data = await reader.readexactly(size)
                    await asyncio.to_thread(_write, file, data)
                    come += size
                    progress(come, length if isinstance(length, int) else 0)
                file.truncate(come)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise HostError(f"the download of volume {name} was cut off", "cut") from None
        finally:
            writer.close()


def _write(file: BinaryIO, data: bytes) -> None:
    if only_zeros(data):
        file.seek(len(data), os.SEEK_CUR)
    else:
        file.write(data)


def need_room(pool: Pool, size: int, what: str) -> None:
    """Refuse to bring what does not fit. Raises :class:`AgentError`."""
    if size + ROOM > pool.available:
        there, needed = format_quantity(pool.available), format_quantity(size)
        message = f"storage pool {pool.name} on the host has {there} bytes free, and {what} needs {needed}"
        raise AgentError(f"{message}; free some space there")


def _text(told: Any) -> str:
    """Return a text of the host's that can stand in objects and XML, empty if it cannot."""
    return told if isinstance(told, str) and len(told) <= MAX_TEXT and told.isprintable() else ""


def _volume(pool: str, told: Obj) -> Volume:
    path, name, format_ = (_text(told.get(key)) for key in ("path", "name", "format"))
    capacity = told.get("capacity")
    if not (path and name and format_):
        raise HostError(f"the host tells of a volume in pool {pool} without name, path and format that can be used")
    size = capacity if isinstance(capacity, int) and capacity >= 0 else 0
    return Volume(pool, name, path, format_, size, told.get("block") is True)
