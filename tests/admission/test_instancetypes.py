"""Instance types: how a machine gets its size, and what stands in the way of it."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.instancetypes import expand, expanded_machine
from polyvisor.admission.instancetypes.cpu import Topology, spread_error, topology
from polyvisor.admission.values import Findings
from polyvisor.api import Obj
from polyvisor.api.quantity import whole
from polyvisor.api.resources import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, VMS
from tests.admission.conftest import put
from tests.admission.shelf import Shelf, instance_spec, refused, sized


def test_a_machine_with_an_instance_type_is_stored_as_it_was_written(context: AdmissionContext, shelf: Shelf) -> None:
    vm = sized(put("domain.firmware", {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"}))
    found = admit("CREATE", VMS, vm, None, context)
    assert found.problems == []
    assert found.obj["metadata"].pop("finalizers") == ["kubevirt.io/virtualMachineControllerFinalize"]
    annotations = found.obj["spec"]["template"]["metadata"].pop("annotations")
    assert annotations == {"kubevirt.io/pci-topology-version": "v3"}
    assert found.obj == vm


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("", "128Mi"),
        ("VirtualMachineClusterInstancetype", "128Mi"),
        ("virtualmachineinstancetype", "64Mi"),
        ("VirtualMachineInstancetypes", "64Mi"),
    ],
)
def test_the_kind_is_told_apart(shelf: Shelf, kind: str, memory: str) -> None:
    assert instance_spec(sized(kind=kind), shelf)["domain"]["memory"] == {"guest": memory}


@pytest.mark.parametrize(
    ("instancetype", "field", "said"),
    [
        (
            {"name": "tiny"},
            "spec.instancetype",
            "Failure to find instancetype: "
            'virtualmachineclusterinstancetypes.instancetype.kubevirt.io "tiny" not found',
        ),
        ({"name": "small", "kind": "Flavor"}, "spec.instancetype.kind", "found 'Flavor'"),
        ({"kind": "VirtualMachineInstancetype"}, "spec.instancetype.name", "required"),
        (
            {"name": "small", "revisionName": "lost"},
            "spec.instancetype.revisionName",
            'controllerrevisions.apps "lost" not found',
        ),
    ],
)
def test_a_reference_to_nothing_is_refused_alone(
    context: AdmissionContext, shelf: Shelf, instancetype: Obj, field: str, said: str
) -> None:
    vm = sized() | {}
    vm["spec"]["instancetype"] = instancetype
    ((where, message),) = refused(vm, context)
    assert where == field
    assert said in message


FULL: Obj = {
    "cpu": {
        "guest": 4,
        "model": "Nehalem",
        "dedicatedCPUPlacement": True,
        "isolateEmulatorThread": True,
        "numa": {"guestMappingPassthrough": {}},
        "realtime": {},
        "maxSockets": 8,
    },
    "memory": {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}, "maxGuest": "2Gi"},
    "ioThreadsPolicy": "shared",
    "ioThreads": {"supplementalPoolThreadCount": 2},
    "launchSecurity": {"sev": {}},
    "gpus": [{"name": "g", "deviceName": "vendor.com/gpu"}],
    "hostDevices": [{"name": "h", "deviceName": "vendor.com/device"}],
    "nodeSelector": {"disk": "ssd"},
    "schedulerName": "other",
    "annotations": {"example.com/a": "1"},
}


def test_all_of_an_instance_type_reaches_the_instance(shelf: Shelf) -> None:
    shelf.put(CLUSTER_INSTANCETYPES, "small", FULL)
    found = Findings()
    expansion = expand(sized(), None, shelf, found)
    assert expansion is not None
    spec, domain = expansion.spec, expansion.spec["domain"]
    assert domain["cpu"] == {
        **{key: value for key, value in FULL["cpu"].items() if key not in ("guest", "realtime")},
        "sockets": 1,
        "cores": 4,
        "threads": 1,
    }
    assert domain["memory"] == FULL["memory"]
    for key in ("ioThreadsPolicy", "ioThreads", "launchSecurity"):
        assert domain[key] == FULL[key]
    assert domain["devices"]["gpus"] == FULL["gpus"]
    assert domain["devices"]["hostDevices"] == FULL["hostDevices"]
    assert (spec["nodeSelector"], spec["schedulerName"]) == ({"disk": "ssd"}, "other")
    assert expansion.annotations == {"example.com/a": "1"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("domain.cpu.sockets", 1),
        ("domain.cpu.cores", 2),
        ("domain.cpu.threads", 1),
        ("domain.cpu.model", "host-model"),
        ("domain.cpu.dedicatedCPUPlacement", True),
        ("domain.cpu.maxSockets", 4),
        ("domain.memory.guest", "64Mi"),
        ("domain.memory.hugepages", {"pageSize": "1Gi"}),
        ("domain.memory.maxGuest", "2Gi"),
        ("domain.resources.requests.cpu", "1"),
        ("domain.resources.requests.memory", "64Mi"),
        ("domain.resources.limits.cpu", "1"),
        ("domain.resources.limits.memory", "64Mi"),
        ("domain.ioThreadsPolicy", "auto"),
        ("domain.ioThreads", {"supplementalPoolThreadCount": 1}),
        ("domain.devices.gpus", [{"name": "x", "deviceName": "y.com/z"}]),
        ("domain.devices.hostDevices", [{"name": "x", "deviceName": "y.com/z"}]),
        ("nodeSelector", {"a": "b"}),
        ("schedulerName", "mine"),
    ],
)
def test_what_the_instance_type_says_cannot_be_said_twice(
    context: AdmissionContext, shelf: Shelf, path: str, value: Any
) -> None:
    shelf.put(CLUSTER_INSTANCETYPES, "small", FULL)
    whole = f"spec.template.spec.{path}"
    expected = (whole, f"VM field(s) {whole} conflicts with selected instance type")
    assert expected in refused(sized(put(path, value)), context)


def test_what_the_instance_type_leaves_open_can_be_said(context: AdmissionContext, shelf: Shelf) -> None:
    vm = sized(put("domain.cpu.model", "Nehalem"))
    vm["spec"]["template"]["spec"]["nodeSelector"] = {"a": "b"}
    assert refused(vm, context) == []


def test_annotations_conflict_only_if_they_differ(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(
        CLUSTER_INSTANCETYPES,
        "small",
        {"cpu": {"guest": 1}, "memory": {"guest": "64Mi"}, "annotations": {"example.com/a": "1"}},
    )
    vm = sized()
    vm["spec"]["template"]["metadata"]["annotations"] = {"example.com/a": "1"}
    assert refused(vm, context) == []
    vm["spec"]["template"]["metadata"]["annotations"] = {"example.com/a": "2"}
    ((field, _),) = refused(vm, context)
    assert field == "spec.template.metadata.annotations[example.com/a]"


def test_overcommitted_memory_is_asked_of_the_node_in_part(shelf: Shelf) -> None:
    shelf.put(
        CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 1}, "memory": {"guest": "1Gi", "overcommitPercent": 25}}
    )
    domain = instance_spec(sized(), shelf)["domain"]
    assert domain["memory"] == {"guest": "1Gi"}
    assert domain["resources"]["requests"] == {"memory": "768Mi"}


@pytest.mark.parametrize(("guest", "percent", "asked"), [("128Mi", 15, 114085072), ("1Gi", 33, 719406976)])
def test_what_is_overcommitted_is_reckoned_as_kubevirt_does(shelf: Shelf, guest: str, percent: int, asked: int) -> None:
    """In floats of 32 bits: exactly, 15 % of 128Mi off would be 114085068."""
    memory = {"guest": guest, "overcommitPercent": percent}
    shelf.put(CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 1}, "memory": memory})
    requests = instance_spec(sized(), shelf)["domain"]["resources"]["requests"]
    assert whole(requests["memory"]) == asked


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        ({}, Topology(cores=8)),
        ({"preferredCPUTopology": "any"}, Topology(cores=8)),
        ({"preferredCPUTopology": "sockets"}, Topology(sockets=8)),
        ({"preferredCPUTopology": "preferSockets"}, Topology(sockets=8)),
        ({"preferredCPUTopology": "cores"}, Topology(cores=8)),
        ({"preferredCPUTopology": "preferCores"}, Topology(cores=8)),
        ({"preferredCPUTopology": "threads"}, Topology(threads=8)),
        ({"preferredCPUTopology": "spread"}, Topology(4, 2, 1)),
        ({"preferredCPUTopology": "spread", "spreadOptions": {"ratio": 4}}, Topology(2, 4, 1)),
        ({"preferredCPUTopology": "spread", "spreadOptions": {"across": "CoresThreads"}}, Topology(1, 4, 2)),
        ({"preferredCPUTopology": "spread", "spreadOptions": {"across": "SocketsCoresThreads"}}, Topology(2, 2, 2)),
    ],
)
def test_topologies(cpu: Obj, expected: Topology) -> None:
    assert topology(8, {"cpu": cpu}) == expected
    assert spread_error(8, {"cpu": cpu}) == ""


def test_cpus_that_cannot_be_spread_are_refused(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 3}, "memory": {"guest": "64Mi"}})
    shelf.put(CLUSTER_PREFERENCES, "plain", {"cpu": {"preferredCPUTopology": "spread"}})
    ((field, message),) = refused(sized(preference={"name": "plain"}), context)
    assert field == "spec.instancetype"
    assert "3 vCPUs" in message
    assert "divides them by 2" in message


def test_an_expanded_machine_stands_alone(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", {"annotations": {"example.com/p": "1"}})
    vm = sized(preference={"name": "plain"})
    expansion = expand(vm, None, shelf, Findings())
    assert expansion is not None
    whole = expanded_machine(vm, expansion)
    assert "instancetype" not in whole["spec"]
    assert "preference" not in whole["spec"]
    assert whole["spec"]["template"]["metadata"]["annotations"] == {"example.com/p": "1"}
    assert whole["spec"]["template"]["spec"]["domain"]["memory"] == {"guest": "128Mi"}
    assert refused(whole, context) == []
    assert vm["spec"]["instancetype"] == {"name": "small"}
