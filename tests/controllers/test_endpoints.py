"""The Deployment of an endpoint's agent, and the Pods of machines on its host: what they are given, and what not."""

from __future__ import annotations

import json
from typing import Any

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.api.endpoint_names import CREDENTIALS_FOLDER
from polyvisor.api.quantity import whole
from polyvisor.controllers.endpoints import MADE_FROM, AgentSettings, deployment
from polyvisor.controllers.launcher_pod import build_pod
from polyvisor.drivers import registry
from polyvisor.placement import Placement

Obj = dict[str, Any]
ENDPOINT: Obj = {
    "metadata": {"name": "rack4", "uid": "u"},
    "spec": {"uri": "qemu+ssh://root@rack4/system", "credentials": {"secretRef": {"name": "keys"}}},
}


def made(endpoint: Obj = ENDPOINT, settings: AgentSettings | None = None, *, labelled: bool = True) -> Obj:
    return deployment(endpoint, "kubevirt", settings or AgentSettings(), labelled=labelled)


def pod_of(found: Obj) -> Obj:
    return dict(found["spec"]["template"]["spec"])


def test_the_agent_has_its_secret_and_its_account_and_no_right_on_its_node() -> None:
    found = made()
    pod = pod_of(found)
    (container,) = pod["containers"]
    assert found["metadata"]["name"] == "virt-endpoint-rack4"
    assert found["metadata"]["ownerReferences"][0]["uid"] == "u", "it goes with its endpoint"
    assert pod["serviceAccountName"] == "kubevirt-endpoint-rack4"
    assert [one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one] == ["keys"]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert mounts[CREDENTIALS_FOLDER] == {"name": "credentials", "mountPath": CREDENTIALS_FOLDER, "readOnly": True}
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert found["spec"]["strategy"] == {"type": "Recreate"}, "two agents would only wait for each other"


def test_a_secret_that_is_not_meant_for_the_endpoint_is_not_mounted() -> None:
    pod = pod_of(made(labelled=False))
    assert not [one for one in pod["volumes"] if "secret" in one]
    assert "--not-labelled" in pod["containers"][0]["command"]
    without = {**ENDPOINT, "spec": {"uri": "test+tcp://rack4/default"}}
    assert not [one for one in pod_of(made(without))["volumes"] if "secret" in one]


def test_it_is_written_again_only_if_something_of_it_changed() -> None:
    def digest(found: Obj) -> str:
        return str(found["metadata"]["annotations"][MADE_FROM])

    moved = {**ENDPOINT, "spec": {**ENDPOINT["spec"], "uri": "qemu+ssh://root@rack5/system"}}
    assert digest(made()) == digest(made(moved)), "the agent itself follows the object"
    assert digest(made()) != digest(made(labelled=False))
    assert digest(made()) != digest(made(settings=AgentSettings(image="other")))


def test_the_chart_says_how_the_agents_pods_are() -> None:
    said = {
        "ENDPOINT_IMAGE": "registry.example/virt-endpoint:v1",
        "ENDPOINT_TOLERATIONS": '[{"operator": "Exists"}]',
        "ENDPOINT_INSECURE_REGISTRIES": '["registry.example:5000"]',
        "ENDPOINT_RESOURCES": '{"requests": {"cpu": "20m"}}',
    }
    pod = pod_of(made(settings=AgentSettings.read(said)))
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/virt-endpoint:v1"
    assert container["resources"] == {"requests": {"cpu": "20m"}}
    assert "--insecure-registry=registry.example:5000" in container["command"]
    assert pod["tolerations"] == [{"operator": "Exists"}]


VOLUMES: list[Obj] = [
    {"name": "root", "containerDisk": {"image": "registry.example/a:1", "imagePullSecret": "pull"}},
    {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
    {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "userdata"}}},
    {"name": "config", "configMap": {"name": "settings"}},
    {"name": "scratch", "emptyDisk": {"capacity": "1Gi"}},
]


def launcher(endpoint: str) -> Obj:
    """Return the Pod of a machine on an endpoint, or on a node of the cluster."""
    spec = {"domain": {"devices": {}, "memory": {"guest": "128Mi"}}, "volumes": VOLUMES}
    vmi = {"metadata": {"name": "m", "namespace": "default", "uid": "u"}, "spec": spec}
    labels = {"hypervisor.kubevirt.io/endpoint": (endpoint,)} if endpoint else {}
    absent = () if endpoint else ("hypervisor.kubevirt.io/endpoint",)
    driver = registry().get("qemu")
    placement = Placement(driver, "kvm", (), labels, absent, endpoint=endpoint)
    return build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, {})


def test_a_pod_for_a_host_names_what_its_machine_has_and_mounts_nothing() -> None:
    """The scheduler sees the claims, and the Node's agent may read those Secrets alone that its Pods name."""
    pod = launcher("rack4")["spec"]
    sources = {json.dumps({key: value for key, value in one.items() if key != "name"}) for one in pod["volumes"]}
    assert json.dumps({"persistentVolumeClaim": {"claimName": "claim"}}) in sources
    assert json.dumps({"secret": {"secretName": "userdata"}}) in sources
    assert json.dumps({"configMap": {"name": "settings", "optional": False}}) in sources
    assert {"name": "pull"} in pod["imagePullSecrets"]
    (compute,) = (one for one in pod["containers"] if one["name"] == "compute")
    assert [one["name"] for one in compute["volumeMounts"]] == ["polyvisor"]
    assert not compute["securityContext"].get("privileged")


def test_a_pod_is_for_a_host_or_for_nodes_of_the_cluster() -> None:
    def terms(pod: Obj) -> list[Obj]:
        required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return list(required["nodeSelectorTerms"][0]["matchExpressions"])

    there, here = launcher("rack4"), launcher("")
    key = "hypervisor.kubevirt.io/endpoint"
    assert {"key": key, "operator": "In", "values": ["rack4"]} in terms(there)
    assert {"key": key, "operator": "DoesNotExist"} in terms(here)
    memory = [pod["spec"]["containers"][0]["resources"]["requests"]["memory"] for pod in (there, here)]
    assert whole(memory[0]) == 128 << 20 < whole(memory[1]), "nothing is counted beside the guest on a host"
    assert not any(key.startswith("devices.") for key in there["spec"]["containers"][0]["resources"]["requests"])
    for_ever = [one for one in there["spec"]["tolerations"] if one.get("effect") == "NoExecute"]
    assert {one["key"] for one in for_ever} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert not any("tolerationSeconds" in one for one in for_ever)
    assert not [one for one in here["spec"]["tolerations"] if one.get("effect") == "NoExecute"]
