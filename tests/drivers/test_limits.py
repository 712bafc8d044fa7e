"""Numbers that a driver does not take: where they are found, who is refused and who would do."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.explanation import Fit, explain
from polyvisor.api import KubeVirtConfiguration, VirtualMachineInstanceSpec
from polyvisor.api.resources import VMIS
from polyvisor.domain import DomainContext, render
from polyvisor.drivers import registry
from polyvisor.drivers.verdict import unsupported
from polyvisor.placement import place
from tests.drivers.kit import bench, machine

Obj = dict[str, Any]
CONTEXT = AdmissionContext({}, registry())


def vmi(domain: Obj, volumes: list[Obj] | None = None, driver: str = "") -> Obj:
    devices = {"autoattachPodInterface": False, **domain.pop("devices", {})}
    spec: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": devices, **domain}, "volumes": volumes or []}
    if driver:
        spec["hypervisor"] = {"driver": driver}
    metadata = {"name": "many", "namespace": "default"}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}


def disks(count: int, driver: str = "", bus: str = "") -> Obj:
    volumes = [{"name": f"d{n}", "hostDisk": {"path": f"/d/{n}.img", "type": "Disk"}} for n in range(count)]
    listed = [{"name": f"d{n}", "disk": {"bus": bus} if bus else {}} for n in range(count)]
    return vmi({"devices": {"disks": listed}}, volumes, driver)


def refusals(obj: Obj, limit: str) -> dict[str, str]:
    found = admit("CREATE", VMIS, obj, None, CONTEXT).problems
    return {problem.field: problem.message for problem in found if problem.feature == limit}


def test_cpus_beyond_the_limit_are_refused_with_the_limit_and_who_would_do() -> None:
    (message,) = refusals(vmi({"cpu": {"sockets": 3, "cores": 100}}, driver="qemu"), "limit.cpus").values()
    assert message.startswith("300 CPUs with QEMU: 255 at most: with more the guest needs an IOMMU")
    assert "qemu_validate.c" in message
    assert refusals(vmi({"cpu": {"cores": 255}}, driver="qemu"), "limit.cpus") == {}
    assert list(refusals(vmi({"cpu": {"cores": 33}}, driver="vbox"), "limit.cpus")) == ["spec.domain.cpu.cores"]
    asked = vmi({"resources": {"limits": {"cpu": "300"}}}, driver="qemu")
    assert list(refusals(asked, "limit.cpus")) == ["spec.domain.resources.limits[cpu]"]
    later = vmi({"cpu": {"sockets": 2, "maxSockets": 256}}, driver="qemu")
    assert list(refusals(later, "limit.cpus")) == ["spec.domain.cpu.maxSockets"]


def test_the_disks_beyond_the_limit_are_named() -> None:
    found = refusals(disks(20, "esx"), "limit.disks")
    assert list(found) == ["spec.domain.devices.disks[19]"]
    assert "20 disks with VMware ESX: 19 at most: 15 on the SCSI controller and 4 on IDE" in next(iter(found.values()))
    assert refusals(disks(19, "esx"), "limit.disks") == {}
    assert list(refusals(disks(31, "vbox"), "limit.disks.sata")) == ["spec.domain.devices.disks[30]"]
    assert refusals(disks(31, "vbox", "scsi"), "limit.disks.sata") == {}, "these are not on SATA"


def test_a_machine_that_leaves_the_choice_open_goes_where_its_number_is_taken() -> None:
    obj = disks(60)
    assert admit("CREATE", VMIS, obj, None, CONTEXT).problems == []
    verdicts = {one.driver.name: one for one in explain(VMIS, obj, CONTEXT).drivers}
    assert verdicts["qemu"].fit is Fit.RUNS
    for name, limit, most in (
        ("vbox", "limit.disks.sata", 30),
        ("esx", "limit.disks", 19),
        ("vmware", "limit.disks", 11),
    ):
        assert verdicts[name].fit is Fit.UNSUPPORTED
        (lack,) = [lack for lack in verdicts[name].lacks if lack.feature.id == limit]
        assert lack.fields == tuple(f"spec.domain.devices.disks[{number}]" for number in range(most, 60))


def test_placement_passes_over_a_driver_for_its_limit() -> None:
    spec = VirtualMachineInstanceSpec.model_validate(vmi({"cpu": {"cores": 300}})["spec"])
    placed = place(spec, KubeVirtConfiguration(), [], registry())
    (qemu,) = [one for one in placed.candidates if one.driver == "qemu"]
    assert [(reason.field, reason.feature) for reason in qemu.reasons] == [("spec.domain.cpu.cores", "limit.cpus")]
    assert "255 at most" in qemu.reasons[0].message


def test_what_would_help_is_a_number_less() -> None:
    obj = disks(21, "esx")
    (verdict,) = [one for one in explain(VMIS, obj, CONTEXT).drivers if one.driver.name == "esx"]
    assert verdict.changes is not None
    assert [change.field for change in verdict.changes if ".disks[" in change.field] == [
        "spec.domain.devices.disks[19]",
        "spec.domain.devices.disks[20]",
    ]


def test_libvirt_itself_refuses_more_cpus_for_qemu_or_adds_what_they_need() -> None:
    """From 10.10.0 on it adds an IOMMU by itself (its NEWS); a limit holds for every release that nodes may have."""
    qemu = registry().get("qemu")
    assert qemu is not None
    most = qemu.limits["limit.cpus"].most
    many = machine(qemu, {"cpu": {"cores": most + 1}})
    assert "limit.cpus" in {feature.id for feature, _, _ in unsupported(qemu, many.spec)}
    with bench(qemu, many) as one:
        launcher = one.launch()
        answer = launcher.ask("start", xml=render(many, qemu, DomainContext("qemu")))
        libvirt = tuple(map(int, launcher.greeting["hello"]["libvirtVersion"].split(".")))
        if libvirt >= (10, 10, 0):
            assert "<iommu " in launcher.result("describe")["xml"]
            return
    assert f"more than {most} vCPUs" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("bus", "most"), [("", 20), ("virtio", 20), ("sata", 20), ("scsi", 36), ("usb", 36)], ids=lambda v: str(v) or "open"
)
def test_a_serial_number_that_would_be_cut_is_refused_with_the_limit(bus: str, most: int) -> None:
    for length, fits in ((most, True), (most + 1, False)):
        obj = disks(2, "qemu", bus)
        obj["spec"]["domain"]["devices"]["disks"][1]["serial"] = "x" * length
        found = refusals(obj, f"limit.serial.{bus or 'virtio'}")
        assert (found == {}) is fits
        if not fits:
            (message,) = found.values()
            assert list(found) == ["spec.domain.devices.disks[1].serial"]
            assert f"{length} characters in the serial number" in message
            assert f"{most} at most" in message


def test_every_serial_number_that_is_too_long_is_named() -> None:
    obj = disks(3, "qemu", "virtio")
    for number, length in ((0, 36), (1, 20), (2, 21)):
        obj["spec"]["domain"]["devices"]["disks"][number]["serial"] = "x" * length
    found = refusals(obj, "limit.serial.virtio")
    assert "spec.domain.devices.disks[0].serial" in found
    assert "spec.domain.devices.disks[2].serial" in next(iter(found.values()))


@pytest.mark.parametrize(("bus", "most"), [("virtio", 128), ("sata", 24), ("usb", 15), ("scsi", 256)])
def test_disks_beyond_what_a_bus_takes_are_refused(bus: str, most: int) -> None:
    limit = {"sata": "limit.disks.sata.named", "usb": "limit.usb"}.get(bus, f"limit.disks.{bus}")
    assert refusals(disks(most, "qemu", bus), limit) == {}
    beyond = disks(most + 1, "qemu", bus)
    assert list(refusals(beyond, limit)) == [f"spec.domain.devices.disks[{most}]"]


def test_other_drivers_are_named_for_a_limit_only_if_they_run_the_whole_machine() -> None:
    obj = disks(2, "qemu", "virtio")
    obj["spec"]["domain"]["devices"]["disks"][1]["serial"] = "x" * 21
    (message,) = refusals(obj, "limit.serial.virtio").values()
    assert "have it" not in message
    assert "no other driver" not in message
