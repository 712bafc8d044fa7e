"""What admission does for snapshots and restores: what they name, and that it is never changed.

Whether what is named exists is not asked here, because a snapshot may be written before its machine; the controllers
say it in conditions. A patch of a restored machine is held to the fields that KubeVirt lets be patched.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from polyvisor.admission import made
from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.values import Findings, items, mapping, text, texts
from polyvisor.api import Obj, VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent, check
from polyvisor.api.base import Model
from polyvisor.api.durations import seconds_of
from polyvisor.api.metadata import check_metadata, dns_subdomain_error
from polyvisor.api.patches import patched
from polyvisor.api.resources import GROUP, SNAPSHOT_CONTENTS, SNAPSHOTS, VMS
from polyvisor.api.snapshots import content_name, judge_content, judged_content
from polyvisor.placement.permission import record, recorded

PATCHED = ("/spec/", "/metadata/labels/", "/metadata/annotations/")
OPERATIONS = ("add", "remove", "replace", "test", "copy", "move")


def admit_snapshot(snapshot: Obj, old: Obj | None, _: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachineSnapshot."""
    if not _new(VirtualMachineSnapshot, snapshot, old, found):
        return
    spec = mapping(snapshot, "spec")
    named(mapping(spec, "source"), "spec.source", ((GROUP, VMS.kind),), found)
    if isinstance(deadline := spec.get("failureDeadline"), str):
        try:
            seconds_of(deadline)
        except ValueError as error:
            found.add("spec.failureDeadline", str(error))


def admit_content(content: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachineSnapshotContent: machines are made from it, so nobody but the controller writes one."""
    new = _new(VirtualMachineSnapshotContent, content, old, found)
    if new and made.asks(context):
        message = "written by Polyvisor's own components alone; create a VirtualMachineSnapshot"
        found.add("kind", message, "FieldValueForbidden")


def admit_restore(restore: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachineRestore."""
    if not _new(VirtualMachineRestore, restore, old, found):
        if old is not None:
            record(restore, recorded(old))
            judge_content(restore, judged_content(old))
        return
    if made.asks(context):
        record(restore, [])
        judge_content(restore, "")
        _judge(restore, context, found)
    spec = mapping(restore, "spec")
    named(mapping(spec, "target"), "spec.target", ((GROUP, VMS.kind),), found)
    patches(spec.get("patches"), found)
    for path, override in items(spec.get("volumeRestoreOverrides"), "spec.volumeRestoreOverrides"):
        if not text(override.get("volumeName")):
            found.required(f"{path}.volumeName", "required; the name of the volume")
        if not any(override.get(field) for field in ("restoreName", "labels", "annotations")):
            found.required(path, "at least one of restoreName, labels and annotations is required")
        name = text(override.get("restoreName"))
        if name and (error := dns_subdomain_error(name)):
            found.add(f"{path}.restoreName", error)


def _judge(restore: Obj, context: AdmissionContext, found: Findings) -> None:
    """Hold the machine that is made to the rights of who wants it made; one that is there keeps its own.

    Patches count for a machine that is there, too: it may be gone by the time, and is made anew with them then.
    """
    spec, namespace = mapping(restore, "spec"), text(mapping(restore, "metadata").get("namespace"))
    target = context.lookup(VMS, namespace, text(mapping(spec, "target").get("name")))
    snapshot = context.lookup(SNAPSHOTS, namespace, text(spec.get("virtualMachineSnapshotName")))
    content = context.lookup(SNAPSHOT_CONTENTS, namespace, content_name(snapshot)) if snapshot else None
    if content is None:
        name = text(spec.get("virtualMachineSnapshotName"))[:80]
        message = f"there is no snapshot {name!r} that is complete; create the restore when there is"
        found.add("spec.virtualMachineSnapshotName", message, "FieldValueNotFound")
        return
    source = copy.deepcopy(mapping(content, "spec", "source", "virtualMachine"))
    vm = {"metadata": {**mapping(source, "metadata"), "namespace": namespace}, "spec": mapping(source, "spec")}
    try:
        vm = patched(vm, texts(spec.get("patches")))
    except ValueError as error:
        found.add("spec.patches", str(error))
        return
    judge_content(restore, content_name(snapshot or {}))
    made.judge(restore, vm, target, context, found, "spec.target")


def _new(model: type[Model], obj: Obj, old: Obj | None, found: Findings) -> bool:
    """Check an object whose spec never changes; return whether its rules are to be asked."""
    if old is not None:
        found.problems += check_metadata(obj.get("metadata"))
        if obj.get("spec") != old.get("spec"):
            message = f"spec in immutable after creation; delete the {obj.get('kind')} and create another"
            found.add("spec", message, "FieldValueForbidden")
        return False
    found.problems += check(model, obj)
    return True


def named(reference: Obj, path: str, accepted: tuple[tuple[str, str], ...], found: Findings) -> None:
    """Check a reference to an object of one of some kinds, each given by its group and name."""
    if not reference:
        return
    group, kind = reference.get("apiGroup"), reference.get("kind")
    kinds = " or ".join(f"{kind} of {group}" for group, kind in accepted)
    if group is None:
        found.add(f"{path}.apiGroup", f"missing apiGroup; write {accepted[0][0]}", "FieldValueNotFound")
    elif group not in {one for one, _ in accepted}:
        found.add(f"{path}.apiGroup", f"invalid apiGroup {text(group)[:80]!r}; accepted: {kinds}")
    elif (group, kind) not in accepted:
        found.add(f"{path}.kind", f"invalid kind {text(kind)[:80]!r}; accepted: {kinds}")
    name = text(reference.get("name"))
    if name and (error := dns_subdomain_error(name)):
        found.add(f"{path}.name", error)


def patches(given: Any, found: Findings, path: str = "spec.patches") -> None:
    """Check JSON patches of a machine, each given as a string."""
    for index, one in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(one, str):
            continue
        where, example = f"{path}[{index}]", '{"op": "replace", "path": "/spec/...", "value": ...}'
        try:
            patch = json.loads(one)
        except (ValueError, RecursionError):
            found.add(where, f"found {one[:80]!r}; one operation of a JSON patch is wanted: {example}")
            continue
        if not isinstance(patch, dict) or patch.get("op") not in OPERATIONS or not isinstance(patch.get("path"), str):
            found.add(where, f"found {one[:80]!r}; one operation of a JSON patch is wanted: {example}")
            continue
        places = [patch["path"], *([text(patch.get("from"))] if patch["op"] in ("copy", "move") else [])]
        for place in places:
            if not place.startswith(PATCHED):
                found.add(
                    where, f"patching is valid only for elements under {', '.join(PATCHED)}; found {place[:80]!r}"
                )
