"""The Deployment of an endpoint's agent: what it is given, and what it is not."""

from __future__ import annotations

from typing import Any

from polyvisor.api.endpoint_names import CREDENTIALS_FOLDER
from polyvisor.controllers.endpoints import MADE_FROM, AgentSettings, deployment

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
