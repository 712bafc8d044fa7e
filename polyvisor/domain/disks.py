"""Disks and CD-ROMs. A device's name in the guest follows from bus and order, so the same spec gives the same names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.domain.xml import add, add_pci_address
from polyvisor.machine import Disk, Vcpus

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor import api
    from polyvisor.api import DomainSpec
    from polyvisor.domain.context import DiskSource, DomainContext

PREFIXES = {"virtio": "vd", "sata": "sd", "scsi": "sd", "usb": "sd"}
SHARE_QUEUE = 1024
"""Requests that a guest may have under way to a shared folder, as KubeVirt sets it."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class IoThreads:
    """How many I/O threads there are, and which disk has which (counted from 1)."""

    count: int
    of: Mapping[str, int]


def io_threads(spec: DomainSpec, context: DomainContext) -> IoThreads:
    """Share out I/O threads as KubeVirt does: one for each disk that asks, the rest on one or, with ``auto``, in turns.

    Only virtio disks have them: on other buses the thread would belong to the controller.
    """
    disks = [d for d in spec.devices.disks or [] if d.name in context.disks and Disk.of(d).bus == "virtio"]
    own = [disk for disk in disks if disk.dedicated_io_thread]
    rest = [disk for disk in disks if not disk.dedicated_io_thread]
    if not own and spec.io_threads_policy is None:
        return IoThreads(0, {})
    most = 2 * Vcpus.of(spec).count - len(own) if spec.io_threads_policy == "auto" else 1
    common = max(1, min(most, len(rest))) if rest else 0
    of = {disk.name: 1 + number % common for number, disk in enumerate(rest)}
    of |= {disk.name: common + number for number, disk in enumerate(own, 1)}
    return IoThreads(common + len(own), of)


def add_disks(devices: _Element, spec: DomainSpec, context: DomainContext, threads: IoThreads) -> None:
    """Write every disk that has an image file, and drives without a disc; what became the root filesystem is none."""
    used: Counter[str] = Counter()
    disks = [disk for disk in spec.devices.disks or [] if disk.name in context.disks or disk.cdrom is not None]
    for disk in disks:
        target = Disk.of(disk)
        prefix = PREFIXES.get(target.bus, "sd")
        element = _add_disk(devices, disk, context.disks.get(disk.name), f"{prefix}{letters(used[prefix])}", target)
        driver = element.find("driver")
        assert driver is not None
        if disk.name in threads.of:
            driver.set("iothread", str(threads.of[disk.name]))
        if spec.devices.block_multi_queue and target.bus == "virtio":
            driver.set("queues", str(Vcpus.of(spec).count))
        used[prefix] += 1
    if any(Disk.of(disk).bus == "scsi" for disk in disks):
        add(devices, "controller", type="scsi", index=0, model="virtio-scsi")


def add_filesystems(devices: _Element, context: DomainContext) -> None:
    """Write the root filesystem, the other folders below /mnt by their volume's name, and what virtiofs shares."""
    targets = [(context.root, "/")] if context.root else []
    targets += [(folder, f"/mnt/{name}") for name, folder in sorted(context.folders.items())]
    for source, target in targets:
        filesystem = add(devices, "filesystem", type="mount", accessmode="passthrough")
        add(filesystem, "source", dir=str(source), shifted="yes" if context.shifted and target == "/" else None)
        add(filesystem, "target", dir=target)
    for path in context.hidden:
        _hide(devices, path)
    for name, share in sorted(context.shares.items()):
        filesystem = add(devices, "filesystem", type="mount")
        add(filesystem, "driver", type="virtiofs", queue=SHARE_QUEUE)
        add(filesystem, "source", **{"socket" if share.socket else "dir": str(share.path)})
        add(filesystem, "target", dir=name)


def _hide(devices: _Element, path: str) -> None:
    """Mount something empty over a file or folder of the node's kernel."""
    folder = path.endswith("/")
    filesystem = add(devices, "filesystem", type="ram" if folder else "mount")
    if folder:
        add(filesystem, "source", usage=4, units="KiB")
    else:
        add(filesystem, "source", dir="/dev/null")
    add(filesystem, "target", dir=path.rstrip("/"))
    add(filesystem, "readonly")


def letters(number: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(ALPHABET))
        text = ALPHABET[rest] + text
    return text


def _add_disk(devices: _Element, disk: api.Disk, source: DiskSource | None, name: str, target: Disk) -> _Element:
    block = source is not None and source.block
    element = add(devices, "disk", type="block" if block else "file", device=target.kind)
    policy = disk.error_policy or None
    # what one machine writes is seen by the other at once, and native I/O passes the host's cache by
    cache = disk.cache or ("none" if disk.shareable or disk.io == "native" else None)
    form = source.format if source else "raw"
    add(element, "driver", type=form, cache=cache, error_policy=policy, io=disk.io or None)
    if source is not None:
        add(element, "source", **{"dev" if block else "file": str(source.path)})
    tray = disk.cdrom.tray if disk.cdrom else None
    rate = disk.disk.rotation_rate if disk.disk else None
    add(element, "target", dev=name, bus=target.bus, tray=tray or None, rotation_rate=rate)
    if target.readonly or (source is not None and source.readonly):
        add(element, "readonly")
    if disk.shareable:
        add(element, "shareable")
    if disk.serial:
        add(element, "serial", disk.serial)
    if disk.boot_order is not None:
        add(element, "boot", order=disk.boot_order)
    size = disk.block_size.custom if disk.block_size else None
    logical, physical = (size.logical, size.physical) if size else (None, None)
    if source is not None and not size:
        logical, physical = source.logical or None, source.physical or None
    if logical or physical:
        add(element, "blockio", logical_block_size=logical, physical_block_size=physical)
    add(element, "alias", name=f"ua-{disk.name}")
    add_pci_address(element, disk.disk.pci_address if disk.disk else None)
    return element
