"""Instances of machines whose domain was there before them: how they begin, and what they say when they are let go."""

from __future__ import annotations

from typing import Any

from polyvisor.api import adopted
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION, UNMANAGE_ANNOTATION
from polyvisor.api.resources import VMS
from polyvisor.controllers.adopted import let_go
from tests.controllers.conftest import World

Obj = dict[str, Any]
UUID = "5f3b9d1e-8e1c-4a55-9df0-9a4a5e1d0c11"
MARKS = (ADOPT_ANNOTATION, adopted.ADOPTED_SPEC_ANNOTATION)


def marks(vmi: Obj) -> Obj:
    return {name: value for name, value in vmi["metadata"]["annotations"].items() if name in MARKS}


async def test_a_template_as_it_was_adopted_is_told_from_one_that_was_changed(world: World) -> None:
    made = await world.create_vm("m", runStrategy="Halted")
    wanted = {ADOPT_ANNOTATION: UUID, adopted.ADOPTED_SPEC_ANNOTATION: adopted.digest(made["spec"]["template"])}
    await world.change(VMS, "m", spec={"runStrategy": "Always", "template": {"metadata": {"annotations": wanted}}})
    first = await world.vmi("m", lambda vmi: vmi)
    assert marks(first) == wanted
    memory = {"spec": {"domain": {"memory": {"guest": "128Mi"}}}}
    await world.change(VMS, "m", spec={"runStrategy": "Halted", "template": memory})
    await world.gone(world.vmis, "m")
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    second = await world.vmi("m", lambda vmi: vmi["metadata"]["uid"] != first["metadata"]["uid"])
    assert marks(second) == {ADOPT_ANNOTATION: UUID}


def test_a_deleted_machine_that_retains_its_domain_says_so_to_its_instance() -> None:
    vm = {"metadata": {"annotations": {adopted.DELETION_POLICY_ANNOTATION: "Retain"}}}
    vmi = {"metadata": {"annotations": {"a": "b"}}, "spec": {"hypervisor": {"endpoint": "rack4"}}}
    told = let_go(vm, vmi)
    assert told is not None
    assert told["metadata"]["annotations"] == {"a": "b", UNMANAGE_ANNOTATION: "true"}
    assert let_go(vm, told) is None
    assert let_go({"metadata": {}}, vmi) is None
    assert let_go(vm, {**vmi, "spec": {}}) is None
