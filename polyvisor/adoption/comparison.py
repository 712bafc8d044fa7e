"""What a machine has of the domain that it was made of: the domain that it renders to, held against the original.

Nothing here is a claim about fields: what stands in both is kept, what stands in the original alone is not expressed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from polyvisor.adoption.compute import size_of
from polyvisor.adoption.reading import path_of
from polyvisor.adoption.values import Note, Outcome

if TYPE_CHECKING:
    from lxml.etree import _Element

CHOSEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"@id|resource/.*|seclabel(\[\d+\])?(/.*)?", "belongs to the running domain"),
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
KEYS = ("name", "type", "dev", "bus", "model", "index", "vcpu", "order")
"""Attributes by which elements of one tag are told apart, where they have them."""
PAIRED = frozenset({"timer", "feature", "entry", "input", "controller", "vcpupin"})
"""Elements that stand for what their attributes of :data:`KEYS` say, wherever they stand."""


def compare(original: _Element, rendered: _Element | None, settled: Mapping[str, Note]) -> list[Note]:
    """Return a note for each attribute and text of ``original``; those in ``settled`` count as they are."""
    found: list[Note] = []
    _compare(original, rendered, settled, found)
    return found


def _compare(one: _Element, other: _Element | None, settled: Mapping[str, Note], found: list[Note]) -> None:
    path = path_of(one)
    for name, value in _attributes(one):
        where = f"{path}/@{name}" if path else f"@{name}"
        if name == "unit" and size_of(one) is not None:
            continue
        there = other.get(name) if other is not None else None
        found.append(settled.get(where) or _judge(where, str(value), there))
    text = (one.text or "").strip()
    if text or not (len(one) or one.attrib):
        there = (other.text or "").strip() if other is not None else None
        if size_of(one) is not None and other is not None and size_of(one) == size_of(other):
            there = text
        found.append(settled.get(path) or _judge(path, text, there))
    pairs = _pairs(one, other)
    for child in one:
        if isinstance(child.tag, str):
            _compare(child, pairs.get(child), settled, found)


def _attributes(element: _Element) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in element.attrib.items()]


def _judge(path: str, value: str, there: str | None) -> Note:
    if there is not None and there.lower() == value.lower():
        return Note(path, value, Outcome.KEPT)
    for pattern, text in CHOSEN:
        if pattern.fullmatch(path):
            return Note(path, value, Outcome.CHOSEN, text)
    if there is None:
        return Note(path, value, Outcome.BESIDE, "no field of the API, or not one that the driver has, expresses it")
    return Note(path, value, Outcome.CHANGED, f"becomes {there}" if there else "becomes empty")


def _pairs(one: _Element, other: _Element | None) -> dict[_Element, _Element]:
    """Pair the children of two elements by tag and order, some by their attributes."""
    if other is None:
        return {}
    waiting: dict[object, list[_Element]] = defaultdict(list)
    for child in other:
        waiting[_key(child)].append(child)
    pairs = {}
    for child in one:
        if waiting[key := _key(child)]:
            pairs[child] = waiting[key].pop(0)
    return pairs


def _key(element: _Element) -> object:
    if element.tag in PAIRED:
        return element.tag, *(element.get(name) for name in KEYS)
    if element.tag == "filesystem":
        target = element.find("target")
        return element.tag, target.get("dir") if target is not None else None
    return element.tag
