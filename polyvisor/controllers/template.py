"""Which template an instance is up to, and whether its machine's template is another one by now. Pure.

The instance itself cannot be compared with the template, because admission filled it in; so it carries digests of the
template's spec, of its metadata, and of each network card, which may change while the instance runs: whoever makes such
a change notes it here (:func:`with_cards`). A change of the spec that is taken back needs no restart any more; labels
and annotations need none, but the instance is behind until it has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyvisor.admission.cards import Card, cards
from polyvisor.api import names
from polyvisor.api.reading import nested
from polyvisor.api.volumes import drives, passing

if TYPE_CHECKING:
    from polyvisor.api import Obj

REFERENCES = ("instancetype", "preference")


def digest(vm: Obj) -> str:
    """Return a short text for the machine's template and what it refers to: ``<spec>.<metadata>.<cards>``.

    Where CPU sockets can be added (``maxSockets``), their number follows as a fourth part, and is not in the first.
    """
    spec = vm["spec"]["template"].get("spec") or {}
    sockets = sockets_of(spec)
    more = "" if sockets is None else f".{sockets}"
    return f"{_spec_digest(vm, _without_live(spec))}.{_metadata_digest(vm)}.{_text(cards(spec))}{more}"


def sockets_of(spec: Obj) -> int | None:
    """Return how many CPU sockets a template asks for, None where none can be added to a running instance."""
    cpu = nested(spec, "domain", "cpu")
    return int(cpu.get("sockets") or 1) if cpu.get("maxSockets") else None


def made_sockets(vmi: Obj) -> int | None:
    """Return how many CPU sockets of the template an instance is up to, None where none can be added."""
    parts = _annotation(vmi, names.TEMPLATE_ANNOTATION).split(".")
    return int(parts[3]) if len(parts) > 3 and parts[3].isdigit() else None


def with_sockets(vmi: Obj, sockets: int) -> str:
    """Return the digest of an instance that has so many CPU sockets now."""
    return ".".join([*_annotation(vmi, names.TEMPLATE_ANNOTATION).split(".")[:3], str(sockets)])


def made_cards(vmi: Obj) -> dict[str, Card] | None:
    """Return the cards of the template that an instance is up to; None for one that an older release made."""
    parts = _annotation(vmi, names.TEMPLATE_ANNOTATION).split(".")
    if len(parts) < 3:
        return None
    found = {}
    for one in parts[2].split(",") if parts[2] else ():
        name, _, rest = one.partition("=")
        fixed, _, state = rest.partition(":")
        found[name] = Card(fixed, state)
    return found


def with_cards(vmi: Obj, found: Mapping[str, Card]) -> str:
    """Return the digest of an instance that is up to these cards now."""
    spec, metadata, _, *more = _annotation(vmi, names.TEMPLATE_ANNOTATION).split(".")
    return ".".join([spec, metadata, _text(found), *more])


def changed(vm: Obj, vmi: Obj | None) -> bool:
    """Whether the instance was made from another template spec; an adopted one, of unknown making, was not."""
    made, present = _both(vm, vmi)
    return bool(made[0]) and (made[0] != present[0] or made[2:] != present[2:])


def observed_generation(vm: Obj, vmi: Obj | None) -> int:
    """Return the generation of the machine that the instance is up to."""
    generation = int(vm["metadata"].get("generation") or 0)
    made_at = _annotation(vmi, names.VM_GENERATION_ANNOTATION)
    made, present = _both(vm, vmi)
    return int(made_at) if made[0] and made != present and made_at.isdigit() else generation


def _both(vm: Obj, vmi: Obj | None) -> tuple[list[str], list[str]]:
    """Return what the instance was made from and what it would be made from now, part by part."""
    made = _annotation(vmi, names.TEMPLATE_ANNOTATION).split(".")
    if len(made) == 2:  # of an older release, which took the cards for a part of the spec
        return made, [_spec_digest(vm, vm["spec"]["template"].get("spec")), _metadata_digest(vm)]
    present = digest(vm).split(".")
    if len(made) == 3 and len(present) == 4:  # of an older release, which took the sockets for a part of the spec
        spec = vm["spec"]["template"].get("spec") or {}
        return made, [_spec_digest(vm, _without_cards(spec)), *present[1:3]]
    return made, present


def _spec_digest(vm: Obj, template: Obj | None) -> str:
    spec = vm["spec"]
    parts = [_permanent(template), *(spec[field] for field in REFERENCES if spec.get(field))]
    return _short(parts if len(parts) > 1 else parts[0])


def _metadata_digest(vm: Obj) -> str:
    return _short(vm["spec"]["template"].get("metadata") or {})


def _text(found: Mapping[str, Card]) -> str:
    return ",".join(f"{name}={card}" for name, card in found.items())


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _without_live(spec: Obj) -> Obj:
    """Return the spec without what may change while an instance runs and is compared apart."""
    rest = _without_cards(spec)
    if sockets_of(spec) is not None:
        cpu = {key: value for key, value in rest["domain"]["cpu"].items() if key != "sockets"}
        rest["domain"] = {**rest["domain"], "cpu": cpu}
    return rest


def _without_cards(spec: Obj) -> Obj:
    domain = spec.get("domain") or {}
    devices = {key: value for key, value in (domain.get("devices") or {}).items() if key != "interfaces"}
    rest = {key: value for key, value in spec.items() if key != "networks"}
    return {**rest, "domain": {**domain, "devices": devices}}


def _permanent(spec: Obj | None) -> Obj | None:
    """Return the spec without disks that come and go while a machine runs, and so need no restart."""
    if not spec:
        return spec
    gone = {volume["name"] for volume in spec.get("volumes") or [] if passing(volume)}
    domain = spec.get("domain") or {}
    given = domain.get("devices") or {}
    devices = _filtered(given, "disks", gone - drives(spec))  # a disc goes, its drive stays
    return _filtered({**spec, "domain": {**domain, "devices": devices}}, "volumes", gone)


def _filtered(holder: Obj, key: str, gone: set[str]) -> Obj:
    """Return an object without some items of a list, and without a list that is empty then or was before."""
    kept = [item for item in holder.get(key) or [] if item["name"] not in gone]
    return {**{name: value for name, value in holder.items() if name != key}, **({key: kept} if kept else {})}


def _annotation(vmi: Obj | None, name: str) -> str:
    return str(((vmi or {}).get("metadata", {}).get("annotations") or {}).get(name) or "")
