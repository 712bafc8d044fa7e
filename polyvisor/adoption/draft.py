"""A machine while it is put together from the parts of the XML, with what was found on the way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.adoption.reading import path_of
from polyvisor.adoption.values import Note, Outcome
from polyvisor.api import Obj, Problem
from polyvisor.api.metadata import dns_label_error
from polyvisor.domain import DiskSource, Share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lxml.etree import _Element

    from polyvisor.adoption.values import Mapping
    from polyvisor.drivers.base import Driver

_FOREIGN = re.compile(r"[^a-z0-9]+")
SPEC = "spec.template.spec"


@dataclass
class Draft:
    """``domain`` is the XML in the shared form (what the driver generalized), and is not changed any more.

    ``spec`` is the spec of the machine's instance. ``disks``, ``shares``, ``folders`` and ``root`` are what an agent
    would have made ready for it, for a rendering to compare with. ``elements`` and ``cards`` are the
    elements of disks and interfaces by name.
    """

    domain: _Element
    driver: Driver
    virt_type: str
    mapping: Mapping
    name: str
    ours: bool = False
    """Whether Polyvisor wrote the domain."""
    spec: Obj = field(default_factory=lambda: {"domain": {"devices": {}}})
    disks: dict[str, DiskSource] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    root: str = ""
    root_path: Path | None = None
    volumes: list[Obj] = field(default_factory=list)
    claims: list[Obj] = field(default_factory=list)
    elements: dict[str, _Element] = field(default_factory=dict)
    cards: dict[str, _Element] = field(default_factory=dict)
    settled: dict[str, Note] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    """Paths of devices that the machine does not have."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def board(self) -> Obj:
        """The machine's domain: CPU, memory, firmware."""
        found: Obj = self.spec["domain"]
        return found

    @property
    def devices(self) -> Obj:
        """The machine's devices."""
        found: Obj = self.board["devices"]
        return found

    def settle(self, element: _Element | None, attribute: str, outcome: Outcome, text: str = "") -> None:
        """Say what became of an attribute, or of an element's text (``attribute`` empty), if it is there."""
        if element is None:
            return
        value = element.get(attribute) if attribute else (element.text or "").strip()
        if value is None:
            return
        path = f"{path_of(element)}/@{attribute}" if attribute else path_of(element)
        self.settled[path] = Note(path, value, outcome, text)

    def settle_all(self, element: _Element, outcome: Outcome, text: str = "") -> None:
        """Say the same of everything in and below an element."""
        for one in element.iter():
            if not isinstance(one.tag, str):
                continue
            for name in one.attrib:
                self.settle(one, str(name), outcome, text)
            if (one.text or "").strip() or not (len(one) or one.attrib):
                self.settle(one, "", outcome, text)

    def unsettle(self, field: str) -> None:
        """Take back that a field holds something; ``field`` begins with the instance's ``spec``."""
        whole = SPEC + field.removeprefix("spec")
        for path, note in self.settled.items():
            if note.text == whole:
                self.settled[path] = Note(path, note.value, Outcome.BESIDE, "the driver does not have it")

    def leave_out(self, element: _Element, text: str) -> None:
        """Say that the machine is without a device."""
        self.settle_all(element, Outcome.BESIDE, text)
        self.left_out.add(path_of(element))

    def refuse(self, element: _Element, message: str) -> None:
        """Note what keeps the machine from being created."""
        self.leave_out(element, "to be mapped first")
        self.problems.append(Problem(path_of(element), message, "FieldValueNotSupported"))


def label(text: str, taken: Iterable[str] = (), otherwise: str = "x") -> str:
    """Make a DNS label of any text, another than those that are ``taken``."""
    base = _FOREIGN.sub("-", text.lower()).strip("-")[:50].strip("-") or otherwise
    found, number = base, 2
    while found in taken:
        found, number = f"{base}-{number}", number + 1
    assert not dns_label_error(found)
    return found


def free(name: str, taken: Iterable[str] = ()) -> bool:
    """Whether a name that the XML gives may be used as it is."""
    return not dns_label_error(name) and name not in taken


def number(text: str | None) -> int | None:
    """Return a decimal number of at most 18 digits, or None for anything else."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
