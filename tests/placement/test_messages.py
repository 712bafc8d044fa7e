"""Why no node takes a machine: the requirement that excludes them, the most specific first, with numbers."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import KubeVirtConfiguration, VirtualMachineInstanceSpec
from polyvisor.drivers import registry
from polyvisor.placement import NodeShapes, place

QEMU = "hypervisor.kubevirt.io/qemu"
TYPE = "machine-type.node.kubevirt.io/"
TCG = {QEMU: "true", f"{QEMU}.qemu": "true", f"{TYPE}q35": "true", f"{TYPE}pc-q35-7.2": "true"}
KVM = {QEMU: "true", f"{QEMU}.kvm": "true"}
EMULATION = KubeVirtConfiguration.model_validate({"developerConfiguration": {"useEmulation": True}})


def spec(domain: dict[str, Any] | None = None, **more: Any) -> VirtualMachineInstanceSpec:
    body = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}, **(domain or {})}, **more}
    return VirtualMachineInstanceSpec.model_validate(body)


def placed(wanted: VirtualMachineInstanceSpec, *nodes: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
    """Return QEMU's reasons (field, message), and the whole in one line."""
    shapes = NodeShapes()
    for number, labels in enumerate(nodes):
        shapes.put({"metadata": {"name": f"n{number}", "labels": labels}})
    found = place(wanted, EMULATION, shapes.nodes(wanted), registry(), alike=shapes.alike(wanted))
    (qemu,) = [one for one in found.candidates if one.driver == "qemu"]
    return [(reason.field, reason.message) for reason in qemu.reasons], found.explain()


def test_a_label_that_no_node_has_is_what_is_told_and_no_driver_is_blamed() -> None:
    reasons, line = placed(spec(nodeSelector={"rack": "r9"}), TCG, TCG, KVM)
    assert reasons == [("spec.nodeSelector[rack]", "no node has the label rack=r9 (excludes all 3 nodes)")]
    assert line.count("rack=r9") == 1, "it is told once, not for each driver"
    assert "advertises" not in line


def test_of_several_labels_those_that_exclude_all_nodes_are_told() -> None:
    wanted = spec(nodeSelector={"disk": "ssd", "rack": "r9"})
    reasons, _ = placed(wanted, {**TCG, "disk": "ssd"}, TCG)
    assert reasons == [("spec.nodeSelector[rack]", "no node has the label rack=r9 (excludes all 2 nodes)")]
    reasons, _ = placed(wanted, {**TCG, "disk": "ssd"}, {**TCG, "rack": "r9"}, {**TCG, "rack": "r9"})
    assert reasons == [
        (
            "spec.nodeSelector[disk]",
            "the label disk=ssd excludes 2 of 3 nodes, and no node has all that is needed",
        ),
        (
            "spec.nodeSelector[rack]",
            "the label rack=r9 excludes 1 of 3 nodes, and no node has all that is needed",
        ),
    ]


def test_nodes_without_the_driver_are_counted() -> None:
    reasons, _ = placed(spec(hypervisor={"driver": "qemu"}), {}, {}, {"hypervisor.kubevirt.io/xen": "true"})
    assert reasons == [("spec.hypervisor", f"no suitable node advertises QEMU (label {QEMU}) (excludes all 3 nodes)")]


def test_fields_that_need_a_virt_type_are_named() -> None:
    domain = {"features": {"hyperv": {"relaxed": {}, "vapic": {}}}, "clock": {"timer": {"hyperv": {}}}}
    reasons, line = placed(spec(domain), TCG)
    assert [field for field, _ in reasons] == [
        "spec.domain.features.hyperv.relaxed",
        "spec.domain.features.hyperv.vapic",
        "spec.domain.clock.timer.hyperv",
    ]
    assert all(f"needs QEMU as kvm, which no node offers (label {QEMU}.kvm)" in message for _, message in reasons)
    fields = "spec.domain.features.hyperv.relaxed, spec.domain.features.hyperv.vapic"
    words = "the enlightenments are given by KVM: needs QEMU as kvm"
    assert line.startswith(f"no driver can run this machine: qemu: {fields}: {words}")
    assert "10 more drivers" in line
    assert len(line) < 900


def test_what_the_other_drivers_lack_is_not_told_of_a_machine_that_chose_one() -> None:
    domain = {"features": {"hyperv": {"relaxed": {}}}}
    _, line = placed(spec(domain, hypervisor={"driver": "qemu"}), TCG)
    assert "more drivers" not in line
    assert "bhyve" not in line


@pytest.mark.parametrize("kind", ["q35", "pc"])
def test_a_machine_type_that_is_always_there_asks_for_no_label(kind: str) -> None:
    assert placed(spec({"machine": {"type": kind}}), {**KVM})[0] == []


def test_a_machine_type_becomes_a_label_or_the_reason_with_what_nodes_have() -> None:
    wanted = spec({"machine": {"type": "pc-q35-rhel7.6.0"}})
    reasons, _ = placed(wanted, TCG, TCG)
    ((field, message),) = reasons
    assert field == "spec.domain.machine.type"
    assert f"label {TYPE}pc-q35-rhel7.6.0" in message
    assert "the nodes have pc-q35-7.2, q35 (excludes all 2 nodes)" in message
    having = {**TCG, f"{TYPE}pc-q35-rhel7.6.0": "true"}
    found = place(wanted, EMULATION, [{"metadata": {"name": "n", "labels": having}}], registry())
    assert found.labels[f"{TYPE}pc-q35-rhel7.6.0"] == ("true",)


def test_nodes_that_differ_in_machine_types_are_not_taken_for_one() -> None:
    wanted = spec({"machine": {"type": "pc-q35-9.0"}})
    assert placed(wanted, TCG, {**TCG, f"{TYPE}pc-q35-9.0": "true"})[0] == []


def test_where_no_node_has_everything_each_part_is_counted() -> None:
    efi = "feature.hypervisor.kubevirt.io/qemu.firmware.efi"
    domain = {"firmware": {"bootloader": {"efi": {"secureBoot": False}}}, "machine": {"type": "pc-q35-7.2"}}
    reasons, _ = placed(spec(domain), TCG, {**KVM, efi: "true"})
    assert reasons == [
        (
            "spec.domain.machine.type",
            "Machine type of one version for QEMU excludes 1 of 2 nodes, and no node has all that is needed",
        ),
        (
            "spec.domain.firmware.bootloader.efi",
            "UEFI for QEMU excludes 1 of 2 nodes, and no node has all that is needed",
        ),
    ]
