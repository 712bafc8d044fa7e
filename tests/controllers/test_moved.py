"""The claims that a move left are deleted when the machine has run where it went, and not before."""

from __future__ import annotations

import json
from typing import Any

from polyvisor.api import Obj
from polyvisor.controllers.moved import settle


class Client:
    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []
        self.patched: list[Obj] = []
        self.others: list[Obj] = []

    async def list(self, resource: Any, namespace: str) -> Any:
        return self.others

    async def delete(self, resource: Any, name: str, namespace: str) -> None:
        self.deleted.append((resource.kind, name))

    async def patch(self, resource: Any, name: str, body: Obj, namespace: str) -> Obj:
        self.patched.append(body)
        return {"patched": True}


class Recorder:
    def event(self, *_: object) -> None:
        """Nothing is recorded."""


def machine(policy: str, *claims: str, used: str = "new") -> Obj:
    said = {"from": "a", "to": "b", "claims": list(claims), "policy": policy}
    metadata = {"name": "web", "uid": "1", "namespace": "default", "resourceVersion": "7"}
    annotations = {"hypervisor.kubevirt.io/moved": json.dumps(said)}
    spec = {"template": {"spec": {"volumes": [{"name": "d", "dataVolume": {"name": used}}]}}}
    return {"metadata": {**metadata, "annotations": annotations}, "spec": spec}


def instance(phase: str = "Running", used: str = "new") -> Obj:
    spec = {"volumes": [{"name": "d", "dataVolume": {"name": used}}]}
    return {"metadata": {"name": "web"}, "spec": spec, "status": {"phase": phase}}


async def settled(vm: Obj, vmi: Obj | None, *others: Obj) -> Client:
    client = Client()
    client.others = [vm, *others]
    await settle(client, Recorder(), vm, vmi)  # type: ignore[arg-type]
    return client


async def test_they_are_deleted_when_the_machine_runs() -> None:
    client = await settled(machine("Delete", "old"), instance())
    assert client.deleted == [("DataVolume", "old"), ("PersistentVolumeClaim", "old")]
    change = {"annotations": {"hypervisor.kubevirt.io/moved": None}, "resourceVersion": "7"}
    assert client.patched == [{"metadata": change}]


async def test_they_stay_until_then_and_where_the_policy_says_so() -> None:
    assert not (await settled(machine("Delete", "old"), instance("Scheduled"))).deleted
    assert not (await settled(machine("Delete", "old"), None)).deleted
    assert not (await settled(machine("Retain", "old"), instance())).deleted


async def test_a_claim_that_the_machine_has_again_is_never_deleted() -> None:
    assert not (await settled(machine("Delete", "old", used="old"), instance())).deleted
    assert not (await settled(machine("Delete", "old"), instance(used="old"))).deleted


async def test_a_claim_that_another_machine_uses_is_never_deleted() -> None:
    other = machine("Retain", used="old")
    other["metadata"] |= {"name": "other", "uid": "2"}
    client = await settled(machine("Delete", "old", "free"), instance(), other)
    assert client.deleted == [("DataVolume", "free"), ("PersistentVolumeClaim", "free")]
    assert len(client.patched) == 1


async def test_an_annotation_of_a_user_s_that_is_not_understood_deletes_nothing() -> None:
    vm = machine("Delete", "old")
    for text in ("[", "[]", '{"policy":"Delete","claims":"old"}', '{"policy":"Delete","claims":[1]}'):
        vm["metadata"]["annotations"]["hypervisor.kubevirt.io/moved"] = text
        assert not (await settled(vm, instance())).deleted
