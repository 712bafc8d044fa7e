"""Inputs from the field, and what is right for them: folders with manifests that are tried as they are.

A folder holds manifests (``input*.yaml``, ``list.yaml``) and, if a program is to check more than what holds for every
input, ``expect.yaml``: for each of its manifests, by file name,

``admission``
    ``accepted`` or ``refused``.
``problems``
    Field -> words that its message holds.
``warnings``
    Words of warnings.
``explain``
    Driver -> verdict.
``domain``
    XPath -> value, in the domain of the first machine as QEMU's driver writes it.
``guest``
    Name -> value, as the guest's console says after ``RES`` (in the slow lane: a real guest).
``machine``
    ``status`` (printableStatus) and ``says`` (words of conditions and Events) of the first virtual machine there.

``POLYVISOR_CASES`` names a further folder of such folders; without ``expect.yaml`` they are held to what holds for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from polyvisor.api import Obj

OWN = Path(__file__).parent
FURTHER = "POLYVISOR_CASES"
HOST_DISKS = "HOSTDISKS"
"""In a path of a manifest: the folder of the installation's host disks."""


@dataclass(frozen=True)
class Case:
    """One manifest of a folder, and what is expected of it."""

    folder: Path
    file: str
    expected: Obj

    @property
    def id(self) -> str:
        """Its name in a report."""
        return f"{self.folder.name}/{self.file}"

    def text(self, host_disks: str = "/hostdisks") -> str:
        """Return the manifest, with the folder of host disks put in."""
        return (self.folder / self.file).read_text().replace(HOST_DISKS, host_disks)

    def objects(self) -> list[Obj]:
        """Return its objects; a list's items are objects of their own."""
        found: list[Obj] = []
        for document in yaml.safe_load_all(self.text()):
            if isinstance(document, dict) and document.get("kind") == "List":
                found += document.get("items") or []
            elif document is not None:
                found.append(document)
        return found


def cases() -> list[Case]:
    """Return the manifests of all folders."""
    tops = [OWN, *(Path(top) for top in filter(None, [os.environ.get(FURTHER)]))]
    return [case for top in tops for folder in sorted(top.iterdir()) for case in _of(folder)]


def _of(folder: Path) -> Iterator[Case]:
    if not folder.is_dir():
        return
    expected: Obj = {}
    if (folder / "expect.yaml").exists():
        expected = yaml.safe_load((folder / "expect.yaml").read_text())
        missing = [name for name in expected if not (folder / name).exists()]
        assert not missing, f"{folder}: expect.yaml names files that are not there: {missing}"
    for file in sorted([*folder.glob("input*.yaml"), *folder.glob("list.yaml")]):
        yield Case(folder, file.name, expected.get(file.name) or {})
