"""Which template an instance was made from, and whether its machine's template is another one by now. Pure.

The instance itself cannot be compared with the template, because admission filled it in; so it carries digests of the
template's spec and of its metadata. A change of the spec that is taken back needs no restart any more; labels and
annotations need none, but the instance is behind until it has them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from polyvisor.api import names
from polyvisor.api.volumes import passing

if TYPE_CHECKING:
    from polyvisor.api import Obj

REFERENCES = ("instancetype", "preference")


def digest(vm: Obj) -> str:
    """Return a short text that stands for the machine's template and what it refers to: ``<spec>.<metadata>``."""
    return f"{_spec_digest(vm)}.{_short(vm['spec']['template'].get('metadata') or {})}"


def _spec_digest(vm: Obj) -> str:
    spec = vm["spec"]
    parts = [_permanent(spec["template"].get("spec")), *(spec[field] for field in REFERENCES if spec.get(field))]
    return _short(parts if len(parts) > 1 else parts[0])


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _permanent(spec: Obj | None) -> Obj | None:
    """Return the spec without what comes and goes while a machine runs, and so needs no restart."""
    if not spec:
        return spec
    gone = {volume["name"] for volume in spec.get("volumes") or [] if passing(volume)}
    domain = spec.get("domain") or {}
    devices = _filtered(domain.get("devices") or {}, "disks", gone)
    return _filtered({**spec, "domain": {**domain, "devices": devices}}, "volumes", gone)


def _filtered(holder: Obj, key: str, gone: set[str]) -> Obj:
    """Return an object without some items of a list, and without a list that is empty then or was before."""
    kept = [item for item in holder.get(key) or [] if item["name"] not in gone]
    return {**{name: value for name, value in holder.items() if name != key}, **({key: kept} if kept else {})}


def changed(vm: Obj, vmi: Obj | None) -> bool:
    """Whether the instance was made from another template spec; an adopted one, of unknown making, was not."""
    made_from = _annotation(vmi, names.TEMPLATE_ANNOTATION).partition(".")[0]
    return bool(made_from) and made_from != _spec_digest(vm)


def observed_generation(vm: Obj, vmi: Obj | None) -> int:
    """Return the generation of the machine that the instance is up to."""
    present = int(vm["metadata"].get("generation") or 0)
    made_at = _annotation(vmi, names.VM_GENERATION_ANNOTATION)
    made_from = _annotation(vmi, names.TEMPLATE_ANNOTATION)
    return int(made_at) if made_from and made_from != digest(vm) and made_at.isdigit() else present


def _annotation(vmi: Obj | None, name: str) -> str:
    return str(((vmi or {}).get("metadata", {}).get("annotations") or {}).get(name) or "")
