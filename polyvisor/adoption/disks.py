"""Disks, CD-ROM drives and folders: each that has a source becomes a static PersistentVolume and a claim.

A disk is found in the mapped pools by the pool that it names, or by the folder that its path is in. The path is text of
a stranger: it is compared and written down, never opened.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from polyvisor.adoption import remedies
from polyvisor.adoption.claims import claimed
from polyvisor.adoption.draft import Draft, free, label, number
from polyvisor.adoption.places import pci_address
from polyvisor.adoption.values import Outcome, PoolMapping
from polyvisor.api import Obj
from polyvisor.domain import DiskSource, Share
from polyvisor.drivers.base import RootKind
from polyvisor.drivers.verdict import may_support

if TYPE_CHECKING:
    from lxml.etree import _Element

ALIAS = "ua-"
DEVICES = ("disk", "cdrom", "lun")
BUSES = {"disk": ("virtio", "sata", "scsi", "usb"), "cdrom": ("sata", "scsi", "usb"), "lun": ("virtio", "sata", "scsi")}
CACHES = ("none", "writethrough", "writeback")
IO = ("native", "threads")
POLICIES = ("stop", "ignore", "report", "enospace")
HINTS = {"cdrom": ", or eject it"}
MOUNTS = PurePosixPath("/mnt")
SHARED = "virtiofs"


def read_disks(draft: Draft) -> None:
    """Read all disks, in the order in which the guest sees them."""
    found: list[Obj] = []
    names: set[str] = set()
    for element in draft.domain.iterfind("devices/disk"):
        kind = element.get("device", "disk")
        if kind not in DEVICES:
            draft.leave_out(element, f"the API has no {kind} drives")
            continue
        name = _name(element, names)
        names.add(name)
        source = _source(draft, element, name, kind)
        if not source and kind == "cdrom" and not may_support(draft.driver, "disk.cdrom.empty"):
            draft.leave_out(element, "the driver has no CD-ROM drive without media")
        elif source or kind == "cdrom":
            draft.elements[name] = element
            found.append(_disk(draft, element, name, kind))
    _order(draft, found)
    if found:
        draft.devices["disks"] = found


def _name(element: _Element, taken: set[str]) -> str:
    """Return the name that Polyvisor gave the disk, else its name in the guest."""
    alias, target = element.find("alias"), element.find("target")
    given = alias.get("name", "") if alias is not None else ""
    dev = target.get("dev", "") if target is not None else ""
    name = given.removeprefix(ALIAS) if given.startswith(ALIAS) else dev
    return name if free(name, taken) else label(name, taken, "disk")


def _disk(draft: Draft, element: _Element, name: str, kind: str) -> Obj:
    target, driver = element.find("target"), element.find("driver")
    inner: Obj = {}
    bus = target.get("bus", "") if target is not None else ""
    if bus in BUSES[kind]:
        inner["bus"] = bus
    if kind != "cdrom" and element.find("readonly") is not None:
        inner["readonly"] = True
    if kind == "cdrom" and target is not None and target.get("tray") == "open":
        inner["tray"] = "open"
    if kind == "disk" and bus == "virtio" and (place := pci_address(draft, element)):
        inner["pciAddress"] = place
    rate = number(target.get("rotation_rate")) if target is not None else None
    if rate and kind == "disk":
        inner["rotationRate"] = rate
    disk: Obj = {"name": name, kind: inner}
    if driver is not None:
        for attribute, field, accepted in (
            ("cache", "cache", CACHES),
            ("io", "io", IO),
            ("error_policy", "errorPolicy", POLICIES),
        ):
            if driver.get(attribute) in accepted:
                disk[field] = driver.get(attribute)
    if element.find("shareable") is not None:
        disk["shareable"] = True
    if serial := (element.findtext("serial") or "").strip():
        disk["serial"] = serial
    boot, size = element.find("boot"), element.find("blockio")
    if boot is not None and (order := number(boot.get("order"))):
        disk["bootOrder"] = order
    custom = {}
    if size is not None and size.get("logical_block_size"):
        logical, physical = number(size.get("logical_block_size")), number(size.get("physical_block_size"))
        custom = {"logical": logical, "physical": physical or logical}
    if size is not None and (granularity := number(size.get("discard_granularity"))) is not None:
        custom["discardGranularity"] = granularity
    if custom:
        disk["blockSize"] = {"custom": custom}
    return disk


def _order(draft: Draft, disks: list[Obj]) -> None:
    """Turn the order of kinds of devices (``<os><boot dev>``) into one of disks, if it says more than "the disks"."""
    boots = draft.domain.findall("os/boot")
    kinds = [boot.get("dev") for boot in boots]
    if kinds in ([], ["hd"]) or any("bootOrder" in disk for disk in disks):
        return
    place = 0
    for boot, kind in zip(boots, kinds, strict=True):
        device = {"hd": "disk", "cdrom": "cdrom"}.get(str(kind))
        first = next((disk for disk in disks if device in disk), None) if device else None
        if first is not None and "bootOrder" not in first:
            place += 1
            first["bootOrder"] = place
            draft.settle(boot, "dev", Outcome.KEPT, f"bootOrder {place} of disk {first['name']}")


def _source(draft: Draft, element: _Element, name: str, kind: str) -> bool:
    """Make volume and claim of what a disk names; return whether there is any."""
    source, driver = element.find("source"), element.find("driver")
    given = element.get("type", "file")
    image = driver.get("type", "raw") if driver is not None else "raw"
    target = element.find("target")
    shown = f"disk {target.get('dev')}" if target is not None else f"disk {name}"
    if source is None or not source.attrib:
        if kind != "cdrom":
            draft.refuse(element, f"{shown} names no source; a file, a block device or a volume of a pool is expected")
        return False
    path = source.get("file") or source.get("dev") or ""
    if given == "volume" and source.get("pool") and source.get("volume"):
        pool, volume = str(source.get("pool")), str(source.get("volume"))
        found = next((one for one in draft.mapping.storage if one.pool == pool), None)
        if found is None:
            message = f"{shown} is in pool {pool!r}, which no StorageClass stands for"
            draft.refuse(element, f"{message}; {remedies.of_pool(draft.mapping, pool)}")
            return False
        if PurePosixPath(volume).is_absolute() or ".." in PurePosixPath(volume).parts:
            draft.refuse(element, f"{shown} names the volume {volume!r}; the name of a volume in the pool is expected")
            return False
        _keep_source(draft, element)
        path = str(PurePosixPath(found.path or "/") / volume)
    elif given not in ("file", "block") or not path:
        protocol = source.get("protocol") or given
        message = f"{shown} is of type {protocol!r}; files, block devices and volumes of mapped pools are supported"
        draft.refuse(element, message)
        return False
    else:
        found = pool_of(path, draft.mapping.storage)
        if found is None:
            remedy = remedies.of_folder(draft.mapping, path)
            draft.refuse(element, f"{shown} ({path}) is in no mapped pool; {remedy}{HINTS.get(kind, '')}")
            return False
        volume = str(PurePosixPath(path).relative_to(found.path))
        _keep_source(draft, element)
    draft.disks[name] = DiskSource(Path(path), image, block=given == "block")
    many = "ReadWriteMany" if element.find("shareable") is not None else "ReadWriteOnce"
    mode = "ReadOnlyMany" if kind == "cdrom" else many
    claimed(draft, element, name, found, volume, path, mode, form=image)
    return True


def _keep_source(draft: Draft, element: _Element) -> None:
    source = element.find("source")
    assert source is not None
    for attribute in ("file", "dev", "pool", "volume"):
        draft.settle(source, attribute, Outcome.KEPT, "a PersistentVolume")
    draft.settle(element, "type", Outcome.KEPT, "a PersistentVolume")


def pool_of(path: str, pools: tuple[PoolMapping, ...]) -> PoolMapping | None:
    """Return the pool in whose folder a path is, the innermost of several; ``..`` is in none."""
    given = PurePosixPath(path)
    if ".." in given.parts or not given.is_absolute():
        return None
    inside = [one for one in pools if one.path and given.is_relative_to(one.path) and given != PurePosixPath(one.path)]
    return max(inside, key=lambda one: len(PurePosixPath(one.path).parts), default=None)


def read_filesystems(draft: Draft) -> None:
    """Read the folders that a guest mounts, and a container's root."""
    shared: list[Obj] = []
    names = {str(volume["name"]) for volume in draft.spec.get("volumes") or []}
    for element in draft.domain.iterfind("devices/filesystem"):
        source, target, driver = (element.find(tag) for tag in ("source", "target", "driver"))
        where = target.get("dir", "") if target is not None else ""
        folder = source.get("dir", "") if source is not None else ""
        host = source.get("socket", "") if source is not None else ""
        kind = driver.get("type") if driver is not None else None
        container = draft.driver.root is RootKind.FILESYSTEM and element.get("type", "mount") == "mount"
        if kind == SHARED and (folder or host):
            name = where if free(where, names) else label(where, names, "share")
            if _folder(draft, element, name, folder or host):
                draft.shares[name] = Share(Path(folder or host), socket=not folder)
                shared.append({"name": name, SHARED: {}})
                names.add(name)
        elif container and folder and (where == "/" or PurePosixPath(where).parent == MOUNTS):
            mounted = "root" if where == "/" else PurePosixPath(where).name
            name = mounted if free(mounted, names) else label(mounted, names)
            if _folder(draft, element, name, folder):
                names.add(name)
                if where == "/":
                    draft.root, draft.root_path = name, Path(folder)
                else:
                    draft.folders[name] = Path(folder)
        else:
            why = "a container's further volumes are below /mnt" if container else "shared folders are virtiofs"
            draft.leave_out(element, f"{why}; this folder is left out")
    if shared:
        draft.devices["filesystems"] = shared
    _root_first(draft)


def _root_first(draft: Draft) -> None:
    """Put a container's root before its other volumes: the first becomes the root."""
    if draft.root:
        draft.spec["volumes"].sort(key=lambda volume: volume["name"] != draft.root)


def _folder(draft: Draft, element: _Element, name: str, path: str) -> bool:
    found = pool_of(path, draft.mapping.storage)
    if found is None:
        draft.refuse(element, f"folder {path} is in no mapped pool; {remedies.of_folder(draft.mapping, path)}")
        return False
    draft.settle(element.find("source"), "dir", Outcome.KEPT, "a PersistentVolume")
    draft.settle(element.find("source"), "socket", Outcome.KEPT, "a PersistentVolume")
    volume = str(PurePosixPath(path).relative_to(found.path))
    claimed(draft, element, name, found, volume, path, "ReadWriteMany", form="", folder=True)
    return True
