"""Migrations at admission: every reason at once, and nothing of one may change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import MIGRATIONS

Obj = dict[str, Any]
RUNS: Obj = {"metadata": {"name": "m"}, "status": {"phase": "Running"}}


def migration(**spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": "move", "namespace": "default"},
        "spec": spec,
    }


def problems(context: AdmissionContext, obj: Obj, vmi: Obj | None = RUNS, old: Obj | None = None) -> list[str]:
    context = replace(context, lookup=lambda *_: vmi)
    return [str(one) for one in admit("UPDATE" if old else "CREATE", MIGRATIONS, obj, old, context).problems]


def test_a_new_one_is_marked_with_its_instance_and_held(context: AdmissionContext) -> None:
    context = replace(context, lookup=lambda *_: RUNS)
    done = admit("CREATE", MIGRATIONS, migration(vmiName="m", addedNodeSelector={"a": "b"}), None, context)
    assert done.problems == []
    assert done.obj["metadata"]["labels"] == {"kubevirt.io/vmi-name": "m"}
    assert done.obj["metadata"]["finalizers"] == ["kubevirt.io/migrationJobFinalize"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Succeeded"}, ["Cannot migrate VMI in finalized state."]),
        ({"phase": "Running", "migrationState": {"migrationUid": "u"}}, ["in-flight migration detected"]),
        (
            {
                "phase": "Running",
                "conditions": [{"type": "LiveMigratable", "status": "False", "reason": "R", "message": "a; b"}],
                "migrationState": {"migrationUid": "u"},
            },
            ["Cannot migrate VMI, Reason: R, Message: a; b", "in-flight migration detected"],
        ),
        ({"phase": "Running", "migrationState": {"migrationUid": "u", "completed": True}}, []),
    ],
)
def test_what_keeps_an_instance_is_told_at_once(context: AdmissionContext, status: Obj, said: list[str]) -> None:
    found = problems(context, migration(vmiName="m"), {"metadata": {"name": "m"}, "status": status})
    assert len(found) == len(said)
    assert all(f"spec.vmiName: {words}" in one for words, one in zip(said, found, strict=True)), found


def test_one_without_an_instance_is_refused(context: AdmissionContext) -> None:
    assert "vmiName is missing" in problems(context, migration())[0]
    assert problems(context, migration(vmiName="m"), None) == ["spec.vmiName: the VMI default/m does not exist"]


@pytest.mark.parametrize("field", ["sendTo", "receive", "priority"])
def test_what_is_not_implemented_is_refused_by_name(context: AdmissionContext, field: str) -> None:
    value = {"sendTo": {"migrationID": "i", "connectURL": "u"}, "receive": {"migrationID": "i"}, "priority": "p"}
    (found,) = problems(context, migration(vmiName="m", **{field: value[field]}))
    assert f"spec.{field}" in found


def test_a_spec_stays_as_it_is(context: AdmissionContext) -> None:
    old = migration(vmiName="m")
    assert problems(context, migration(vmiName="m"), None, old) == []
    assert "cannot be changed" in problems(context, migration(vmiName="other"), None, old)[0]
