"""Volumes of the host's storage pools: looked at, made empty or as a copy of another, filled from here, deleted.

What is deleted or written must bear a name that only an installation of Polyvisor gives, so that no request can reach
an image of somebody else's. A copy may be a layer above the other volume, where the pool's format has that.
"""

from __future__ import annotations

import re
import socket
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import libvirt

from polyvisor.launcher.endpoint.https import Access, get, put
from polyvisor.launcher.endpoint.owned import UNSUPPORTED, Answer, Refused, text_of
from polyvisor.launcher.endpoint.told import MAX_PATH, found_in, page, root_of, short

_OUR_NAME = "polyvisor-[A-Za-z0-9][A-Za-z0-9._-]{0,200}"
OURS = re.compile(f"{_OUR_NAME}(/{_OUR_NAME})?")
"""Names that Polyvisor gives; some hosts have each volume in a folder."""
CHUNK = 1024 * 1024


class Volumes:
    """The operations; ``there`` gives the connection, ``access`` how it was opened."""

    def __init__(self, there: Callable[[], Any], access: Callable[[], Access] = Access) -> None:
        self._there = there
        self._access = access
        self.operations: Mapping[str, Callable[[Answer], Answer]] = {
            "pools": self._pools,
            "pool": self._pool,
            "volumes": self._volumes,
            "volume-names": self._names,
            "volume": self._volume,
            "create-volume": self._create,
            "delete-volume": self._delete,
        }

    def _pools(self, asked: Answer) -> Answer:
        """Return a page of the pools with folder and room, from ``offset`` on."""
        connection = self._there()
        names = (connection.listStoragePools, connection.listDefinedStoragePools)
        found = _all(connection.listAllStoragePools, names, connection.storagePoolLookupByName)
        pools, following = page(found, asked, _pool_listed)
        return {"pools": pools, "next": following}

    def _volumes(self, asked: Answer) -> Answer:
        """Return a page of the volumes of a pool with path and size, from ``offset`` on."""
        pool = self._find(text_of(asked, "pool"))
        found = _all(pool.listAllVolumes, (pool.listVolumes,), pool.storageVolLookupByName)
        volumes, following = page(found, asked, _volume_listed)
        return {"volumes": volumes, "next": following}

    def _names(self, asked: Answer) -> Answer:
        """Return a page of the names of a pool's volumes that begin with ``prefix``, from ``offset`` on."""
        prefix = text_of(asked, "prefix")
        listed = sorted(one for one in self._find(text_of(asked, "pool")).listVolumes() if one.startswith(prefix))
        names, following = page(listed, asked, lambda name: {"name": name} if len(name) <= MAX_PATH else None)
        return {"volumes": names, "next": following}

    def _pool(self, asked: Answer) -> Answer:
        """Return a pool's kind, folder and room; it is looked at again first, as others may write to it."""
        pool = self._find(text_of(asked, "pool"))
        if pool.isActive():
            pool.refresh(0)
        state, capacity, allocation, available = pool.info()
        root = root_of(pool.XMLDesc(0))
        return {
            "name": short(pool.name()),
            "active": state == libvirt.VIR_STORAGE_POOL_RUNNING,
            "type": short(root.get("type")),
            "path": short(root.findtext("target/path"), MAX_PATH),
            "capacity": capacity,
            "allocation": allocation,
            "available": available,
        }

    def _volume(self, asked: Answer) -> Answer:
        return _about(self._lookup(text_of(asked, "pool"), text_of(asked, "name")))

    def _create(self, asked: Answer) -> Answer:
        """Make a volume of ``xml``, as a copy of ``fromName`` in ``fromPool`` if these are given."""
        pool, xml = self._find(text_of(asked, "pool")), text_of(asked, "xml")
        if "<!" in xml:
            raise Refused("bad-request", "xml: a volume without document type is expected")
        _check_ours(ET.fromstring(xml).findtext("name") or "")
        if asked.get("fromName") is None:
            return _about(pool.createXML(xml, 0))
        return _about(pool.createXMLFrom(xml, self._lookup(text_of(asked, "fromPool"), text_of(asked, "fromName")), 0))

    def _delete(self, asked: Answer) -> Answer:
        name = text_of(asked, "name")
        _check_ours(name)
        try:
            self._lookup(text_of(asked, "pool"), name).delete(0)
        except Refused as refusal:
            if refusal.code != "no-volume":
                raise
        return {}

    def upload(self, asked: Answer, connection: socket.socket, first: bytes) -> Answer:
        """Write ``length`` bytes that come over a socket into a volume; ``first`` are those that were read already.

        With ``url`` they go there by HTTPS; it has to be the address of the volume's content.
        """
        pool, name, length = text_of(asked, "pool"), text_of(asked, "name"), asked.get("length")
        _check_ours(name)
        if not isinstance(length, int) or length <= 0:
            raise Refused("bad-request", "length: a number above 0 is expected")
        volume = self._lookup(pool, name)
        if asked.get("url") is not None:
            put(self._access(), text_of(asked, "url"), _pieces(connection, first, length), length)
            return {}
        stream = self._there().newStream(0)
        volume.upload(stream, 0, length, 0)
        try:
            _copy(stream, connection, first, length)
            stream.finish()
        except BaseException:
            stream.abort()
            raise
        return {}

    def download(self, asked: Answer, connection: socket.socket, answer: Callable[[Answer], None]) -> None:
        """Send a volume's content: pieces, each behind its length in four bytes, and a length of 0 when it is whole.

        With ``url`` it is read there by HTTPS; it has to be the address of the volume's content.
        """
        volume = self._lookup(text_of(asked, "pool"), text_of(asked, "name"))
        pieces = get(self._access(), text_of(asked, "url")) if asked.get("url") is not None else self._content(volume)
        answer({"result": {"length": _physical(volume)}})
        for piece in pieces:
            connection.sendall(len(piece).to_bytes(4, "big") + piece)
        connection.sendall(bytes(4))

    def _content(self, volume: Any) -> Iterator[bytes]:
        stream = self._there().newStream(0)
        volume.download(stream, 0, 0, 0)
        try:
            while data := stream.recv(CHUNK):
                if not isinstance(data, bytes):
                    raise Refused("cut", "the host sends no more")
                yield data
            stream.finish()
        except BaseException:
            stream.abort()
            raise

    def _find(self, name: str) -> Any:
        try:
            return self._there().storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise Refused("no-pool", f"there is no storage pool {name} on the host") from None
            raise

    def _lookup(self, pool: str, name: str) -> Any:
        found = self._find(pool)
        try:
            return found.storageVolLookupByName(name)
        except libvirt.libvirtError as error:
            # Where volumes are in folders a driver may fail in another way if the folder is not there.
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL and name in found.listVolumes():
                raise
        raise Refused("no-volume", f"there is no volume {name} in pool {pool}")


def _all(
    objects: Callable[[int], list[Any]], names: Iterable[Callable[[], list[str]]], look_up: Callable[[str], Any]
) -> list[Any]:
    """Return what a host lists, name by name where its driver lists no more; nothing where it has no such thing."""
    try:
        return objects(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in UNSUPPORTED:
            raise
    try:
        return [look_up(name) for listed in names for name in listed()]
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNSUPPORTED:
            return []
        raise


def _pieces(connection: socket.socket, first: bytes, length: int) -> Iterator[bytes]:
    """Give what is to be uploaded as it comes."""
    left, data = length, first
    while left:
        if not data and not (data := connection.recv(min(CHUNK, left))):
            raise Refused("cut", f"the upload ended {left} bytes early")
        data = data[:left]
        left -= len(data)
        yield data
        data = b""


def _copy(stream: Any, connection: socket.socket, first: bytes, length: int) -> None:
    for data in _pieces(connection, first, length):
        while data:
            sent = stream.send(data)
            if sent < 0:
                raise Refused("cut", "the host takes no more")
            data = data[sent:]


def _physical(volume: Any) -> int:
    """Return how many bytes a volume's content has, 0 where its host does not tell."""
    try:
        return int(volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL)[2])
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, *UNSUPPORTED):
            raise
        return int(volume.info()[1])


def _about(volume: Any) -> Answer:
    kind, capacity, allocation = volume.info()
    found = root_of(volume.XMLDesc(0)).find("target/format")
    form = (found.get("type") if found is not None else "") or "raw"
    sizes = {"capacity": capacity, "allocation": allocation}
    block = kind == libvirt.VIR_STORAGE_VOL_BLOCK
    return {**_place(volume), "format": short(form), "block": block, **sizes}


def _pool_listed(pool: Any) -> Answer:
    state, capacity, allocation, available = pool.info()
    sizes = {"capacity": capacity, "allocation": allocation, "available": available}
    path = short(found_in(pool.XMLDesc(0), "target/path"), MAX_PATH)
    return {"name": short(pool.name()), "active": state == libvirt.VIR_STORAGE_POOL_RUNNING, "path": path, **sizes}


def _volume_listed(volume: Any) -> Answer:
    _, capacity, allocation = volume.info()
    return {**_place(volume), "capacity": capacity, "allocation": allocation}


def _place(volume: Any) -> Answer:
    """Return name and path, neither of them if one is too long: half of a path is another file's."""
    name, path = volume.name(), volume.path()
    fits = len(name) <= MAX_PATH and len(path) <= MAX_PATH
    return {"name": name, "path": path} if fits else {"name": "", "path": ""}


def _check_ours(name: str) -> None:
    if not OURS.fullmatch(name):
        raise Refused("foreign", f"volume {name[:80]} does not have a name that Polyvisor gives")
