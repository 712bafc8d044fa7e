"""What a machine has of the domain that it was made of: the domain that it renders to, held against the original.

Nothing here is a claim about fields: what stands in both is kept, what stands in the original alone is not expressed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from polyvisor.adoption.compute import size_of
from polyvisor.adoption.draft import SPEC
from polyvisor.adoption.reading import path_of
from polyvisor.adoption.values import Note, Outcome

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.adoption.draft import Draft

CHOSEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"@id|resource/.*|seclabel(\[\d+\])?(/.*)?", "belongs to the running domain"),
        (r"idmap/.*", "each machine has ids of the node of its own"),
        (r"devices/emulator", "the program is the launcher's"),
        (r"devices/controller(\[\d+\])?/.*", "controllers follow from the devices"),
        (
            r"devices/.*/alias/@name|devices/.*/target/@(dev|port|type)|devices/.*/target/model/@name",
            "a name of libvirt's",
        ),
        (r"devices/.*/address/.*", "devices get their places anew"),
        (r"devices/disk(\[\d+\])?/(driver/@name|@snapshot|source/@index|backingStore.*|mirror.*)", "libvirt's own"),
        (r"devices/(console|serial|channel)(\[\d+\])?/(source/.*|@tty|target/@.*|log/.*)", "the launcher's end"),
        (r"devices/audio(\[\d+\])?/.*", "nothing listens on the host"),
        (r"cpu/(@check|@match|@migratable|model/@fallback|topology/@(dies|clusters))", "libvirt's own"),
        (r"vcpu/@placement|devices/.*/driver/@name", "libvirt's own"),
    )
)
"""What libvirt or Polyvisor chooses anew at each start."""
FIELDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"uuid|sysinfo/system/entry\[.*\]/?.*", "firmware"),
        (r"memory(/@unit)?", "memory.guest"),
        (r"memoryBacking/.*", "memory.hugepages"),
        (r"vcpu|cpu/topology/.*", "cpu"),
        (r"cpu/(@mode|model)", "cpu.model"),
        (r"cpu/feature.*", "cpu.features"),
        (r"os/type/@machine", "machine.type"),
        (r"os/(@firmware|firmware/.*|bios/.*)", "firmware.bootloader"),
        (r"os/(kernel|initrd|cmdline)", "firmware.kernelBoot"),
        (r"features/.*", "features"),
        (r"clock/.*", "clock"),
        (r"sysinfo/chassis/.*", "chassis"),
        (r"devices/disk.*", "devices.disks"),
        (r"devices/interface.*", "devices.interfaces"),
        (r"devices/filesystem.*", "devices.filesystems"),
        (r"devices/(input|sound|tpm|watchdog|rng|panic|vsock|video|graphics|memballoon).*", "devices"),
    )
)
"""Where a machine has what is kept, as far as one field can be named."""
KEYS = ("name", "type", "dev", "bus", "model", "index", "vcpu", "order")
"""Attributes by which elements of one tag are told apart, where they have them."""
SIZES = ("memory", "maxMemory")
"""Elements whose text is an amount of memory in the unit of an attribute."""
PAIRED = frozenset({"timer", "feature", "entry", "input", "controller", "vcpupin"})
"""Elements that stand for what their attributes of :data:`KEYS` say, wherever they stand."""


def compare(original: _Element, rendered: _Element | None, draft: Draft) -> list[Note]:
    """Return a note for each attribute and text of ``original``; what the draft has settled counts as it is."""
    found: list[Note] = []
    _compare(original, rendered, draft, found)
    return found


def _compare(one: _Element, other: _Element | None, draft: Draft, found: list[Note]) -> None:
    path = path_of(one)
    same = other is not None and one.tag in SIZES and size_of(one) == size_of(other)
    for name, value in _attributes(one):
        where = f"{path}/@{name}" if path else f"@{name}"
        there = other.get(name) if other is not None else None
        found.append(draft.settled.get(where) or _judge(where, value, value if same else there))
    text = (one.text or "").strip()
    if text or not (len(one) or one.attrib):
        opposite = (other.text or "").strip() if other is not None else None
        found.append(draft.settled.get(path) or _judge(path, text, text if same else opposite))
    pairs = _pairs(one, other, draft.left_out)
    for child in one:
        if isinstance(child.tag, str):
            _compare(child, pairs.get(child), draft, found)


def _attributes(element: _Element) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in element.attrib.items()]


def _judge(path: str, value: str, there: str | None) -> Note:
    if there is not None and there.lower() == value.lower():
        field = next((text for pattern, text in FIELDS if pattern.fullmatch(path)), "")
        return Note(path, value, Outcome.KEPT, f"{SPEC}.domain.{field}" if field else "")
    for pattern, text in CHOSEN:
        if pattern.fullmatch(path):
            return Note(path, value, Outcome.CHOSEN, text)
    if there is None:
        return Note(path, value, Outcome.BESIDE)
    return Note(path, value, Outcome.CHANGED, f"becomes {there}" if there else "becomes empty")


def _pairs(one: _Element, other: _Element | None, left_out: Collection[str]) -> dict[_Element, _Element]:
    """Pair the children of two elements by tag and order, some by their attributes."""
    if other is None:
        return {}
    waiting: dict[object, list[_Element]] = defaultdict(list)
    for child in other:
        waiting[_key(child)].append(child)
    pairs = {}
    for child in one:
        if path_of(child) not in left_out and waiting[key := _key(child)]:
            pairs[child] = waiting[key].pop(0)
    return pairs


def _key(element: _Element) -> object:
    if element.tag in PAIRED:
        return element.tag, *(element.get(name) for name in KEYS)
    if element.tag == "filesystem":
        target = element.find("target")
        return element.tag, target.get("dir") if target is not None else None
    return element.tag
