"""The machines of the examples, and domains with what only Polyvisor's own have: they convert back into equal ones."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
import yaml

from polyvisor.admission import AdmissionContext, admit
from polyvisor.adoption import Mapping, NetworkMapping, PoolMapping, convert
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import CardSource, render
from polyvisor.drivers import registry
from polyvisor.testing.machines import context_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
UID = "0f0e0d0c-0000-4000-8000-000000000001"
MAPPING = Mapping(
    storage=(PoolMapping("fast", "images", "/nowhere"),),
    networks=(NetworkMapping("pod", "tap0"), NetworkMapping("pod", "br0")),
    kernel_image="localhost/polyvisor/demo:1",
)


def machines() -> dict[str, Obj]:
    found = {}
    for path in sorted(EXAMPLES.glob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text()):
            template = obj.get("spec", {}).get("template")
            if template and "instancetype" not in obj["spec"]:
                found[f"{path.stem} {obj['metadata']['name']}"] = template["spec"]
    return found


MACHINES = machines()


def test_there_are_examples() -> None:
    assert len(MACHINES) >= 3


@pytest.mark.parametrize("id_", MACHINES)
def test_example_converts_back_into_an_equal_machine(id_: str) -> None:
    metadata = {"name": "m", "namespace": "default", "uid": UID}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata}
    admitted = admit("CREATE", VMIS, {**obj, "spec": MACHINES[id_]}, None, AdmissionContext({}, registry()))
    assert admitted.problems == []
    choice = admitted.obj["spec"].get("hypervisor") or {}
    driver = registry().get(choice.get("driver") or "qemu")
    assert driver
    context = context_for(driver, admitted.obj, Path("/nowhere"))
    assert context
    card = CardSource("tap0", "br0", "02:00:00:00:00:01", 1500, address=IPv4Interface("10.0.2.2/24"))
    names = [one["name"] for one in admitted.obj["spec"]["domain"]["devices"].get("interfaces") or []]
    context = replace(context, cards=dict.fromkeys(names, card))
    vmi = VirtualMachineInstance.model_validate(admitted.obj)
    xml = render(vmi, driver, context)
    found = convert(xml, MAPPING)
    assert found.problems == ()
    assert found.driver == driver.name
    spec = found.machine["spec"]["template"]["spec"]
    again = admit("CREATE", VMIS, {**obj, "spec": spec}, None, AdmissionContext({}, registry()))
    assert again.problems == []
    assert render(VirtualMachineInstance.model_validate(again.obj), driver, context) == xml
