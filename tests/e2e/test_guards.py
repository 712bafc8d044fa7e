"""The chart's policies in a real kube-apiserver: who may make machines' Pods, and who may write machines' status.

Users are impersonated by the administrator; nothing of Polyvisor runs, so policies alone decide.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from polyvisor.installation import apply
from polyvisor.installation.render import manifests
from polyvisor.kube import KubeClient
from tests.e2e.cluster import KUBECTL, Cluster, cluster

pytestmark = pytest.mark.e2e
Obj = dict[str, Any]
CONTROLLER = "system:serviceaccount:kubevirt:kubevirt-controller"
HANDLER = "system:serviceaccount:kubevirt:kubevirt-handler"
API = "system:serviceaccount:kubevirt:kubevirt-apiserver"
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
NAMESPACES = ("guards", "elsewhere")


@pytest.fixture(scope="module")
def plain() -> Iterator[Cluster]:
    """A cluster with Polyvisor's objects, and its webhooks taken away: nobody would answer."""
    with cluster() as found:
        found.kubectl("create", "namespace", "kubevirt")
        objects = [
            one for one in manifests() if "WebhookConfiguration" not in one["kind"] and one["kind"] != "KubeVirt"
        ]

        async def install() -> None:
            async with KubeClient.from_kubeconfig(found.kubeconfig) as client:
                await apply.install(client, objects, lambda _: None, seconds=60, wait=False)

        asyncio.run(install())
        for name in NAMESPACES:
            found.kubectl("create", "namespace", name)
            role = ("--verb=*", "--resource=*.kubevirt.io", "--resource=pods", "--resource=pods/ephemeralcontainers")
            found.kubectl("create", "role", "alice", *role, "-n", name)
            found.kubectl("create", "rolebinding", "alice", "--role=alice", "--user=alice", "-n", name)
            found.kubectl("create", "serviceaccount", "default", "-n", name)
        roles = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
        roles |= {"metadata": {"name": "collector"}, "subjects": [{"kind": "User", "name": COLLECTOR}]}
        roles["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        found.kubectl("apply", "-f", "-", stdin=json.dumps(roles))
        until_refused(found, pod("probe", labels={"kubevirt.io": "virt-launcher"}))
        yield found


def until_refused(found: Cluster, obj: Obj) -> None:
    """Wait until the API server has taken the policies in, which it does within seconds."""
    deadline = time.monotonic() + 60
    while "virt-controller alone" not in said(found, "", "create", obj, "--dry-run=server"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def said(found: Cluster, user: str, verb: str, obj: Obj, *more: str) -> str:
    """Return what kubectl says, as somebody."""
    who = [f"--as={user}"] if user else []
    command = [str(KUBECTL), f"--kubeconfig={found.kubeconfig}", *who, verb, "-f", "-", *more]
    done = subprocess.run(command, input=json.dumps(obj), capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def pod(name: str, namespace: str = "guards", **metadata: Any) -> Obj:
    meta = {"name": name, "namespace": namespace, **metadata}
    spec = {"containers": [{"name": "compute", "image": "x"}], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def vmi(name: str) -> Obj:
    memory = {"guest": "64Mi"}
    spec = {"domain": {"devices": {}, "memory": memory}}
    meta = {"name": name, "namespace": "guards"}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": meta, "spec": spec}


OWNER = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "m", "uid": "u", "controller": True}

MARKS: Obj = {"labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "u"}, "ownerReferences": [OWNER]}


@pytest.mark.parametrize("user", ["alice", ""])
@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [OWNER]},
        {"labels": {"kubevirt.io": "virt-launcher"}},
        {"labels": {"kubevirt.io": "hotplug-disk"}},
        {"labels": {"kubevirt.io/created-by": "u"}},
    ],
)
def test_nobody_but_virt_controller_makes_a_machines_pod(plain: Cluster, user: str, metadata: Obj) -> None:
    assert "virt-controller alone" in said(plain, user, "create", pod("forged", **metadata))
    assert "created" in said(plain, CONTROLLER, "create", pod("forged", **MARKS), "--dry-run=server")


def test_a_pod_does_not_become_a_machines(plain: Cluster) -> None:
    assert "created" in said(plain, "alice", "create", pod("mine"))
    assert "configured" in said(plain, "alice", "apply", pod("mine", labels={"app": "web"}))
    assert "virt-controller alone" in said(plain, "alice", "apply", pod("mine", ownerReferences=[OWNER]))
    assert "virt-controller alone" in said(plain, "alice", "apply", pod("mine", labels={"kubevirt.io/created-by": "u"}))


def test_a_machines_pod_keeps_its_marks(plain: Cluster) -> None:
    marks = {**MARKS, "annotations": {"hypervisor.kubevirt.io/driver": "qemu"}}
    assert "created" in said(plain, CONTROLLER, "create", pod("launcher", **marks))

    def patched(user: str, **metadata: Any) -> str:
        change = json.dumps({"metadata": metadata})
        who = ("patch", "pod", "launcher", "-n", "guards", "--type=merge", f"--as={user}", "-p", change)
        return plain.kubectl(*who, check=False)

    refused: list[Obj] = [
        {"annotations": {"hypervisor.kubevirt.io/driver": "lxc"}},
        {"labels": {"kubevirt.io/created-by": "another"}},
        {"labels": {"kubevirt.io": None}},
        {"ownerReferences": [{**OWNER, "uid": "another"}]},
        {"ownerReferences": []},
    ]
    for metadata in refused:
        assert "virt-controller alone" in patched("alice", **metadata), metadata
    assert "patched" in patched("alice", annotations={"k8s.ovn.org/pod-networks": "{}"}, labels={"team": "a"})
    assert "virt-controller alone" in patched(COLLECTOR, ownerReferences=[{**OWNER, "uid": "another"}])
    assert "patched" in patched(COLLECTOR, ownerReferences=[])


def test_an_ephemeral_container_gets_none_of_a_machines_volumes(plain: Cluster) -> None:
    obj = pod("debugged", **MARKS)
    obj["spec"]["volumes"] = [{"name": "polyvisor-machine", "emptyDir": {}}]
    assert "created" in said(plain, CONTROLLER, "create", obj)
    container = {"name": "debug", "image": "x", "volumeMounts": [{"name": "polyvisor-machine", "mountPath": "/m"}]}
    for mounts, expected in ((True, "may not mount"), (False, "patched")):
        one = container if mounts else {key: value for key, value in container.items() if key != "volumeMounts"}
        patch = json.dumps({"spec": {"ephemeralContainers": [one]}})
        done = plain.kubectl(
            *("patch", "pod", "debugged", "-n", "guards", "--as=alice", "--subresource=ephemeralcontainers"),
            *("--type=strategic", "-p", patch),
            check=False,
        )
        assert expected in done


def test_status_is_written_by_our_components_alone(plain: Cluster) -> None:
    address = {"interfaces": [{"name": "default", "ipAddress": "169.254.169.254"}]}
    lying = {**vmi("lying"), "status": address}
    for user in ("alice", ""):
        assert "own components alone" in said(plain, user, "create", lying)
    assert "created" in said(plain, "alice", "create", {**vmi("honest"), "status": {"phase": "Pending"}})
    patch = json.dumps({"status": address})
    for user in ("alice", "admin"):
        who = ("patch", "vmi", "honest", "-n", "guards", "--type=merge", f"--as={user}", "--as-group=system:masters")
        assert "own components alone" in plain.kubectl(*who, "-p", patch, check=False)
    ours = ("patch", "vmi", "honest", "-n", "guards", "--type=merge", f"--as={API}", "-p", patch)
    assert "patched" in plain.kubectl(*ours)
    label = ("label", "vmi", "honest", "-n", "guards", "team=a", "--as=alice")
    assert "labeled" in plain.kubectl(*label)


def test_the_status_of_a_virtual_machine_is_ours_too(plain: Cluster) -> None:
    template = {"metadata": {}, "spec": vmi("x")["spec"]}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "v", "namespace": "guards"}}
    obj["spec"] = {"runStrategy": "Halted", "template": template}
    assert "created" in said(plain, "alice", "create", obj)
    patch = (
        "patch",
        "vm",
        "v",
        "-n",
        "guards",
        "--type=merge",
        "--subresource=status",
        "-p",
        '{"status":{"ready":true}}',
    )
    assert "own components alone" in plain.kubectl(*patch, check=False)


PATHS = {
    "pod": "/api/v1/namespaces/guards/pods/",
    "pvc": "/api/v1/namespaces/guards/persistentvolumeclaims/",
    "event": "/api/v1/namespaces/guards/events/",
    "node": "/api/v1/nodes/",
}


def asked(plain: Cluster, who: str, verb: str, what: str, patch: Obj | None = None) -> str:
    """Return what the API server says to a component, whose request is not carried out; "done" if it agrees.

    kubectl would read the object first, for which a component may have no right.
    """
    kind, _, name = what.partition("/")
    headers = {"Authorization": f"Bearer {plain.token}", "Impersonate-User": who}
    headers["Content-Type"] = "application/merge-patch+json" if patch else "application/json"
    verify = ssl.create_default_context(cafile=str(plain.ca))
    with httpx.Client(base_url=plain.url, headers=headers, verify=verify, trust_env=False) as client:
        body = json.dumps(patch) if patch else None
        answer = client.request(verb, PATHS[kind] + name, params={"dryRun": "All"}, content=body)
    return "done" if answer.is_success else str(answer.json()["message"])


def changed(plain: Cluster, who: str, what: str, patch: Obj) -> str:
    return asked(plain, who, "PATCH", what, patch)


def test_virt_controller_has_no_other_pods(plain: Cluster) -> None:
    plain.kubectl("apply", "-f", "-", stdin=json.dumps(pod("bystander")))
    who = "pod/bystander"
    ours = "of virtual machines alone"
    assert ours in said(plain, CONTROLLER, "create", pod("any"), "--dry-run=server")
    assert ours in asked(plain, CONTROLLER, "DELETE", who)
    assert ours in changed(plain, CONTROLLER, who, {"metadata": {"annotations": {"a": "b"}}})
    assert ours in changed(plain, CONTROLLER, f"{who}/status", {"status": {"phase": "Failed"}})
    assert ours in asked(plain, API, "DELETE", who)


def test_virt_controller_makes_no_pod_with_the_nodes_own_things(plain: Cluster) -> None:
    def made(**spec: Any) -> str:
        obj = pod("wide", **MARKS)
        obj["spec"] |= spec
        return said(plain, CONTROLLER, "create", obj, "--dry-run=server")

    assert "created" in made()
    host = [{"name": "host", "hostPath": {"path": "/"}}]
    refused: list[Obj] = [{"volumes": host}, {"hostPID": True}, {"hostNetwork": True}, {"hostIPC": True}]
    for spec in (*refused, {"automountServiceAccountToken": True}):
        assert "no token, namespace or folder of its node" in made(**spec), spec
    orphan = pod("orphan", labels=MARKS["labels"])
    assert "belongs to a virtual machine instance" in said(plain, CONTROLLER, "create", orphan, "--dry-run=server")


def test_virt_controller_writes_gates_and_networks_of_a_launcher_alone(plain: Cluster) -> None:
    assert "created" in said(plain, CONTROLLER, "create", pod("gated", **MARKS))
    who = "pod/gated"
    gate = {"type": "kubevirt.io/virtual-machine-unpaused", "status": "True"}
    assert changed(plain, CONTROLLER, f"{who}/status", {"status": {"conditions": [gate]}}) == "done"
    networks = {"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "a"}}}
    assert changed(plain, CONTROLLER, who, networks) == "done"
    for told in ({"phase": "Succeeded"}, {"podIPs": [{"ip": "10.0.0.1"}]}, {"conditions": [gate | {"type": "Ready"}]}):
        assert "readiness gates" in changed(plain, CONTROLLER, f"{who}/status", {"status": told}), told
    assert "labels and owners" in changed(plain, CONTROLLER, who, {"metadata": {"labels": {"app": "x"}}})
    assert asked(plain, CONTROLLER, "DELETE", who) == "done"


def test_virt_controller_closes_nodes_and_changes_nothing_else_of_them(plain: Cluster) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "closed", "labels": {"a": "b"}}}
    plain.kubectl("apply", "-f", "-", stdin=json.dumps(node))
    who = "node/closed"

    def labelled(value: str | None, key: str = "kubevirt.io/schedulable") -> str:
        return changed(plain, CONTROLLER, who, {"metadata": {"labels": {key: value}}})

    assert labelled("false") == "done"
    assert "opens none" in labelled("true")
    for key in ("node-role.kubernetes.io/control-plane", "a"):
        assert "of a Node alone" in labelled(None if key == "a" else "", key), key
    for patch in ({"spec": {"unschedulable": True}}, {"metadata": {"annotations": {"a": "b"}}}):
        assert "of a Node alone" in changed(plain, CONTROLLER, who, patch), patch


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"]}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": 1}},
    ],
    ids=lambda obj: obj["kind"],
)
def test_virt_controller_makes_and_deletes_what_is_of_machines_alone(plain: Cluster, obj: Obj) -> None:
    obj = {**obj, "metadata": {"name": "thing", "namespace": "guards"}}
    if obj["kind"] == "PersistentVolumeClaim":
        obj["spec"]["resources"] = {"requests": {"storage": "1Mi"}}
    assert "belongs to virtual machines alone" in said(plain, CONTROLLER, "create", obj)
    owned = {**obj, "metadata": {**obj["metadata"], "ownerReferences": [{**OWNER, "kind": "VirtualMachine"}]}}
    assert "created" in said(plain, CONTROLLER, "create", owned, "--dry-run=server")
    assert "created" in said(plain, "", "create", obj)
    told = said(plain, CONTROLLER, "delete", obj)
    assert "belongs to virtual machines alone" in told or "cannot delete" in told
    if obj["kind"] == "PersistentVolumeClaim":
        volume = {**OWNER, "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume"}
        filled = {**obj, "metadata": {**obj["metadata"], "name": "filled", "ownerReferences": [volume]}}
        assert "created" in said(plain, "", "create", filled)
        assert "deleted" in said(plain, CONTROLLER, "delete", filled, "--dry-run=server")
        who = "pvc/thing"
        assert "kubevirt.io/memory-dump alone" in changed(plain, CONTROLLER, who, {"metadata": {"labels": {"a": "b"}}})
        note = {"metadata": {"annotations": {"kubevirt.io/memory-dump": "x"}}}
        assert changed(plain, CONTROLLER, who, note) == "done"


def test_a_component_writes_its_own_events_alone(plain: Cluster) -> None:
    def event(name: str, component: str) -> Obj:
        about = {"kind": "Pod", "namespace": "guards", "name": "x"}
        meta = {"name": name, "namespace": "guards"}
        return {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about} | {
            "source": {"component": component}
        }

    own = "Events of its own alone"
    assert own in said(plain, CONTROLLER, "create", event("a", "kubelet"))
    assert "created" in said(plain, CONTROLLER, "create", event("a", "virtualmachine-controller"))
    assert "created" in said(plain, "", "create", event("b", "kubelet"))
    counted = {"count": 2}
    assert changed(plain, CONTROLLER, "event/a", counted) == "done"
    moved = {"involvedObject": {"name": "y"}}
    assert "same object for good" in changed(plain, CONTROLLER, "event/a", moved)
    for who, name in ((CONTROLLER, "b"), (HANDLER, "a"), (HANDLER, "b")):
        assert own in changed(plain, who, f"event/{name}", counted), (who, name)
