"""What the chart's admission policies let components write: the objects of machines, and nobody else's."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.controllers.snapshots import restored
from tests.installation.policies import NAMESPACE, account, refusals

Obj = dict[str, Any]
CONTROLLER, HANDLER, API = account("kubevirt-controller"), account("kubevirt-handler"), account("kubevirt-apiserver")
NODE = "authentication.kubernetes.io/node-name"
GATE = {"type": "kubevirt.io/virtual-machine-unpaused", "status": "True"}


def owner(kind: str, **more: Any) -> Obj:
    version = "v1" if kind == "Pod" else "kubevirt.io/v1"
    return {"apiVersion": version, "kind": kind, "name": "m", "uid": "u", "controller": True, **more}


def pod(kind: str = "virt-launcher", **spec: Any) -> Obj:
    labels = {"kubevirt.io": kind} | ({"kubevirt.io/created-by": "u"} if kind == "virt-launcher" else {})
    by = owner("VirtualMachineInstance" if kind == "virt-launcher" else "Pod")
    metadata = {"name": "p", "namespace": "ns", "labels": labels, "ownerReferences": [by]}
    volumes = [{"name": "polyvisor", "emptyDir": {}}, {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]
    whole = {"automountServiceAccountToken": False, "containers": [{"name": "compute"}], "volumes": volumes, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def others() -> Obj:
    found = pod()
    del found["metadata"]["labels"], found["metadata"]["ownerReferences"]
    return found


def merged(obj: Obj, change: Obj) -> Obj:
    """Return an object with a merge patch in it."""
    found = copy.deepcopy(obj)
    for key, value in change.items():
        if isinstance(value, dict):
            found[key] = merged(found.get(key) or {}, value)
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def told(user: str, operation: str, resource: str, obj: Obj | None, old: Obj | None = None, **more: Any) -> str:
    return "; ".join(refusals(user, operation, resource, obj, old, **more))


@pytest.mark.parametrize("kind", ["virt-launcher", "hotplug-disk"])
def test_virt_controller_makes_and_deletes_pods_of_machines(kind: str) -> None:
    assert told(CONTROLLER, "CREATE", "pods", pod(kind)) == ""
    assert told(CONTROLLER, "DELETE", "pods", None, pod(kind)) == ""
    assert told(API, "DELETE", "pods", None, pod(kind)) == ""


def test_pods_of_others_are_not_a_components() -> None:
    ours = "of virtual machines alone"
    assert ours in told(CONTROLLER, "CREATE", "pods", others())
    assert ours in told(CONTROLLER, "DELETE", "pods", None, others())
    assert ours in told(API, "DELETE", "pods", None, others())
    noted = merged(others(), {"metadata": {"annotations": {"a": "b"}}})
    assert ours in told(CONTROLLER, "UPDATE", "pods", noted, others())
    ended = merged(others(), {"status": {"phase": "Failed"}})
    assert ours in told(CONTROLLER, "UPDATE", "pods/status", ended, others())
    assert told("alice", "DELETE", "pods", None, others()) == ""


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        {"hostPID": True},
        {"hostNetwork": True},
        {"hostIPC": True},
        {"automountServiceAccountToken": True},
        {"automountServiceAccountToken": None},
    ],
    ids=str,
)
def test_a_machines_pod_has_nothing_of_its_nodes(spec: Obj) -> None:
    found = pod(**spec)
    if spec.get("automountServiceAccountToken", 0) is None:
        del found["spec"]["automountServiceAccountToken"]
    assert "no token, namespace or folder of its node" in told(CONTROLLER, "CREATE", "pods", found)


@pytest.mark.parametrize(
    "references", [[], [owner("VirtualMachineInstance", uid="x")], [owner("Pod")], [owner("ReplicaSet")]], ids=str
)
def test_a_machines_pod_belongs_to_its_machine(references: list[Obj]) -> None:
    found = merged(pod(), {"metadata": {"ownerReferences": references}})
    assert "belongs to a virtual machine instance" in told(CONTROLLER, "CREATE", "pods", found)


def test_virt_controller_writes_gates_and_networks_of_a_launcher_alone() -> None:
    old = merged(pod(), {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}})
    old["status"]["podIPs"] = [{"ip": "10.0.0.9"}]

    def status(**change: Any) -> str:
        return told(CONTROLLER, "UPDATE", "pods/status", merged(old, {"status": change}), old)

    kept = old["status"]["conditions"]
    ours = {"type": "hypervisor.kubevirt.io/virtual-machine-ready", "status": "True"}
    assert status(conditions=[*kept, GATE, ours]) == ""
    assert "readiness gates" in status(phase="Succeeded")
    assert "readiness gates" in status(podIPs=[{"ip": "10.0.0.1"}])
    assert "readiness gates" in status(containerStatuses=[{"name": "compute", "ready": True}])
    assert "readiness gates" in status(conditions=[{"type": "Ready", "status": "True"}])

    def whole(change: Obj) -> str:
        return told(CONTROLLER, "UPDATE", "pods", merged(old, change), old)

    assert whole({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "a"}}}) == ""
    assert "labels and owners" in whole({"metadata": {"labels": {"a": "b"}}})
    assert "labels and owners" in whole({"metadata": {"ownerReferences": []}})
    assert "labels and owners" in whole({"spec": {"containers": [{"name": "compute", "image": "another"}]}})


def test_virt_controller_closes_nodes_and_changes_nothing_else_of_them() -> None:
    node = {"metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {}}
    opened = merged(node, {"metadata": {"labels": {"kubevirt.io/schedulable": "true"}}})

    def changed(old: Obj, change: Obj) -> str:
        return told(CONTROLLER, "UPDATE", "nodes", merged(old, change), old)

    closing = {"metadata": {"labels": {"kubevirt.io/schedulable": "false"}}}
    assert (changed(opened, closing), changed(node, closing)) == ("", "")
    assert "opens none" in changed(node, {"metadata": {"labels": {"kubevirt.io/schedulable": "true"}}})
    refused: list[Obj] = [
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"labels": {"a": None}}},
        {"metadata": {"labels": {"a": "x"}}},
        {"metadata": {"annotations": {"c": "x"}}},
        {"metadata": {"finalizers": ["x"]}},
        {"spec": {"unschedulable": True}},
    ]
    for change in refused:
        assert "of a Node alone" in changed(opened, change), change


OWNED = (
    ("apps", "controllerrevisions", ("CREATE", "DELETE")),
    ("policy", "poddisruptionbudgets", ("CREATE", "DELETE")),
    ("", "persistentvolumeclaims", ("CREATE",)),
    ("cdi.kubevirt.io", "datavolumes", ("CREATE",)),
)


@pytest.mark.parametrize(("group", "resource", "operations"), OWNED, ids=[one[1] for one in OWNED])
def test_virt_controller_makes_and_deletes_what_is_of_machines_alone(
    group: str, resource: str, operations: tuple[str, ...]
) -> None:
    for operation in operations:

        def tried(*references: Obj, operation: str = operation) -> str:
            obj = {"metadata": {"name": "x", **({"ownerReferences": list(references)} if references else {})}}
            new, old = (None, obj) if operation == "DELETE" else (obj, None)
            return told(CONTROLLER, operation, resource, new, old, group=group)

        assert tried(owner("VirtualMachine")) == tried(owner("VirtualMachineInstance")) == ""
        assert tried(owner("VirtualMachinePool", apiVersion="pool.kubevirt.io/v1beta1")) == ""
        for references in ((), (owner("VirtualMachine", controller=False),), (owner("StatefulSet"),)):
            assert "belongs to virtual machines alone" in tried(*references), references


def test_virt_controller_makes_claims_of_restored_snapshots() -> None:
    """A machine that a restore or a clone makes is there only once its claims are."""
    backup = {"volumeName": "a", "persistentVolumeClaim": {"metadata": {"name": "a"}, "spec": {}}}
    restore = {"metadata": {"name": "r", "namespace": "ns", "uid": "1"}, "spec": {"target": {"name": "n"}}}
    entry = {"volumeName": "a", "persistentVolumeClaim": "n-a", "volumeSnapshotName": "s-a"}
    made = restored.claim(restore, entry, backup, "1Gi", {"metadata": {"name": "m", "namespace": "ns"}}, [])
    assert told(CONTROLLER, "CREATE", "persistentvolumeclaims", made) == ""
    other = merged(made, {"spec": {"dataSourceRef": {"kind": "PersistentVolumeClaim"}}})
    assert "claims of restored snapshots" in told(CONTROLLER, "CREATE", "persistentvolumeclaims", other)


def test_virt_controller_gives_a_claim_to_a_machine_and_takes_it_away() -> None:
    """A restored machine owns its claims; those of a pool's outlive theirs."""
    free: Obj = {"metadata": {"name": "c"}, "spec": {"volumeName": "v"}}
    owned = merged(free, {"metadata": {"ownerReferences": [owner("VirtualMachine")]}})
    foreign = merged(free, {"metadata": {"ownerReferences": [owner("StatefulSet")]}})
    assert told(CONTROLLER, "UPDATE", "persistentvolumeclaims", owned, free) == ""
    assert told(CONTROLLER, "UPDATE", "persistentvolumeclaims", free, owned) == ""
    for new, old in ((foreign, free), (free, foreign)):
        assert "alone" in told(CONTROLLER, "UPDATE", "persistentvolumeclaims", new, old)


def test_virt_controller_notes_a_dump_on_a_claim_and_nothing_else() -> None:
    claim = {"metadata": {"name": "c", "annotations": {"a": "b"}}, "spec": {"volumeName": "v"}}

    def changed(change: Obj) -> str:
        return told(CONTROLLER, "UPDATE", "persistentvolumeclaims", merged(claim, change), claim)

    assert changed({"metadata": {"annotations": {"kubevirt.io/memory-dump": "x"}}}) == ""
    refused: list[Obj] = [
        {"metadata": {"annotations": {"a": None}}},
        {"metadata": {"annotations": {"other": "x"}}},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"finalizers": ["x"]}},
        {"spec": {"resources": {"requests": {"storage": "1Ti"}}}},
    ]
    for change in refused:
        assert "kubevirt.io/memory-dump alone" in changed(change), change


@pytest.mark.parametrize(
    ("user", "node", "source", "allowed"),
    [
        (CONTROLLER, None, {"component": "virtualmachine-controller"}, True),
        (CONTROLLER, None, {"component": "kubelet"}, False),
        (CONTROLLER, None, {"component": "virt-handler", "host": "n1"}, False),
        (HANDLER, "n1", {"component": "virt-handler", "host": "n1"}, True),
        (HANDLER, "n1", {"component": "virt-handler", "host": "n2"}, False),
        (HANDLER, "n1", {"component": "virt-handler"}, False),
        (HANDLER, "n1", {"component": "kubelet", "host": "n1"}, False),
        (HANDLER, None, {"component": "virt-handler", "host": "n1"}, False),
        ("alice", None, {"component": "kubelet"}, True),
    ],
)
def test_a_component_writes_events_of_its_own(user: str, node: str | None, source: Obj, allowed: bool) -> None:
    extra = {NODE: [node]} if node else None
    event = {"metadata": {"name": "e"}, "source": source, "involvedObject": {"name": "x"}, "count": 1}
    counted, moved = merged(event, {"count": 2}), merged(event, {"involvedObject": {"name": "y"}})
    for new, old in ((event, None), (counted, event)):
        operation = "UPDATE" if old else "CREATE"
        said = told(user, operation, "events", new, old, extra=extra)
        assert said == "" if allowed else "Events of its own alone" in said
    if allowed and user != "alice":
        assert "same object for good" in told(user, "UPDATE", "events", moved, event, extra=extra)


def test_the_policies_are_of_the_installations_own_accounts() -> None:
    stranger = f"system:serviceaccount:elsewhere:{CONTROLLER.rpartition(':')[2]}"
    assert told(stranger, "DELETE", "pods", None, others()) == ""
    assert "virt-controller alone" in told(stranger, "CREATE", "pods", pod())
    assert NAMESPACE in CONTROLLER


def test_an_expression_that_fails_refuses() -> None:
    machine = {"metadata": {"name": "m"}, "spec": {}}
    assert "spec" in told(HANDLER, "UPDATE", "virtualmachineinstances", {"metadata": {}}, machine, group="kubevirt.io")
