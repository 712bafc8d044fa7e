"""explain: the verdict of each driver, and changes that were tried and do help."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.changes import smallest
from polyvisor.admission.explanation import Explanation, Fit, explain
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS, VMS
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import ALPHA, BETA, Fake, instance, machine, no, put

DISKS = "domain.devices.disks"


def verdicts(found: Explanation) -> dict[str, tuple[str, bool]]:
    return {v.driver.name: (str(v.fit), v.allowed) for v in found.drivers}


def wants_much(choice: Obj | None = None) -> Any:
    def change(spec: Obj) -> None:
        put(f"{DISKS}.0.disk.bus", "scsi")(spec)
        put("domain.devices.rng", {})(spec)
        if choice:
            spec["hypervisor"] = choice

    return change


def test_each_driver_has_a_verdict(context: AdmissionContext) -> None:
    found = explain(VMS, machine(wants_much()), context)
    assert verdicts(found) == {
        "alpha": ("Conditional", True),
        "beta": ("Unsupported", True),
        "gamma": ("Unsupported", True),
    }
    assert found.runs
    alpha, beta, _ = found.drivers
    assert alpha.conditions[0].text == "Random number generator: only with fast (needs virtType fast)"
    assert {lack.fields for lack in beta.lacks} == {
        ("spec.template.spec.domain.devices.disks[0].disk.bus",),
        ("spec.template.spec.domain.devices.rng",),
    }


def test_a_manifest_that_names_a_driver_that_cannot(context: AdmissionContext) -> None:
    found = explain(VMIS, instance(wants_much({"driver": "beta"})), context)
    assert not found.runs
    assert verdicts(found)["alpha"] == ("Conditional", False)
    assert found.problems == ()
    data = found.to_obj()
    assert data["runs"] is False
    assert data["drivers"][1]["changes"] == [
        {"action": "remove", "field": "spec.domain.devices.disks[0].disk.bus", "orSetTo": ["virtio", "sata", "usb"]},
        {"action": "remove", "field": "spec.domain.devices.rng"},
    ]
    reason = data["drivers"][1]["reasons"][0]
    assert (reason["feature"], reason["message"], reason["source"]) == ("disk.bus.scsi", "there is no SCSI", "a manual")


def test_what_is_wrong_for_every_driver_stands_apart(context: AdmissionContext) -> None:
    found = explain(VMIS, instance(put("domain.memory.guest", "64MB")), context)
    assert not found.runs
    assert [problem.field for problem in found.problems] == ["spec.domain.memory.guest"]
    assert [v.fit for v in found.drivers[:2]] == [Fit.RUNS, Fit.RUNS]


def test_what_cannot_be_read_has_no_verdicts(context: AdmissionContext) -> None:
    found = explain(VMIS, instance(put("domain.cpu.cores", "two")), context)
    assert found.drivers == ()
    assert [problem.field for problem in found.problems] == ["spec.domain.cpu.cores"]


def test_a_network_goes_with_its_interface(context: AdmissionContext) -> None:
    gamma = explain(VMIS, instance(), context).drivers[2]
    assert [str(change) for change in gamma.changes or ()] == ["leave out spec.networks[0]"]


@pytest.mark.parametrize("bus", ["scsi", "virtio"])
def test_changes_make_the_driver_take_it(bus: str) -> None:
    """Apply what is proposed, word for word, and ask admission."""
    obj = instance(put(f"{DISKS}.0.disk.bus", bus))
    volumes = obj["spec"]["volumes"]
    volumes.insert(0, {"name": "scratch", "emptyDisk": {"capacity": "1Mi"}})
    volumes.append({"name": "more", "emptyDisk": {"capacity": "1Mi"}})
    fussy = Fake(
        "fussy",
        ("box",),
        {},
        **{
            "disk.bus.scsi": no("no SCSI"),
            "disk.bus.virtio": no("no virtio"),
            "volume.empty-disk": no("no empty disks"),
            "boot.without-kernel": no("a kernel is needed"),
        },
    )
    context = AdmissionContext({}, DriverRegistry([fussy]))
    assert admit("CREATE", VMIS, obj, None, context).problems
    (verdict,) = explain(VMIS, obj, context).drivers
    assert verdict.changes is not None
    assert [change.to_obj()["field"] for change in verdict.changes] == [
        "spec.domain.firmware.kernelBoot.container",
        "spec.domain.devices.disks[0].disk.bus",
        "spec.volumes[0]",
        "spec.volumes[3]",
    ]
    spec = copy.deepcopy(obj["spec"])
    spec["domain"]["firmware"] = {"kernelBoot": {"container": verdict.changes[0].example}}
    del spec["domain"]["devices"]["disks"][0]["disk"]["bus"]
    spec["volumes"] = [v for v in spec["volumes"] if "emptyDisk" not in v]
    spec["domain"]["firmware"]["kernelBoot"]["container"]["image"] = "localhost/kernel:1"
    assert admit("CREATE", VMIS, {**obj, "spec": spec}, None, context).problems == []


@pytest.mark.parametrize(
    ("volumes", "changes"),
    [
        ([], ['add to spec.volumes, such as {"name": "root", "containerDisk": {"image": "IMAGE"}}']),
        (
            [{"name": "root", "emptyDisk": {"capacity": "1Mi"}}],
            [
                'add to spec.volumes, such as {"name": "root-2", "containerDisk": {"image": "IMAGE"}}',
                "leave out spec.volumes[0]",
            ],
        ),
        (
            [{"name": "disk", "hostDisk": {"path": "/a", "type": "Disk"}}],
            [
                "leave out spec.volumes[0]",
                'add to spec.volumes, such as {"name": "root", "containerDisk": {"image": "IMAGE"}}',
            ],
        ),
        (
            [{"name": name, "containerDisk": {"image": "localhost/i:1"}} for name in ("a", "b")],
            ["leave out spec.volumes[1]"],
        ),
    ],
)
def test_a_root_volume_is_added_where_a_driver_wants_one(volumes: list[Obj], changes: list[str]) -> None:
    rack = Fake(
        "rack",
        ("box",),
        {},
        **{
            "boot.without-root": no("it boots from something"),
            "volume.container-disk.further": no("one image is enough"),
            "volume.empty-disk": no("no empty disks"),
            "volume.host-disk": no("no disks of the host"),
        },
    )
    spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "volumes": volumes}
    found = smallest(rack, spec, "spec")
    assert [str(change) for change in found or ()] == changes


def test_no_change_helps_where_the_lack_cannot_be_left_out() -> None:
    useless = Fake("useless", ("box",), {}, **{"memory.guest": no("no memory")})
    assert smallest(useless, instance()["spec"], "spec") is None


def test_drivers_are_told_apart_by_virt_type(context: AdmissionContext) -> None:
    found = explain(VMIS, instance(wants_much({"driver": "alpha", "virtType": "slow"})), context)
    assert verdicts(found)["alpha"] == ("Unsupported", True)
    assert not found.runs
    assert ALPHA.name in verdicts(found)
    assert BETA.name in verdicts(found)
