"""``inferFromVolume``: the instance type or preference that a machine's own volume names in its labels.

The answer is written into the machine when it is created, so that it does not change with the volume's labels.
"""

from __future__ import annotations

from polyvisor.admission.context import Lookup
from polyvisor.admission.instancetypes.sources import FIELDS, NOT_FOUND, Field
from polyvisor.admission.values import Findings, items, listed, mapping, text
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
            if field == "instancetype" and matcher.get("inferFromVolumeFailurePolicy") == "Ignore":
                # the size that the machine is to have if nothing can be inferred; KubeVirt drops it as well
                mapping(spec, "template", "spec", "domain", "memory").pop("guest", None)
        elif len(found.problems) > before:
            continue
        elif matcher.get("inferFromVolumeFailurePolicy") == "Ignore":
            del spec[field]
            found.warnings.append(f"{where}: the volume names none; the machine is without {field}")
        else:
            label = names.default_label(field)
            message = f"what is behind volume {text(matcher['inferFromVolume'])!r} has no label {label}"
            found.add(where, message, NOT_FOUND)
    return len(found.problems) == at_first


def _inferred(vm: Obj, field: Field, where: str, lookup: Lookup, found: Findings) -> Obj | None:
    """Return the reference that the volume's labels carry, None if they carry none."""
    wanted = text(mapping(vm, "spec", field)["inferFromVolume"])
    volumes = [one for _, one in items(mapping(vm, "spec", "template", "spec").get("volumes"), "")]
    volume = next((one for one in volumes if one.get("name") == wanted), None)
    if volume is None:
        known = listed(text(one.get("name")) for one in volumes)
        found.add(where, f"no volume has the name {wanted[:80]!r}; known: {known}", NOT_FOUND)
        return None
    labels = _labels(vm, volume, where, lookup, found)
    name, kind = text(labels.get(names.default_label(field))), text(labels.get(names.default_kind_label(field)))
    return {"name": name, **({"kind": kind} if kind else {})} if name else None


def _labels(vm: Obj, volume: Obj, where: str, lookup: Lookup, found: Findings) -> Obj:
    """Return the labels of what is behind a volume: its claim, or the template and source of its DataVolume."""
    namespace = text(mapping(vm, "metadata").get("namespace"))
    claim = text(mapping(volume, "persistentVolumeClaim").get("claimName"))
    data_volume = text(mapping(volume, "dataVolume").get("name"))
    if not claim and not data_volume:
        message = (
            f"volume {volume['name']!r} is neither persistentVolumeClaim nor dataVolume, whose labels could name one"
        )
        found.add(where, message, "FieldValueNotSupported")
        return {}
    templates = [one for _, one in items(mapping(vm, "spec").get("dataVolumeTemplates"), "")]
    template = next(
        (one for one in templates if data_volume and mapping(one, "metadata").get("name") == data_volume), None
    )
    claim = claim or data_volume
    if template is not None:
        labels, source = mapping(template, "metadata", "labels"), mapping(template, "spec", "source", "pvc")
        if any(key.startswith(names.INSTANCETYPE_PREFIX) for key in labels) or not source:
            return labels
        if text(source.get("namespace")) not in ("", namespace):
            message = f"the source of DataVolume {data_volume!r} is in another namespace; label the template instead"
            found.add(where, message, "FieldValueForbidden")
            return {}
        claim = text(source.get("name"))
    obj = lookup(PVCS, namespace, claim)
    if obj is None:
        found.add(where, f'{PVCS.plural} "{claim}" not found', NOT_FOUND)
    return mapping(obj, "metadata", "labels")
