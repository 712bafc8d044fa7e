"""Replica sets and instance types in a real Kubernetes, with kubectl and a HorizontalPodAutoscaler as their users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.problems import invalid_status
from polyvisor.api.resources import CLUSTER_INSTANCETYPES, REPLICA_SETS, VMIS, VMS, Resource
from polyvisor.drivers import registry
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import Installation, eventually, installed
from tests.needs import unmet
from tests.server.test_webhooks import replica_set, vm, vmi

Obj = dict[str, Any]
pytestmark = pytest.mark.e2e
SMALL: Obj = {
    "apiVersion": CLUSTER_INSTANCETYPES.api_version,
    "kind": CLUSTER_INSTANCETYPES.kind,
    "metadata": {"name": "small"},
    "spec": {"cpu": {"guest": 2}, "memory": {"guest": "128Mi"}},
}


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    try:
        with installed() as found:
            found.create(CLUSTER_INSTANCETYPES, SMALL)
            yield found
    except NoGo as missing:
        unmet(str(missing))


def sized(name: str, **domain: Any) -> Obj:
    template = {"spec": {"domain": {"devices": {}, **domain}}}
    return vm(instancetype={"name": "small"}, template=template) | {"metadata": {"name": name, "namespace": "default"}}


def test_kubectl_scales_and_an_autoscaler_does(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    installation.create(REPLICA_SETS, replica_set({"app": "web"}, replicas=1))

    def current() -> str:
        return kubectl("get", "vmirs", "demo", "-o", "jsonpath={.status.replicas}")

    eventually(lambda: current() == "1", why=lambda: installation.cluster.tail("one"))
    assert kubectl("get", "vmirs").split()[:5] == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    kubectl("scale", "vmirs", "demo", "--replicas=3")
    eventually(lambda: current() == "3", why=lambda: installation.cluster.tail("one"))
    kubectl("scale", "vmirs", "demo", "--replicas=1", "--current-replicas=3")
    eventually(lambda: current() == "1")
    eventually(lambda: len(kubectl("get", "vmi", "-l", "app=web", "-o", "name").split()) == 1)
    path = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstancereplicasets/demo/scale"
    scale = json.loads(kubectl("get", "--raw", path))
    assert (scale["kind"], scale["status"]["selector"]) == ("Scale", "app=web")
    assert "SuccessfulCreate" in kubectl("describe", "vmirs", "demo")
    kubectl("autoscale", "vmirs/demo", "--min=2", "--max=4", "--cpu=80%")
    eventually(lambda: current() == "2", 60, why=lambda: kubectl("describe", "hpa", "demo"))
    kubectl("delete", "hpa", "demo")
    kubectl("delete", "vmirs", "demo", "--cascade=foreground")
    eventually(lambda: kubectl("get", "vmi", "-l", "app=web", "-o", "name") == "")


def test_an_instance_type_is_filled_in_and_kept_when_it_is_changed(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    installation.create(VMS, sized("kept"))
    path = "jsonpath={.status.instancetypeRef.controllerRevisionRef.name}"
    eventually(lambda: kubectl("get", "vm", "kept", "-o", path), why=lambda: installation.cluster.tail("one"))
    kubectl("patch", "vmcf", "small", "--type=merge", "-p", '{"spec":{"memory":{"guest":"1Gi"}}}')
    kubectl("patch", "vm", "kept", "--type=merge", "-p", '{"spec":{"runStrategy":"Always"}}')
    eventually(lambda: "kept" in kubectl("get", "vmi", "-o", "name"), why=lambda: installation.cluster.tail("one"))
    vmi = json.loads(kubectl("get", "vmi", "kept", "-o", "json"))
    assert vmi["spec"]["domain"]["memory"] == {"guest": "128Mi"}
    assert vmi["spec"]["domain"]["cpu"] == {"sockets": 1, "cores": 2, "threads": 1}
    assert vmi["metadata"]["annotations"]["kubevirt.io/cluster-instancetype-name"] == "small"
    started = vmi["status"]["virtualMachineRevisionName"]
    assert started.startswith("revision-start-vm-")
    assert started in kubectl("get", "controllerrevisions", "-o", "name")
    base = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/kept/expand-spec"
    whole = json.loads(kubectl("get", "--raw", base))
    assert whole["spec"]["template"]["spec"]["domain"]["memory"] == {"guest": "128Mi"}
    assert "instancetype" not in whole["spec"]
    kubectl("delete", "vm", "kept")
    eventually(lambda: "kept" not in kubectl("get", "controllerrevisions", "-o", "name"), 60)


def test_a_conflict_is_refused_in_the_words_of_standalone(installation: Installation) -> None:
    obj = sized("demo", memory={"guest": "64Mi"}, cpu={"cores": 3})

    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        return SMALL if (resource, name) == (CLUSTER_INSTANCETYPES, "small") else None

    found = admit("CREATE", VMS, obj, None, AdmissionContext({}, registry(), lookup))
    standalone = invalid_status(VMS.kind, VMS.group, "demo", found.problems)
    assert len(found.problems) == 2
    error = installation.refused(VMS, obj)
    assert error.status["details"] == standalone["details"]
    assert error.message.endswith(standalone["message"])


def test_a_namespace_gives_its_machines_a_hypervisor(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    kubectl("create", "namespace", "containers")
    kubectl("label", "namespace", "containers", "workloads=containers")
    entry = {"namespaceSelector": {"matchLabels": {"workloads": "containers"}}, "hypervisor": {"driver": "lxc"}}
    patch = json.dumps({"spec": {"configuration": {"hypervisorDefaults": [entry]}}})
    kubectl("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", patch)
    volumes = [{"name": "root", "containerDisk": {"image": "localhost/root:1"}}]
    machine = vmi(volumes=volumes) | {"metadata": {"generateName": "m-", "namespace": "containers"}}

    def given() -> Any:
        return installation.create(VMIS, machine)["spec"].get("hypervisor")

    eventually(lambda: given() == {"driver": "lxc"})
    tpm = machine | {"spec": {"domain": {"devices": {"tpm": {}}, "memory": {"guest": "64Mi"}}, "volumes": volumes}}
    error = installation.refused(VMIS, tpm)
    (cause,) = error.status["details"]["causes"]
    assert "default of namespace containers: spec.configuration.hypervisorDefaults[0]" in cause["message"]
    elsewhere = installation.create(VMIS, machine | {"metadata": {"generateName": "m-", "namespace": "default"}})
    assert "hypervisor" not in elsewhere["spec"]


def test_kubectl_knows_the_kinds(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    names = kubectl("api-resources", "--api-group=instancetype.kubevirt.io", "--no-headers")
    for short in ("vmf", "vmcf", "vmp", "vmcp"):
        assert short in names
    assert "anyOf" in kubectl("explain", "vmcp.spec.preferredHypervisor")
    assert "overcommitPercent" in kubectl("explain", "vmf.spec.memory")
    for who in ("view", "edit", "admin"):
        kubectl("create", "serviceaccount", who)
        kubectl("create", "rolebinding", who, f"--clusterrole={who}", f"--serviceaccount=default:{who}")
    for who, verb, what, answer in (
        ("view", "list", "vmirs", "yes"),
        ("view", "list", "virtualmachineinstancetypes", "yes"),
        ("view", "list", "virtualmachineclusterinstancetypes", "yes"),
        ("view", "update", "virtualmachineinstancereplicasets/scale", "no"),
        ("edit", "patch", "virtualmachineinstancereplicasets/scale", "yes"),
        ("edit", "create", "virtualmachinepreferences", "yes"),
        ("admin", "create", "virtualmachineclusterpreferences", "yes"),  # as in KubeVirt's role
    ):
        resource, _, subresource = what.partition("/")
        asked = (verb, resource, *([f"--subresource={subresource}"] if subresource else []))
        account = f"--as=system:serviceaccount:default:{who}"
        eventually(
            lambda a=asked, w=account, wanted=answer: kubectl("auth", "can-i", *a, w, check=False).startswith(wanted),
            why=lambda a=asked, w=account: f"{a} {w}",
        )


def test_no_component_lacks_a_right(installation: Installation) -> None:
    for name in installation.health:
        log = (installation.cluster.folder / f"{name}.log").read_text()
        assert [line for line in log.splitlines() if "is forbidden: User" in line] == [], name
