"""``inferFromVolume``: the instance type or preference that a machine's own volume names in its labels.

The answer is written into the machine when it is created, so that it does not change with the volume's labels.
"""

from __future__ import annotations

from polyvisor.admission.context import Lookup
from polyvisor.admission.instancetypes.sources import FIELDS, NOT_FOUND, Field
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj, names
from polyvisor.api.resources import PVCS


def infer(vm: Obj, lookup: Lookup, found: Findings) -> bool:
    """Replace ``inferFromVolume`` by what the volume's claim says, in place; return whether that can be done."""
    spec, at_first = mapping(vm, "spec"), len(found.problems)
    for field in FIELDS:
        matcher = mapping(spec, field)
        if not text(matcher.get("inferFromVolume")):
            continue
        where = f"spec.{field}.inferFromVolume"
        if matcher.get("name") or matcher.get("revisionName"):
            found.add(where, "name and inferFromVolume exclude each other; give one", "FieldValueForbidden")
            continue
        before = len(found.problems)
        inferred = _inferred(vm, field, where, lookup, found)
        if inferred is not None:
            spec[field] = inferred
        elif len(found.problems) > before:
            continue
        elif matcher.get("inferFromVolumeFailurePolicy") == "Ignore":
            del spec[field]
            found.warnings.append(f"{where}: the volume names none; the machine is without {field}")
        else:
            label = names.default_label(field)
            message = f"the claim of volume {text(matcher['inferFromVolume'])!r} has no label {label}"
            found.add(where, message, NOT_FOUND)
    return len(found.problems) == at_first


def _inferred(vm: Obj, field: Field, where: str, lookup: Lookup, found: Findings) -> Obj | None:
    """Return the reference that the volume's claim carries, None if it carries none."""
    wanted = text(mapping(vm, "spec", field)["inferFromVolume"])
    listed = list(items(mapping(vm, "spec", "template", "spec").get("volumes"), ""))
    volume = next((one for _, one in listed if one.get("name") == wanted), None)
    if volume is None:
        known = ", ".join(text(one.get("name")) for _, one in listed) or "none"
        found.add(where, f"no volume has the name {wanted[:80]!r}; known: {known}", NOT_FOUND)
        return None
    claim = text(mapping(volume, "persistentVolumeClaim").get("claimName")) or text(
        mapping(volume, "dataVolume").get("name")
    )
    if not claim:
        message = f"volume {wanted!r} is neither persistentVolumeClaim nor dataVolume, whose labels could name one"
        found.add(where, message, "FieldValueNotSupported")
        return None
    obj = lookup(PVCS, text(mapping(vm, "metadata").get("namespace")), claim)
    if obj is None:
        found.add(where, f'{PVCS.plural} "{claim}" not found', NOT_FOUND)
        return None
    labels = mapping(obj, "metadata", "labels")
    name, kind = text(labels.get(names.default_label(field))), text(labels.get(names.default_kind_label(field)))
    return {"name": name, **({"kind": kind} if kind else {})} if name else None
