"""Drains, dead nodes and Pods that fail: our processes with their own rights, Kubernetes' real controllers.

Some nodes are played by kwok. Others have no kubelet at all, so that a Pod on them is what the test says and stays
Terminating, as on a node that has died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from polyvisor.api.resources import NODES, PODS, VMIS, VMS
from polyvisor.controllers.objects import condition, now, stamp
from polyvisor.kube import ApiError
from tests.e2e.cluster import cluster
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import Installation, eventually
from tests.needs import unmet

Obj = dict[str, Any]
pytestmark = pytest.mark.e2e
SPACE = "default"
ROOM = {"cpu": "8", "memory": "16Gi", "pods": "50", "ephemeral-storage": "100Gi"}
ALIVE = ("xen-1", "xen-2")
NO_KUBELET = ("lxc-1", "lxc-2", "lxc-3")


class Nodes:
    """The cluster, and short ways to say what is done to it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.kubectl = installation.cluster.kubectl

    def get(self, *what: str) -> Obj:
        text = self.kubectl("get", *what, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text else {}

    def node(self, name: str, driver: str, *, played: bool) -> None:
        labels = {f"hypervisor.kubevirt.io/{driver}": "true", "kubernetes.io/hostname": name}
        labels |= {f"hypervisor.kubevirt.io/{driver}.{'xenpv' if driver == 'xen' else driver}": "true"}
        labels |= {"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64", "zone": name[-1]}
        metadata = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"} if played else {}}
        status = {"allocatable": ROOM, "capacity": ROOM}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}
        self.installation.create(NODES, body)

    def readiness(self, name: str, status: str) -> None:
        said = {"type": "Ready", "status": status, "lastHeartbeatTime": stamp(now()), "reason": "T", "message": "m"}
        patch = {"status": {"conditions": [{**said, "lastTransitionTime": stamp(now())}]}}
        self.installation.act(
            lambda client: client.patch(NODES, name, patch, patch_type="strategic", subresource="status")
        )

    def machine(self, name: str, driver: str, strategy: str = "Always", **spec: Any) -> None:
        domain: Obj = {"memory": {"guest": "64Mi"}, "devices": {}}
        if driver == "xen":
            domain["firmware"] = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/vmlinuz"}}}
        else:
            spec = {"volumes": [{"name": "root", "containerDisk": {"image": "root"}}], **spec}
        template = {"spec": {"domain": domain, "hypervisor": {"driver": driver}, **spec}}
        self.installation.create(
            VMS,
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "metadata": {"name": name, "namespace": SPACE},
                "spec": {"runStrategy": strategy, "template": template},
            },
        )

    def pod_of(self, name: str) -> Obj:
        items = self.get("pods", "-l", f"vm.kubevirt.io/name={name}").get("items") or []
        return items[0] if items else {}

    def pod_status(self, name: str, **status: Any) -> None:
        pod = self.pod_of(name)["metadata"]["name"]
        self.installation.act(
            lambda client: client.patch(
                PODS, pod, {"status": status}, SPACE, patch_type="strategic", subresource="status"
            )
        )

    def bound(self, name: str) -> str:
        self.until(lambda: (self.pod_of(name).get("spec") or {}).get("nodeName"))
        return str(self.pod_of(name)["spec"]["nodeName"])

    def runs(self, name: str) -> Obj:
        """Play kubelet, where there is none, and agent: the machine runs."""
        if self.bound(name) in NO_KUBELET:
            self.pod_status(name, phase="Running", containerStatuses=[container(running={"startedAt": stamp(now())})])
        self.until(lambda: (self.get("vmi", name).get("status") or {}).get("phase") == "Scheduled")
        conditions = [
            {"type": "Ready", "status": "True"},
            {"type": "LiveMigratable", "status": "False", "message": "its driver cannot"},
        ]
        passed = [{"phase": "Running", "phaseTransitionTimestamp": stamp(now())}]
        patch = {"status": {"phase": "Running", "conditions": conditions, "phaseTransitionTimestamps": passed}}
        return dict(self.installation.act_as("kubevirt-apiserver", lambda c: c.patch(VMIS, name, patch, SPACE)))

    def evict(self, pod: str) -> ApiError | None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SPACE}}

        async def ask(client: Any) -> ApiError | None:
            try:
                await client.create(PODS, body, SPACE, name=pod, subresource="eviction")
            except ApiError as error:
                return error
            return None

        return self.installation.act(ask)  # type: ignore[no-any-return]

    def budgets(self, name: str) -> list[Obj]:
        owner = self.get("vmi", name)["metadata"]["uid"]
        return list(self.get("pdb", "-l", f"kubevirt.io/created-by={owner}").get("items") or [])

    def status(self, name: str) -> str:
        return str((self.get("vm", name).get("status") or {}).get("printableStatus"))

    def gone(self, *machines: str) -> None:
        self.kubectl("delete", "vm", *machines, "--wait=false")
        for name in machines:
            if self.pod_of(name).get("spec", {}).get("nodeName") in NO_KUBELET:  # the node lets go of it
                self.kubectl("delete", "pod", self.pod_of(name)["metadata"]["name"], "--force", check=False)
        self.until(lambda: not self.kubectl("get", "vm", *machines, "-o", "name", "--ignore-not-found"))

    def until(self, check: Callable[[], Any], seconds: float = 40) -> None:
        eventually(check, seconds, lambda: self.kubectl("get", "vm,vmi,pods,events", "-o", "wide"))


def container(**state: Any) -> Obj:
    return {
        "name": "compute",
        "image": "i",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    try:
        with cluster("kube-controller-manager", "kube-scheduler", "kwok") as control_plane, ExitStack() as stack:
            installation = Installation(control_plane, stack)
            installation.install()
            installation.start_controller("one")
            installation.start_api()
            found = Nodes(installation)
            for name in ALIVE:
                found.node(name, "xen", played=True)
            for name in NO_KUBELET:
                found.node(name, "lxc", played=False)
                found.readiness(name, "True")
            for each in ("one", "api"):
                eventually(lambda each=each: installation.ready(each), why=lambda: control_plane.tail("api"))
            eventually(lambda: not taints(found), why=lambda: str(taints(found)))
            yield found
    except NoGo as missing:
        unmet(str(missing))


def taints(nodes: Nodes) -> list[str]:
    return [t["key"] for node in nodes.get("nodes")["items"] for t in (node.get("spec") or {}).get("taints") or []]


def test_a_machine_that_is_to_be_moved_and_cannot_be_holds_up_the_drain(nodes: Nodes) -> None:
    nodes.machine("stays", "xen", evictionStrategy="LiveMigrate")
    nodes.runs("stays")
    where, pod = nodes.bound("stays"), nodes.pod_of("stays")["metadata"]["name"]
    drain = ("drain", where, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    try:
        said = nodes.kubectl(*drain, "--timeout=2s", check=False)
        assert "VMI stays is configured with an eviction strategy but is not live-migratable: its driver cannot" in said
        assert "deletionTimestamp" not in nodes.pod_of("stays")["metadata"]
        nodes.until(lambda: (nodes.budgets("stays") or [{}])[0].get("status", {}).get("expectedPods") == 1)
        nodes.installation.running["api"].kill()
        nodes.installation.running["api"].wait()
        refused = nodes.evict(pod)
        assert refused is not None
        assert refused.code == 429
        assert "disruption budget" in refused.message
        nodes.installation.start_api()
        nodes.until(lambda: nodes.installation.ready("api"))
        nodes.gone("stays")
        assert "drained" in nodes.kubectl(*drain)
        nodes.until(lambda: not nodes.get("pdb", "-l", "kubevirt.io/created-by").get("items"))
    finally:
        nodes.kubectl("uncordon", where)


def test_a_machine_that_somebody_else_moves_is_marked_and_waited_for(nodes: Nodes) -> None:
    nodes.machine("theirs", "xen", evictionStrategy="External")
    nodes.runs("theirs")
    refused = nodes.evict(nodes.pod_of("theirs")["metadata"]["name"])
    assert refused is not None
    assert refused.code == 429
    assert 'Eviction triggered evacuation of VMI "default/theirs"' in refused.message
    assert nodes.get("vmi", "theirs")["status"]["evacuationNodeName"] == nodes.bound("theirs")
    nodes.gone("theirs")


def test_the_cluster_s_strategy_holds_where_a_machine_names_none(nodes: Nodes) -> None:
    nodes.machine("plain", "xen")
    nodes.runs("plain")
    assert not nodes.budgets("plain")
    configuration = ("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p")
    nodes.kubectl(*configuration, '{"spec":{"configuration":{"evictionStrategy":"LiveMigrate"}}}')
    nodes.until(lambda: nodes.budgets("plain"))
    refused = nodes.evict(nodes.pod_of("plain")["metadata"]["name"])
    assert refused is not None
    assert refused.code == 429
    nodes.kubectl(*configuration, '{"spec":{"configuration":{"evictionStrategy":null}}}')
    nodes.until(lambda: not nodes.budgets("plain"))
    before = nodes.get("vmi", "plain")["metadata"]["uid"]
    assert nodes.evict(nodes.pod_of("plain")["metadata"]["name"]) is None
    nodes.until(lambda: nodes.get("vmi", "plain").get("metadata", {}).get("uid") not in (None, before))
    nodes.gone("plain")


def test_nothing_is_started_elsewhere_until_the_pod_of_a_dead_node_is_gone(nodes: Nodes) -> None:
    homes = {"taken": {"zone": "1"}, "deleted": {"zone": "2"}}
    before: dict[str, str] = {}
    for name, selector in homes.items():
        preferred = [{"weight": 100, "preference": {"matchExpressions": [_in("zone", selector["zone"])]}}]
        affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
        nodes.machine(name, "lxc", affinity=affinity)
        before[name] = nodes.runs(name)["metadata"]["uid"]
    where = {name: nodes.bound(name) for name in homes}
    assert where == {"taken": "lxc-1", "deleted": "lxc-2"}
    for name, node in where.items():
        nodes.readiness(node, "Unknown")
        nodes.until(lambda name=name: (condition(nodes.get("vmi", name), "Ready") or {})["reason"] == "NodeNotReady")
        nodes.kubectl("delete", "pod", nodes.pod_of(name)["metadata"]["name"], "--wait=false")
    time.sleep(2)  # nothing may happen, so there is nothing to wait for
    assert {name: nodes.get("vmi", name)["metadata"]["uid"] for name in homes} == before
    assert all(nodes.pod_of(name)["metadata"].get("deletionTimestamp") for name in homes)
    nodes.kubectl("taint", "node", where["taken"], "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    nodes.kubectl("delete", "node", where["deleted"])
    for name in homes:
        nodes.until(lambda name=name: _again(nodes, name) not in (None, before[name]), 120)
        assert nodes.bound(name) == "lxc-3"
    nodes.gone(*homes)


def _again(nodes: Nodes, name: str) -> str | None:
    """Return the uid of the instance that there is, if it has a Pod that is not on its way out."""
    pod = nodes.pod_of(name)
    alive = pod and "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")
    return str(pod["metadata"]["ownerReferences"][0]["uid"]) if alive else None


def _in(key: str, value: str) -> Obj:
    return {"key": key, "operator": "In", "values": [value]}


def test_a_pod_that_fails_is_told_on_the_machine(nodes: Nodes) -> None:
    nodes.machine("ill", "lxc", "RerunOnFailure", nodeSelector={"zone": "3"})
    nodes.bound("ill")
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        waiting = {"reason": reason, "message": f"{reason}: no such image"}
        nodes.pod_status("ill", phase="Pending", containerStatuses=[container(waiting=waiting)])
        nodes.until(lambda reason=reason: nodes.status("ill") == reason)
    waiting = {"reason": "CreateContainerError", "message": "no device like that"}
    nodes.pod_status("ill", phase="Pending", containerStatuses=[container(waiting=waiting)])
    nodes.until(lambda: "no device like that" in json.dumps(nodes.get("vm", "ill")["status"]["conditions"]))
    before = nodes.runs("ill")["metadata"]["uid"]
    assert nodes.get("vmi", "ill")["status"]["phase"] == "Running"
    ended = container(terminated={"exitCode": 137, "reason": "Error", "finishedAt": stamp(now())})
    message = "The node was low on resource: memory."
    nodes.pod_status("ill", phase="Failed", reason="Evicted", message=message, containerStatuses=[ended])
    nodes.until(lambda: message in nodes.kubectl("get", "events"))
    nodes.until(lambda: _again(nodes, "ill") not in (None, before))
    nodes.gone("ill")


def test_a_machine_that_no_node_can_take_says_so_in_one_word(nodes: Nodes) -> None:
    nodes.machine("nowhere", "lxc", nodeSelector={"zone": "moon"})
    nodes.machine("full", "lxc", nodeSelector={"zone": "3"}, domain={"memory": {"guest": "1Ti"}, "devices": {}})
    for name in ("nowhere", "full"):
        nodes.until(lambda name=name: nodes.status(name) == "ErrorUnschedulable")
    nodes.gone("nowhere", "full")
