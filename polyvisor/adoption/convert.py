"""From a domain to a VirtualMachine, and what became of each setting on the way.

The steps: the driver puts its own dialect into the shared form; modules of this package read the parts; what the driver
has no feature for is taken out of the machine, since its hypervisor never read it; the machine is rendered, and the
domain that comes out is held against the original. Where a setting can be written in two ways, the one that renders
like the original is taken.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

from polyvisor.admission import AdmissionContext
from polyvisor.admission.explanation import explain
from polyvisor.adoption.board import read_board
from polyvisor.adoption.comparison import compare
from polyvisor.adoption.compute import (
    read_clock,
    read_cpus,
    read_features,
    read_firmware,
    read_memory,
    read_reboot,
)
from polyvisor.adoption.disks import read_disks, read_filesystems
from polyvisor.adoption.draft import Draft, label
from polyvisor.adoption.fitting import Way, read_threads, take_out, ways
from polyvisor.adoption.networks import read_interfaces
from polyvisor.adoption.reading import domains_of, driver_of
from polyvisor.adoption.rendering import rendering
from polyvisor.adoption.values import Conversion, ConversionError, Mapping, Note, Outcome
from polyvisor.api import Obj, Problem
from polyvisor.api.names import API_VERSION, KEPT_ANNOTATION
from polyvisor.api.resources import VMS
from polyvisor.domain.boot import PRODUCT
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.at_endpoint import at_endpoint

if TYPE_CHECKING:
    from lxml.etree import _Element

NOT_SHOWN = "(not shown)"
"""In place of a screen's password, which no object may hold."""
OWNER = "http://hypervisor.kubevirt.io/owner/1.0"
"""The namespace of the mark that an installation writes into the metadata of its domains."""
MAX_DEVICES = 512
"""Devices of a domain; what a conversion costs grows with their number."""
MAX_KEPT = 200 * 1024
"""Bytes of an object's annotations that what is kept may fill; Kubernetes takes 256 KiB in all."""


def convert(xml: str | bytes, mapping: Mapping, drivers: DriverRegistry | None = None) -> Conversion:
    """Return the one domain of ``xml`` as a VirtualMachine.

    Raises :class:`ConversionError` if ``xml`` is not the XML of one domain of a known driver. What can be repaired by a
    mapping is in the result's ``problems``.
    """
    found = domains_of(xml)
    if len(found) != 1:
        raise ConversionError(f"has {len(found)} domains; one is expected here")
    return convert_domain(found[0], mapping, drivers or registry())


def convert_all(xml: str | bytes, mapping: Mapping, drivers: DriverRegistry | None = None) -> list[Conversion]:
    """Return every domain of ``xml`` as a VirtualMachine; like :func:`convert`, but errors name the domain."""
    converted = []
    for domain in domains_of(xml):
        try:
            converted.append(convert_domain(domain, mapping, drivers or registry()))
        except ConversionError as error:
            name = (domain.findtext("name") or "").strip()[:64]
            raise ConversionError(f"domain {name!r}: {error}" if name else str(error)) from error
    return converted


def convert_domain(domain: _Element, mapping: Mapping, drivers: DriverRegistry) -> Conversion:
    """Return one domain as a VirtualMachine; see :func:`convert`. Passwords are removed from ``domain``."""
    driver, virt_type = driver_of(domain, drivers, mapping.driver)
    if mapping.pools is not None:
        driver = at_endpoint(driver)
    name = (domain.findtext("name") or "").strip()
    if not name:
        raise ConversionError("has no <name>")
    devices = sum(len(found) for found in domain.iterfind("devices"))
    if devices > MAX_DEVICES:
        raise ConversionError(f"has {devices} devices; at most {MAX_DEVICES} are converted")
    for graphics in domain.iterfind("devices/graphics[@passwd]"):
        graphics.set("passwd", NOT_SHOWN)
    _without_mark(domain)
    shared = copy.deepcopy(domain)
    driver.generalize(shared)
    best: tuple[tuple[int, int], Draft, list[Note]] | None = None
    for way in ways(shared):
        draft = Draft(shared, driver, virt_type, mapping, mapping.name or label(name, otherwise="domain"))
        draft.ours = shared.findtext("sysinfo/system/entry[@name='product']") == PRODUCT
        _read(draft, way)
        lacking = take_out(draft)
        notes = compare(domain, rendering(draft), draft)
        cost = lacking, sum(note.outcome in (Outcome.CHANGED, Outcome.BESIDE) for note in notes)
        if best is None or cost < best[0]:
            best = cost, draft, notes
        if cost == (0, 0):
            break
    assert best is not None
    return _conversion(best[1], best[2], name)


def _without_mark(domain: _Element) -> None:
    """Take away whose the domain was: a machine that is made of it has another owner."""
    for metadata in domain.findall("metadata"):
        for mark in metadata.findall(f"{{{OWNER}}}owner"):
            metadata.remove(mark)
        if not len(metadata):
            domain.remove(metadata)


def _read(draft: Draft, way: Way) -> None:
    read_memory(draft)
    read_cpus(draft, way.as_cores)
    read_features(draft)
    read_firmware(draft)
    read_clock(draft)
    read_reboot(draft)
    read_disks(draft)
    read_filesystems(draft)
    read_threads(draft, way)
    read_interfaces(draft)
    read_board(draft)
    draft.settle(draft.domain.find("name"), "", *_named(draft))


def _named(draft: Draft) -> tuple[Outcome, str]:
    same = draft.name == (draft.domain.findtext("name") or "").strip()
    return (Outcome.KEPT, "metadata.name") if same else (Outcome.CHANGED, f"the machine is called {draft.name}")


def _conversion(draft: Draft, notes: list[Note], name: str) -> Conversion:
    kept = {note.path: note.value for note in notes if note.outcome is not Outcome.KEPT}
    choice: Obj = {"driver": draft.driver.name, "virtType": draft.virt_type}
    metadata: Obj = {"name": draft.name, "namespace": draft.mapping.namespace}
    problems = list(draft.problems)
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_KEPT:
        size = f"{len(text.encode()) >> 10} KiB"
        message = f"{size} of settings cannot be expressed; at most {MAX_KEPT >> 10} KiB can be kept beside the machine"
        problems.append(Problem("", message))
    elif kept:
        metadata["annotations"] = {KEPT_ANNOTATION: text}
    machine: Obj = {
        "apiVersion": API_VERSION,
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {"runStrategy": "Halted", "template": {"spec": {**draft.spec, "hypervisor": choice}}},
    }
    return Conversion(
        domain=name,
        uuid=(draft.domain.findtext("uuid") or "").strip(),
        driver=draft.driver.name,
        machine=machine,
        volumes=tuple(draft.volumes),
        claims=tuple(draft.claims),
        kept=kept,
        notes=tuple(notes + [note for path, note in draft.settled.items() if path.endswith("()")]),
        problems=tuple(problems),
        explanation=explain(VMS, machine, AdmissionContext({}, DriverRegistry([draft.driver]))),
    )
