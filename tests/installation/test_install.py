from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api.endpoint_names import ENDPOINT_SECRET
from polyvisor.installation.apply import InstallError, install
from polyvisor.installation.remove import uninstall
from polyvisor.installation.render import manifests
from tests.installation.fakes import FakeCluster

Obj = dict[str, Any]
VMI = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances/demo"


def vmi(phase: str) -> Obj:
    metadata = {"name": "demo", "namespace": "default"}
    return {"kind": "VirtualMachineInstance", "metadata": metadata, "status": {"phase": phase}}


async def put_in(cluster: FakeCluster, **options: Any) -> list[str]:
    said: list[str] = []
    async with cluster.client() as client:
        await install(client, manifests(), said.append, **({"seconds": 0.1} | options))
    return said


async def take_out(cluster: FakeCluster, delete_machines: bool = False) -> list[str]:
    said: list[str] = []
    async with cluster.client() as client:
        objects = manifests()
        await uninstall(client, objects, "kubevirt", said.append, seconds=0.1, delete_machines=delete_machines)
    return said


async def test_definitions_come_first_and_the_configuration_last() -> None:
    cluster = FakeCluster()
    said = await put_in(cluster)
    kinds = [one.split()[0] for one in cluster.applied]
    assert kinds[0] == "Namespace"
    assert kinds[1:4] == ["CustomResourceDefinition"] * 3
    assert kinds.index("ClusterRole") < kinds.index("Deployment") < kinds.index("MutatingWebhookConfiguration")
    assert kinds[-1] == "KubeVirt"
    assert "Deployment virt-api is ready" in said


async def test_what_does_not_get_ready_is_named_with_its_reason() -> None:
    cluster = FakeCluster()
    cluster.ready["Deployment"]["availableReplicas"] = 1
    with pytest.raises(InstallError, match="Deployment virt-api does not get ready: 1 of 2 replicas"):
        await put_in(cluster)
    await put_in(cluster, wait=False)


async def test_kubevirts_own_definitions_are_not_taken_over() -> None:
    cluster = FakeCluster()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmachines.kubevirt.io"
    cluster.objects[path] = {"kind": "CustomResourceDefinition", "metadata": {"name": "virtualmachines.kubevirt.io"}}
    with pytest.raises(InstallError, match=r"virtualmachines\.kubevirt\.io that is not Polyvisor's"):
        await put_in(cluster)
    assert not cluster.applied


async def test_nothing_is_left() -> None:
    cluster = FakeCluster()
    labels = {"hypervisor.kubevirt.io/qemu": "true", "kubevirt.io/schedulable": "true", "other": "x"}
    cluster.objects["/api/v1/nodes/n1"] = {"kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    await put_in(cluster)
    secret = {"kind": "Secret", "metadata": {"name": "kubevirt-ca", "namespace": "kubevirt"}}
    cluster.objects["/api/v1/namespaces/kubevirt/secrets/kubevirt-ca"] = secret
    await take_out(cluster)
    assert list(cluster.objects) == ["/api/v1/nodes/n1"]
    assert cluster.objects["/api/v1/nodes/n1"]["metadata"]["labels"] == {"other": "x"}
    kinds = [one.split()[0] for one in cluster.deleted]
    assert kinds.index("ValidatingWebhookConfiguration") < kinds.index("Deployment")
    assert kinds.index("Deployment") < kinds.index("CustomResourceDefinition")
    await take_out(cluster)  # a second time finds nothing and is content


async def test_endpoints_go_with_their_nodes_and_agents() -> None:
    """A Node of such a name that is not the endpoint's stays, and so does what the installation did not make."""
    cluster = FakeCluster()
    cluster.objects["/api/v1/namespaces/kubevirt"] = {"kind": "Namespace", "metadata": {"name": "kubevirt"}}
    await put_in(cluster)
    endpoints = "/apis/hypervisor.kubevirt.io/v1alpha1/hypervisorendpoints"
    for name, provider in (("rack4", "polyvisor://u"), ("rack5", "aws://i-1")):
        cluster.objects[f"{endpoints}/{name}"] = {"kind": "HypervisorEndpoint", "metadata": {"name": name, "uid": "u"}}
        node = {"kind": "Node", "metadata": {"name": f"endpoint-{name}"}, "spec": {"providerID": provider}}
        cluster.objects[f"/api/v1/nodes/endpoint-{name}"] = node
        for group, kind, made in (
            ("/apis/apps/v1", "Deployment", f"deployments/virt-endpoint-{name}"),
            ("/api/v1", "ServiceAccount", f"serviceaccounts/kubevirt-endpoint-{name}"),
            ("/apis/coordination.k8s.io/v1", "Lease", f"leases/virt-endpoint-{name}"),
        ):
            obj = {"kind": kind, "metadata": {"name": made.partition("/")[2], "namespace": "kubevirt"}}
            cluster.objects[f"{group}/namespaces/kubevirt/{made}"] = obj
    pair = {"kind": "Secret", "metadata": {"name": ENDPOINT_SECRET, "namespace": "kubevirt"}}
    cluster.objects[f"/api/v1/namespaces/kubevirt/secrets/{ENDPOINT_SECRET}"] = pair
    await take_out(cluster)
    assert sorted(cluster.objects) == ["/api/v1/namespaces/kubevirt", "/api/v1/nodes/endpoint-rack5"]
    kinds = [one.split()[0] for one in cluster.deleted]
    assert kinds.index("HypervisorEndpoint") < kinds.index("CustomResourceDefinition")


async def test_a_namespace_that_was_there_before_stays() -> None:
    cluster = FakeCluster()
    cluster.objects["/api/v1/namespaces/kubevirt"] = {"kind": "Namespace", "metadata": {"name": "kubevirt"}}
    await put_in(cluster)
    await take_out(cluster)
    assert list(cluster.objects) == ["/api/v1/namespaces/kubevirt"]


@pytest.mark.parametrize(
    ("phase", "said"), [("Running", "1 machines run: default/demo"), ("Failed", "none of them running: default/demo")]
)
async def test_machines_hold_an_uninstallation(phase: str, said: str) -> None:
    cluster = FakeCluster()
    await put_in(cluster)
    cluster.objects[VMI] = vmi(phase)
    with pytest.raises(InstallError, match=said):
        await take_out(cluster)
    assert not cluster.deleted
    await take_out(cluster, delete_machines=True)
    assert cluster.deleted[0] == "VirtualMachineInstance demo"
    assert not cluster.objects


async def test_machines_that_do_not_go_hold_it_too() -> None:
    cluster = FakeCluster()
    await put_in(cluster)
    cluster.objects[VMI] = vmi("Running")
    cluster.sticky.add(VMI)
    with pytest.raises(InstallError, match="have not gone, demo for one; nothing was uninstalled"):
        await take_out(cluster, delete_machines=True)
    assert cluster.deleted == ["VirtualMachineInstance demo"]
