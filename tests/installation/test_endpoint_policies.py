"""What the chart's admission policies let endpoints' agents and virt-operator write, and who may go to hosts' Nodes."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.controllers.endpoints import AgentSettings, deployment
from tests.installation.policies import NAMESPACE, account
from tests.installation.test_policies import merged, others, pod, told

Obj = dict[str, Any]
AGENT, OPERATOR = account("kubevirt-endpoint-rack4"), account("kubevirt-operator")
UNREACHABLE = {"key": "hypervisor.kubevirt.io/unreachable", "effect": "NoSchedule"}
VIRTUAL = {"key": "hypervisor.kubevirt.io/virtual-node", "value": "rack4", "effect": "NoSchedule"}


def node(name: str = "endpoint-rack4") -> Obj:
    return {
        "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"providerID": "polyvisor://u", "taints": [VIRTUAL]},
    }


def test_an_agent_taints_its_own_node_and_changes_nothing_else_there() -> None:
    own = "of its own Node alone"
    tainted = merged(node(), {"spec": {"taints": [VIRTUAL, UNREACHABLE]}})
    assert told(AGENT, "UPDATE", "nodes", tainted, node()) == ""
    assert told(AGENT, "UPDATE", "nodes", node(), tainted) == ""
    other = merged(node("node1"), {"spec": {"taints": [VIRTUAL, UNREACHABLE]}})
    assert own in told(AGENT, "UPDATE", "nodes", other, node("node1"))
    for change in (
        {"spec": {"taints": []}},
        {"spec": {"unschedulable": True}},
        {"spec": {"providerID": "aws://x"}},
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"ownerReferences": [{"uid": "x"}]}},
        {"metadata": {"finalizers": ["x"]}},
    ):
        assert own in told(AGENT, "UPDATE", "nodes", merged(node(), change), node()), change
    assert own in told(AGENT, "DELETE", "nodes", None, node())
    assert own in told(AGENT, "CREATE", "nodes", node())


def volume(handle: str = "rack4/images/polyvisor-pvc-1", driver: str = "endpoint.hypervisor.kubevirt.io") -> Obj:
    return {"metadata": {"name": "pvc-1"}, "spec": {"csi": {"driver": driver, "volumeHandle": handle}}}


def test_an_agent_makes_and_deletes_volumes_of_its_host() -> None:
    own = "of its own host alone"
    assert told(AGENT, "CREATE", "persistentvolumes", volume()) == ""
    assert told(AGENT, "DELETE", "persistentvolumes", None, volume()) == ""
    for other in (volume("rack5/images/x"), volume("rack45/images/x"), volume(driver="ebs.csi.aws.com")):
        assert own in told(AGENT, "CREATE", "persistentvolumes", other)
        assert own in told(AGENT, "DELETE", "persistentvolumes", None, other)
    assert own in told(
        AGENT, "DELETE", "persistentvolumes", None, {"metadata": {"name": "h"}, "spec": {"hostPath": {}}}
    )


def machine(where: str = "endpoint-rack4") -> Obj:
    metadata = {"name": "m", "finalizers": ["foregroundDeleteVirtualMachine"], "labels": {"a": "b"}}
    status = {"nodeName": where, "activePods": {"u": where}, "phase": "Scheduled"}
    return {"metadata": metadata, "spec": {"domain": {}}, "status": status}


def changed(change: Obj, old: Obj | None = None) -> str:
    old = old or machine()
    return told(AGENT, "UPDATE", "virtualmachineinstances", merged(old, change), old, group="kubevirt.io")


def test_an_agent_writes_status_and_its_finalizer_of_machines_of_its_node() -> None:
    both = ["foregroundDeleteVirtualMachine", "hypervisor.kubevirt.io/endpoint"]
    assert changed({"status": {"phase": "Running"}}) == ""
    assert changed({"metadata": {"finalizers": both}}) == ""
    assert changed({"metadata": {"finalizers": both[:1]}}, merged(machine(), {"metadata": {"finalizers": both}})) == ""
    assert "its own Node alone" in changed({"status": {"phase": "Running"}}, machine("endpoint-rack5"))
    assert "its own Node alone" in changed({"status": {"nodeName": "node1"}})
    for change in (
        {"spec": {"domain": {"cpu": {}}}},
        {"metadata": {"labels": {"a": "c"}}},
        {"metadata": {"annotations": {"a": "c"}}},
        {"metadata": {"finalizers": []}},
        {"status": {"activePods": {"v": "endpoint-rack4"}}},
    ):
        assert "status and its own finalizer alone" in changed(change), change


@pytest.mark.parametrize("name", ["rack4", "rack5"])
def test_an_agent_writes_the_status_of_its_endpoint_and_holds_its_lease(name: str) -> None:
    mine, group = name == "rack4", "hypervisor.kubevirt.io"
    one = {"metadata": {"name": name}}
    status = told(AGENT, "UPDATE", "hypervisorendpoints/status", one, one, group=group)
    assert ("its own endpoint alone" in status) is not mine
    assert "its own endpoint alone" in told(AGENT, "UPDATE", "hypervisorendpoints", one, one, group=group)
    lease = {"metadata": {"name": f"virt-endpoint-{name}", "namespace": NAMESPACE}}
    assert (told(AGENT, "UPDATE", "leases", lease, lease, group="coordination.k8s.io") == "") is mine
    away = merged(lease, {"metadata": {"namespace": "kube-system"}})
    assert "Lease of its own" in told(AGENT, "UPDATE", "leases", away, away, group="coordination.k8s.io")
    assert "Lease of its own" in told(AGENT, "DELETE", "leases", None, lease, group="coordination.k8s.io")


def event(host: str = "endpoint-rack4", component: str = "endpoint-agent") -> Obj:
    return {"source": {"component": component, "host": host}, "involvedObject": {"name": "m"}}


def test_an_agent_writes_events_of_its_own() -> None:
    assert told(AGENT, "CREATE", "events", event()) == ""
    for other in (event("endpoint-rack5"), event(component="virt-handler")):
        assert "of its own alone" in told(AGENT, "CREATE", "events", other)
        assert "of its own alone" in told(AGENT, "UPDATE", "events", event(), other)
    assert "same object" in told(AGENT, "UPDATE", "events", {**event(), "involvedObject": {"name": "n"}}, event())


def test_other_pods_do_not_go_to_a_hosts_node() -> None:
    """By name of the Node: those that virt-operator has listed."""
    scheduler = "system:kube-scheduler"

    def bound(name: str, where: str) -> str:
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": where}}
        return told(scheduler, "CREATE", "pods/binding", binding)

    assert bound("virt-launcher-m-abc", "endpoint-rack4") == ""
    assert bound("kube-proxy-abc", "node1") == ""
    assert bound("kube-proxy-abc", "endpoint-other") == "", "a Node of the cluster may be called so"
    assert "stands for a hypervisor host" in bound("kube-proxy-abc", "endpoint-rack4")
    there = merged(others(), {"spec": {"nodeName": "endpoint-rack4"}})
    assert "stands for a hypervisor host" in told("alice", "CREATE", "pods", there)
    assert told("alice", "CREATE", "pods", merged(others(), {"spec": {"nodeName": "node1"}})) == ""
    launcher = pod()
    launcher["spec"]["nodeName"] = "endpoint-rack4"
    assert told(account("kubevirt-controller"), "CREATE", "pods", launcher) == ""


ENDPOINT = {
    "metadata": {"name": "rack4", "uid": "u"},
    "spec": {"uri": "qemu+ssh://h/system", "credentials": {"secretRef": {"name": "credentials-rack4"}}},
}


def made(change: Obj | None = None) -> str:
    found = merged(deployment(ENDPOINT, NAMESPACE, AgentSettings()), change or {})
    return told(OPERATOR, "CREATE", "deployments", found, group="apps")


def test_virt_operator_makes_agents_of_endpoints_alone() -> None:
    assert made() == ""
    assert "agents alone" in made({"metadata": {"name": "virt-handler"}})

    def of(**spec: Any) -> Obj:
        return {"spec": {"template": {"spec": spec}}}

    assert "agents alone" in made(of(serviceAccountName="kubevirt-handler"))
    assert "agents alone" in made(of(serviceAccountName="kubevirt-endpoint-rack5"))
    assert "nothing of its node" in made(of(hostNetwork=True))
    assert "nothing of its node" in made(of(volumes=[{"name": "h", "hostPath": {"path": "/"}}]))
    assert "nothing of its node" in made(of(volumes=[{"name": "k", "secret": {"secretName": "kubevirt-ca"}}]))
    assert "no privilege" in made(of(containers=[{"name": "c", "securityContext": {"privileged": True}}]))
    added = {"capabilities": {"add": ["SYS_ADMIN"]}}
    assert "no privilege" in made(of(containers=[{"name": "c", "securityContext": added}]))
    accounts = {"metadata": {"name": "kubevirt-handler", "namespace": NAMESPACE}}
    assert "accounts of endpoints' agents" in told(OPERATOR, "CREATE", "serviceaccounts", accounts)


def test_virt_operator_gives_the_agents_rights_to_agents_alone() -> None:
    def bound(**subject: str) -> str:
        binding = {"metadata": {"name": "kubevirt-endpoint"}, "subjects": [subject]}
        return told(OPERATOR, "UPDATE", "clusterrolebindings", binding, binding, group="rbac.authorization.k8s.io")

    agent = {"kind": "ServiceAccount", "name": "kubevirt-endpoint-rack4", "namespace": NAMESPACE}
    assert bound(**agent) == ""
    for change in ({"kind": "User"}, {"name": "default"}, {"namespace": "default"}):
        assert "to their accounts alone" in bound(**{**agent, **change})
