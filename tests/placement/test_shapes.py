from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import KubeVirtConfiguration, Obj, VirtualMachineInstanceSpec
from polyvisor.drivers import registry
from polyvisor.placement import NodeShapes, place


def node(name: str, **labels: str) -> Obj:
    return {"metadata": {"name": name, "labels": {key.replace("_", "/", 1): value for key, value in labels.items()}}}


def qemu(name: str, virt_type: str = "kvm", **more: str) -> Obj:
    prefix = "hypervisor.kubevirt.io/qemu"
    found = node(name, **more)
    found["metadata"]["labels"] |= {prefix: "true", f"{prefix}.{virt_type}": "true", "kubernetes.io/hostname": name}
    return found


def spec(**more: Any) -> VirtualMachineInstanceSpec:
    domain = {"memory": {"guest": "64Mi"}, "devices": {}}
    return VirtualMachineInstanceSpec.model_validate({"domain": domain, **more})


def names(shapes: NodeShapes, wanted: VirtualMachineInstanceSpec) -> set[str]:
    return {one["metadata"]["name"] for one in shapes.nodes(wanted)}


def test_of_nodes_that_show_the_same_one_is_looked_at() -> None:
    shapes = NodeShapes()
    for number in range(100):
        shapes.put(qemu(f"a{number}", zone=str(number)))
        shapes.put(qemu(f"b{number}", "qemu"))
    assert len(list(shapes.nodes(spec()))) == 2


@pytest.mark.parametrize("label", ["kubernetes.io/arch", "feature.hypervisor.kubevirt.io/qemu.firmware.efi"])
def test_what_decides_makes_a_shape_of_its_own(label: str) -> None:
    shapes = NodeShapes()
    shapes.put(qemu("a"))
    other = qemu("b")
    other["metadata"]["labels"][label] = "arm64"
    shapes.put(other)
    assert names(shapes, spec()) == {"a", "b"}


def test_a_machine_that_names_nodes_sees_them_all() -> None:
    shapes = NodeShapes()
    for name in ("a", "b", "c"):
        shapes.put(qemu(name))
    assert names(shapes, spec(nodeSelector={"kubernetes.io/hostname": "c"})) == {"a", "b", "c"}


def test_changes_and_ends_of_nodes_are_followed() -> None:
    shapes = NodeShapes()
    shapes.put(qemu("a"))
    shapes.put(qemu("b"))
    shapes.remove("a")
    assert names(shapes, spec()) == {"b"}, "another of the shape stands for it"
    shapes.put(node("b"))
    [left] = shapes.nodes(spec())
    assert "hypervisor.kubevirt.io/qemu" not in left["metadata"]["labels"]
    shapes.remove("b")
    shapes.remove("never there")
    assert names(shapes, spec()) == set()


@pytest.mark.parametrize(
    "wanted",
    [
        spec(),
        spec(hypervisor={"driver": "xen"}),
        spec(hypervisor={"anyOf": ["ch", "lxc"]}),
        spec(nodeSelector={"kubernetes.io/hostname": "n7"}),
        spec(nodeSelector={"kubernetes.io/hostname": "elsewhere"}),
    ],
)
def test_the_decision_is_that_over_all_nodes(wanted: VirtualMachineInstanceSpec) -> None:
    nodes = [qemu(f"n{number}", "kvm" if number % 2 else "qemu") for number in range(10)]
    shapes = NodeShapes()
    for one in nodes:
        shapes.put(one)
    configuration = KubeVirtConfiguration.model_validate({})
    every = place(wanted, configuration, nodes, registry())
    few = shapes.nodes(wanted)
    assert place(wanted, configuration, few, registry(), alike=shapes.alike(wanted)) == every
