"""Virtual machines that controllers make for users are held to the rights of those users."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.context import Access, Requester
from polyvisor.api import Obj
from polyvisor.api.resources import CLONES, POOLS, RESTORES, SNAPSHOT_CONTENTS, SNAPSHOTS, VMS, Resource
from polyvisor.api.snapshots import CONTENT_ANNOTATION, judged_content
from polyvisor.placement.permission import ANNOTATION, recorded
from tests.admission.conftest import machine

from .test_clones import clone
from .test_pools import pool
from .test_snapshots import restore

NEW = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "n"}
TOKEN = {"name": "t", "serviceAccount": {"serviceAccountName": "boss"}}


def source(*volumes: Obj) -> Obj:
    vm = machine()
    vm["metadata"] = {"name": "m", "namespace": "default", "annotations": {ANNOTATION: "beta"}}
    vm["spec"]["template"]["spec"]["volumes"] = list(volumes)
    return vm


def asked(context: AdmissionContext, vm: Obj, may: Callable[[Access], bool]) -> AdmissionContext:
    """A user of a cluster with that machine and a snapshot of it."""
    content = {"spec": {"source": {"virtualMachine": vm}}}
    there: dict[Resource, dict[str, Obj]] = {
        VMS: {"m": vm},
        SNAPSHOTS: {"s": {"metadata": {"uid": "u"}}},
        SNAPSHOT_CONTENTS: {"vmsnapshot-content-u": content},
    }
    requester = Requester("joe", ours=False, may=may)
    lookup = lambda resource, namespace, name: there.get(resource, {}).get(name)  # noqa: E731
    return AdmissionContext(context.config, context.drivers, lookup, requester, cluster=True)


def nothing(_: Access) -> bool:
    return False


MAKERS: list[tuple[Resource, Callable[..., Obj]]] = [
    (
        RESTORES,
        lambda **spec: restore(target={"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "n"}, **spec),
    ),
    (CLONES, clone),
]


@pytest.mark.parametrize(("resource", "maker"), MAKERS)
def test_a_service_account_takes_the_right_to_use_it(
    context: AdmissionContext, resource: Resource, maker: Callable[..., Obj]
) -> None:
    there = asked(context, source(TOKEN), nothing)
    (problem,) = admit("CREATE", resource, maker(), None, there).problems
    assert "service account boss" in problem.message
    allowed = asked(context, source(TOKEN), lambda _: True)
    assert admit("CREATE", resource, maker(), None, allowed).problems == []


@pytest.mark.parametrize(("resource", "maker"), MAKERS)
def test_a_patch_brings_in_nothing_that_its_writer_may_not(
    context: AdmissionContext, resource: Resource, maker: Callable[..., Obj]
) -> None:
    disk = {"name": "h", "hostDisk": {"path": "/etc/shadow", "type": "Disk"}}
    patch = json.dumps({"op": "add", "path": "/spec/template/spec/volumes/0", "value": disk})
    there = asked(context, source(), nothing)
    (problem,) = admit("CREATE", resource, maker(patches=[patch]), None, there).problems
    assert "HostDisk is not enabled" in problem.message


def test_a_patch_counts_for_a_target_that_is_there_too(context: AdmissionContext) -> None:
    """It may be deleted before the restore comes to it, and is made anew with the patch then."""
    disk = {"name": "h", "hostDisk": {"path": "/etc/shadow", "type": "Disk"}}
    patch = json.dumps({"op": "add", "path": "/spec/template/spec/volumes/0", "value": disk})
    there = asked(context, source(), nothing)
    (problem,) = admit("CREATE", RESTORES, restore(patches=[patch]), None, there).problems
    assert "HostDisk is not enabled" in problem.message


@pytest.mark.parametrize(
    ("resource", "maker"),
    [
        MAKERS[0],
        (
            CLONES,
            lambda **spec: clone(
                source={**NEW, "apiGroup": SNAPSHOTS.group, "kind": SNAPSHOTS.kind, "name": "s"}, **spec
            ),
        ),
    ],
)
def test_what_was_judged_is_recorded_and_nobody_changes_it(
    context: AdmissionContext, resource: Resource, maker: Callable[..., Obj]
) -> None:
    """A snapshot of the same name may be made of another machine before the controller comes to it."""
    there = asked(context, source(), nothing)
    forged: Any = maker()
    forged["metadata"]["annotations"] = {CONTENT_ANNOTATION: "forged"}
    written = admit("CREATE", resource, forged, None, there).obj
    assert judged_content(written) == "vmsnapshot-content-u"
    changed = json.loads(json.dumps(written))
    changed["metadata"]["annotations"] = {CONTENT_ANNOTATION: "forged"}
    assert judged_content(admit("UPDATE", resource, changed, written, there).obj) == "vmsnapshot-content-u"


@pytest.mark.parametrize(("resource", "maker"), MAKERS)
def test_weaker_drivers_are_those_of_the_writer_not_of_the_source(
    context: AdmissionContext, resource: Resource, maker: Callable[..., Obj]
) -> None:
    found = admit("CREATE", resource, maker(), None, asked(context, source(), nothing))
    assert found.problems == []
    assert recorded(found.obj) == []


@pytest.mark.parametrize(("resource", "maker"), MAKERS)
def test_what_is_not_there_cannot_be_judged(
    context: AdmissionContext, resource: Resource, maker: Callable[..., Obj]
) -> None:
    there = asked(context, source(), nothing)
    empty = AdmissionContext(there.config, there.drivers, lambda *_: None, there.requester, cluster=True)
    (problem,) = admit("CREATE", resource, maker(), None, empty).problems
    assert problem.reason == "FieldValueNotFound"


def test_a_pools_template_is_held_to_the_rights_of_its_writer(context: AdmissionContext) -> None:
    obj: Any = pool()
    obj["spec"]["virtualMachineTemplate"]["spec"]["template"]["spec"]["volumes"].append(TOKEN)
    obj["spec"]["virtualMachineTemplate"]["metadata"]["annotations"] = {ANNOTATION: "beta"}
    there = asked(context, source(), nothing)
    fields = [one.field for one in admit("CREATE", POOLS, obj, None, there).problems]
    prefix = "spec.virtualMachineTemplate.spec.template.spec.volumes"
    assert [one for one in fields if one.startswith(prefix) and one.endswith("serviceAccountName")]


def test_users_write_no_content(context: AdmissionContext) -> None:
    body = {
        "apiVersion": SNAPSHOT_CONTENTS.api_version,
        "kind": SNAPSHOT_CONTENTS.kind,
        "metadata": {"name": "forged", "namespace": "default"},
        "spec": {"source": {"virtualMachine": {"metadata": {"name": "m"}, "spec": source()["spec"]}}},
    }
    (problem,) = admit("CREATE", SNAPSHOT_CONTENTS, body, None, asked(context, source(), lambda _: True)).problems
    assert "by Polyvisor's own components alone" in problem.message
