"""What admission does for a VirtualMachineClone: a name for its target, and all that can be known to be wrong now."""

from __future__ import annotations

import copy
import re
import secrets
from typing import Any

from polyvisor.admission import made
from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.snapshots import named, patches
from polyvisor.admission.values import Findings, mapping, text, texts
from polyvisor.api import Obj, VirtualMachineClone, check
from polyvisor.api.clone_patches import patches_of
from polyvisor.api.metadata import check_metadata
from polyvisor.api.patches import patched
from polyvisor.api.resources import GROUP, SNAPSHOT_CONTENTS, SNAPSHOTS, VMS
from polyvisor.api.snapshots import content_name, judge_content, judged_content
from polyvisor.placement.permission import record, recorded

MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
SOURCES = ((GROUP, VMS.kind), (SNAPSHOTS.group, SNAPSHOTS.kind))


def admit_clone(clone: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Fill in and check a VirtualMachineClone."""
    if old is not None:
        found.problems += check_metadata(clone.get("metadata"))
        if clone.get("spec") != old.get("spec"):
            found.add("spec", "cannot be changed; delete the clone and create another", "FieldValueForbidden")
        record(clone, recorded(old))
        judge_content(clone, judged_content(old))
        return
    spec = mapping(clone, "spec")
    source = mapping(spec, "source")
    if spec and spec.get("target") is None and text(source.get("name")):
        name = f"clone-{text(source['name'])[:48].rstrip('-.')}-{secrets.token_hex(3)}"
        spec["target"] = {"apiGroup": GROUP, "kind": VMS.kind, "name": name}
    before = len(found.problems)
    found.problems += check(VirtualMachineClone, clone)
    target = mapping(spec, "target")
    named(source, "spec.source", SOURCES, found)
    named(target, "spec.target", ((GROUP, VMS.kind),), found)
    patches(spec.get("patches"), found)
    for path, holder in (("spec", spec), ("spec.template", mapping(spec, "template"))):
        for field in ("labelFilters", "annotationFilters"):
            _filters(holder.get(field), f"{path}.{field}", found)
    for card, address in mapping(spec, "newMacAddresses").items():
        if not MAC.fullmatch(text(address)):
            message = f"interface {card[:40]} has malformed MAC address ({text(address)[:40]})"
            found.add(f"spec.newMacAddresses.{card[:40]}", f"{message}; six bytes, such as 02:00:00:00:00:01")
    namespace, name = text(mapping(clone, "metadata").get("namespace")), text(target.get("name"))
    if source.get("kind") == VMS.kind and name and name == source.get("name"):
        message = "Target name cannot be equal to source name when both are VirtualMachines"
        found.add("spec.target.name", message)
    elif name and context.lookup(VMS, namespace, name) is not None:
        message = f"VirtualMachine {namespace}/{name} exists already; name another target"
        found.add("spec.target.name", message, "FieldValueDuplicate")
    if made.asks(context) and len(found.problems) == before:
        record(clone, [])
        judge_content(clone, "")
        _judge(clone, source, namespace, context, found)


def _filters(given: Any, path: str, found: Findings) -> None:
    for index, one in enumerate(texts(given)):
        where = f"{path}[{index}]"
        if one in ("", "!"):
            found.add(where, f"found {one!r}; a name, a name's beginning with *, or ! before either is accepted")
        elif "!" in one[1:]:
            found.add(where, f"found {one[:80]!r}; ! can be only used at the beginning of the filter")
        elif "*" in one[:-1]:
            found.add(where, f"found {one[:80]!r}; * can be only at the end of the filter")


def _judge(clone: Obj, source: Obj, namespace: str, context: AdmissionContext, found: Findings) -> None:
    """Hold the copy to the rights of who wants it."""
    name = text(source.get("name"))
    if source.get("kind") == VMS.kind:
        vm = context.lookup(VMS, namespace, name)
    else:
        snapshot = context.lookup(SNAPSHOTS, namespace, name)
        content = context.lookup(SNAPSHOT_CONTENTS, namespace, content_name(snapshot)) if snapshot else None
        vm = mapping(content, "spec", "source", "virtualMachine") or None
        if snapshot and vm is not None:
            judge_content(clone, content_name(snapshot))
    if vm is None:
        message = f"{source.get('kind')} {namespace}/{name} does not exist; create the clone when it does"
        found.add("spec.source.name", message, "FieldValueNotFound")
        return
    kept = {"metadata": {**mapping(vm, "metadata"), "namespace": namespace}, "spec": mapping(vm, "spec")}
    try:
        wanted = patched(copy.deepcopy(kept), patches_of(mapping(clone, "spec"), kept))
    except ValueError as error:
        found.add("spec.patches", str(error))
        return
    made.judge(clone, wanted, None, context, found, "spec.source")
