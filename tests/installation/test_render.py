from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor import __version__
from polyvisor.api import names
from polyvisor.api.endpoint_names import ENDPOINT_ACCOUNT_PREFIX, ENDPOINT_SECRET
from polyvisor.api.migrations import HANDLER_CLIENT_SECRET
from polyvisor.api.resources import REFUSED, RESOURCES, SUBRESOURCES_VERSIONS
from polyvisor.controllers.certificates import roles
from polyvisor.installation.render import CHART, ORDER, ValuesError, assignment, manifests, resource_of, to_yaml

Obj = dict[str, Any]
OBJECTS = manifests()
TOP = Path(__file__).resolve().parents[2]


def found(kind: str, name: str, objects: list[Obj] | None = None) -> Obj:
    wanted = [one for one in objects or OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(wanted) == 1, f"{kind} {name}"
    return wanted[0]


def rules(name: str) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of a component's or user's roles."""
    granted = [one for one in OBJECTS if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] == name]
    return {
        (group, resource, verb)
        for role in granted
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_chart_is_of_this_version_and_where_helm_looks_for_it() -> None:
    chart = yaml.safe_load((TOP / "deploy" / "chart" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    crds = sorted(path.name for path in (TOP / "deploy" / "chart" / "crds").iterdir())
    assert crds == sorted(f"{one.full_name}.yaml" for one in RESOURCES if one.custom)


def test_every_object_can_be_applied_and_has_its_place() -> None:
    kinds = [obj["kind"] for obj in OBJECTS]
    assert kinds == sorted(kinds, key=ORDER.index)
    for obj in OBJECTS:
        resource = resource_of(obj)
        assert resource.namespaced == ("namespace" in obj["metadata"]), obj["metadata"]["name"]
    addresses = [(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")) for one in OBJECTS]
    assert len(set(addresses)) == len(addresses)


def test_making_a_kind_that_is_known_by_name_alone_reaches_the_webhook() -> None:
    (webhook,) = [
        one
        for one in found("ValidatingWebhookConfiguration", "virt-api")["webhooks"]
        if one["name"] == "unknown-kinds.kubevirt.io"
    ]
    reached = {
        (group, version, plural)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for plural in rule["resources"]
    }
    assert {(one.group, one.version, one.plural) for one in REFUSED} <= reached


def test_what_the_components_label_is_not_judged_and_what_they_specify_is() -> None:
    objects = manifests("elsewhere")
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    for kind, name in (("Mutating", "machines-mutate"), ("Validating", "machines-validate")):
        configuration = found(f"{kind}WebhookConfiguration", "virt-api", objects)
        (webhook,) = [one for one in configuration["webhooks"] if one["name"] == f"{name}.kubevirt.io"]
        expression = webhook["matchConditions"][0]["expression"]
        spared = set(re.findall(r'"system:serviceaccount:elsewhere:([a-z-]+)"', expression))
        assert spared == {"kubevirt-controller", "kubevirt-handler", ENDPOINT_ACCOUNT_PREFIX}
        assert spared - {ENDPOINT_ACCOUNT_PREFIX} <= accounts
        assert expression.index("spec") < expression.index("username") < expression.index("labels")


def test_the_namespace_is_the_one_that_was_asked_for() -> None:
    text = to_yaml([one for one in manifests("machines") if one["kind"] != "CustomResourceDefinition"])
    spaces = {one["metadata"].get("namespace") for one in yaml.safe_load_all(text)}
    assert spaces == {None, "machines", "kube-system"}
    assert "namespace: kubevirt\n" not in text


def test_values_reach_the_objects() -> None:
    given = ["api.replicas=3", "image.tag=v9", "configuration.hypervisors=[{name: qemu}]", "networkPolicies=false"]
    objects = manifests(given=map(assignment, given))
    deployment = found("Deployment", "virt-api", objects)
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith("/virt-api:v9")
    kubevirt = found("KubeVirt", "kubevirt", objects)
    assert kubevirt["spec"] == {"configuration": {"hypervisors": [{"name": "qemu"}]}}
    assert not [one for one in objects if one["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("api.replica=3", "api.replica: the chart has no such value; there are nodeSelector, replicas"),
        ("api.replicas=many", "api.replicas: 'many' is given"),
        ("api.replicas", "is not name=value"),
        ("api.replicas={", "is not YAML"),
        ("image=x", "image: 'x' is given"),
    ],
)
def test_a_wrong_value_is_named(text: str, said: str) -> None:
    with pytest.raises(ValuesError) as error:
        manifests(given=[assignment(text)])
    assert said in str(error.value)


def test_a_component_may_read_its_own_secrets_alone() -> None:
    wanted = {
        "kubevirt-apiserver": {names.API_SECRET, names.API_CLIENT_SECRET},
        "kubevirt-handler": {names.HANDLER_SECRET, HANDLER_CLIENT_SECRET},
        "kubevirt-controller": set(),
        "kubevirt-endpoint": {ENDPOINT_SECRET},
        "kubevirt-operator": {names.CA_SECRET, *(role.secret for role in roles("kubevirt"))},
    }
    for component, secrets in wanted.items():
        for role in OBJECTS:
            if role["kind"] not in ("Role", "ClusterRole") or role["metadata"]["name"] != component:
                continue
            for rule in role["rules"]:
                if "secrets" in rule["resources"]:
                    assert role["kind"] == "Role"
                    if component == "kubevirt-operator" and "resourceNames" not in rule:  # for whom is a Secret meant?
                        assert set(rule["verbs"]) == {"create", "get"}
                        continue
                    assert set(rule["resourceNames"]) <= secrets


def test_no_component_may_do_everything() -> None:
    components = (*("kubevirt-apiserver", "kubevirt-controller"), *("kubevirt-handler", "kubevirt-operator"))
    components += ("kubevirt-endpoint",)
    granted = set().union(*map(rules, components))
    assert not [rule for rule in granted if "*" in rule]
    assert {rule[1:] for rule in granted if rule[0] == "rbac.authorization.k8s.io"} == {
        ("clusterrolebindings", "get"),
        ("clusterrolebindings", "patch"),
        ("clusterroles", "bind"),
        ("rolebindings", "get"),
        ("rolebindings", "patch"),
        ("roles", "bind"),
    }
    for one in OBJECTS:
        for rule in one.get("rules") or [] if one["kind"] in ("Role", "ClusterRole") else []:
            if "rbac.authorization.k8s.io" in rule["apiGroups"]:
                assert (one["metadata"]["name"], rule["resourceNames"]) == ("kubevirt-operator", ["kubevirt-endpoint"])
    assert ("", "nodes", "update") not in granted
    assert ("", "pods", "create") not in rules("kubevirt-handler") | rules("kubevirt-apiserver")


def test_virt_controller_may_say_that_a_machines_pod_is_ready() -> None:
    assert ("", "pods/status", "patch") in rules("kubevirt-controller")
    assert ("", "pods/status", "patch") not in rules("kubevirt-apiserver") | rules("kubevirt-handler")


def test_the_aggregated_api_is_registered_in_all_its_versions() -> None:
    registered = [one["spec"]["version"] for one in OBJECTS if one["kind"] == "APIService"]
    assert registered == sorted(SUBRESOURCES_VERSIONS)


def test_roles_are_aggregated_as_kubevirt_names_them() -> None:
    for level in ("view", "edit", "admin"):
        labels = found("ClusterRole", f"kubevirt.io:{level}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{level}"] == "true"


def test_the_control_plane_runs_without_rights_on_its_node() -> None:
    for name in ("virt-api", "virt-controller", "virt-operator"):
        spec = found("Deployment", name)["spec"]
        assert spec["replicas"] == 2
        pod = spec["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert found("PodDisruptionBudget", f"{name}-pdb")["spec"]["minAvailable"] == 1
    assert (CHART / "templates").is_dir()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], {"launcher-qemu"}),
        (["qemu"], {"launcher-qemu"}),
        (["qemu", "lxc"], {"launcher-qemu", "launcher-lxc"}),
        (["lxc"], {"launcher-qemu", "launcher-lxc"}),
    ],
)
def test_nodes_have_the_launcher_images_of_the_drivers_that_are_enabled(given: list[str], wanted: set[str]) -> None:
    values = {"configuration": {"hypervisors": [{"launcherImage": "x/y:1", "name": name} for name in given]}}
    assert launchers(values if given else {}) == wanted


def test_a_launcher_image_can_be_brought_for_a_driver_that_is_enabled_later_and_left_out() -> None:
    assert launchers({"handler": {"launchers": {"lxc": True}}}) == {"launcher-qemu", "launcher-lxc"}
    only = {"configuration": {"hypervisors": [{"name": "lxc"}]}, "handler": {"launchers": {"qemu": False}}}
    assert launchers(only) == {"launcher-lxc"}


def launchers(values: Obj) -> set[str]:
    """Return the launchers' containers beside the agent."""
    agent = found("DaemonSet", names.HANDLER_APP, manifests(given=[values]))
    return {one["name"] for one in agent["spec"]["template"]["spec"]["containers"]} - {names.HANDLER_APP}
