"""Polyvisor's own processes against a real Kubernetes control plane, each with its service account's rights alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from polyvisor.api.resources import KUBEVIRTS, NODES, REFUSED, VMIS, VMS, Resource
from polyvisor.installation.render import manifests
from polyvisor.kube import ApiError, KubeClient
from tests.e2e.cluster import cluster, free_port
from tests.e2e.installation import Installation, eventually, installed
from tests.server.test_webhooks import vm, vmi

Obj = dict[str, Any]
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with installed() as found:
        yield found


def test_start_and_stop_through_the_aggregated_api(installation: Installation) -> None:
    installation.create(VMS, vm())
    base = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/demo"

    def put(action: str) -> None:
        installation.act(lambda client: client.request("PUT", f"{base}/{action}", body={}))

    def strategy() -> str:
        return str(installation.act(lambda client: client.get(VMS, "demo", "default"))["spec"]["runStrategy"])

    put("start")
    assert strategy() == "Always"
    eventually(lambda: "demo" in installation.cluster.kubectl("get", "vmi", "-o", "name"))
    put("stop")
    assert strategy() == "Halted"
    eventually(lambda: "demo" not in installation.cluster.kubectl("get", "vmi", "-o", "name"))
    listed = installation.cluster.kubectl("api-resources", "--api-group=subresources.kubevirt.io", "-o", "name")
    assert isinstance(listed, str)


def test_the_api_server_has_the_openapi_documents_of_the_aggregated_api(installation: Installation) -> None:
    group, kubectl = "apis/subresources.kubevirt.io", installation.cluster.kubectl
    start = f"/{group}/v1/namespaces/{{namespace}}/virtualmachines/{{name}}/start"
    # an aggregator that came before virt-api asks again after a minute
    eventually(lambda: f"{group}/v1alpha3" in kubectl("get", "--raw", "/openapi/v3"), seconds=150)
    assert start in json.loads(kubectl("get", "--raw", f"/openapi/v3/{group}/v1"))["paths"]
    eventually(lambda: start in json.loads(kubectl("get", "--raw", "/openapi/v2"))["paths"], seconds=150)


def test_the_older_version_of_the_api_is_answered_and_judged(installation: Installation) -> None:
    older = "kubevirt.io/v1alpha3"
    named = {"metadata": {"name": "older", "namespace": "default"}, "apiVersion": older}
    kubectl = installation.cluster.kubectl
    assert "created" in kubectl("apply", "-f", "-", stdin=json.dumps(vm() | named))
    assert (
        json.loads(kubectl("get", "virtualmachines.v1alpha3.kubevirt.io", "older", "-o", "json"))["apiVersion"] == older
    )
    said = kubectl("apply", "-f", "-", stdin=json.dumps(vmi(domian={}) | named), check=False)
    assert "spec.domian: unknown field; did you mean domain?" in said


def test_kinds_that_are_known_by_name_are_listed_and_refused(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    for kind in REFUSED:
        assert kubectl("get", kind.full_name, "-A", "-o", "name") == ""
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "one"}, "spec": {"a": 1}}
        said = kubectl("create", "-f", "-", stdin=json.dumps(obj), check=False)
        assert f"{kind.kind} is not implemented by Polyvisor yet; {kind.refused}" in said


def test_kubevirts_own_settings_are_kept_with_a_warning(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    patch = {"spec": {"configuration": {"developerConfiguration": {"featureGates": ["Sidecar"]}}}}
    said = kubectl(
        "patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p", json.dumps(patch), check=False
    )
    assert "spec.configuration.developerConfiguration.featureGates Sidecar: KubeVirt's setting is kept" in said
    kept = json.loads(kubectl("get", "kubevirt", "kubevirt", "-n", "kubevirt", "-o", "json"))["spec"]["configuration"]
    assert kept["developerConfiguration"]["featureGates"] == ["Sidecar"]


def test_virt_operator_says_which_components_lack_their_pods(installation: Installation) -> None:
    path = "jsonpath={.status.conditions[?(@.type=='Available')].message}"

    def said() -> str:
        return installation.cluster.kubectl("get", "kubevirt", "kubevirt", "-n", "kubevirt", "-o", path)

    eventually(lambda: "Deployment virt-api has 0 of 2 Pods ready" in said(), why=said)


def test_a_user_needs_the_right_for_it(installation: Installation) -> None:
    can = installation.cluster.kubectl
    can("create", "serviceaccount", "viewer", check=False)
    can("create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer", check=False)
    who = "--as=system:serviceaccount:default:viewer"
    eventually(lambda: "yes" in can("auth", "can-i", "get", "virtualmachines.kubevirt.io", who, check=False))
    for verb, what in (("update", "virtualmachines.subresources.kubevirt.io/start"), ("delete", "vm.kubevirt.io")):
        asked = what.partition("/")
        extra = [f"--subresource={asked[2]}"] if asked[2] else []
        assert can("auth", "can-i", verb, asked[0], *extra, who, check=False).startswith("no")


def test_another_replica_leads_when_one_dies(installation: Installation) -> None:
    before = installation.leader()
    other = "two" if before == "one" else "one"
    installation.start_controller(other)
    eventually(lambda: installation.ready(other))
    assert installation.leader() == before
    installation.running[before].kill()
    eventually(lambda: installation.leader() == other, why=lambda: installation.cluster.tail(other))
    installation.create(VMS, {**vm(runStrategy="Always"), "metadata": {"name": "after", "namespace": "default"}})
    eventually(lambda: "after" in installation.cluster.kubectl("get", "vmi", "-o", "name"))


def test_certificates_rotate_while_requests_are_answered(installation: Installation) -> None:
    def served() -> str:
        return installation.cluster.kubectl(
            "get", "secret", "kubevirt-virt-api-certs", "-n", "kubevirt", "-o", "jsonpath={.data.tls\\.crt}"
        )

    before = served()
    for secret in ("kubevirt-virt-api-certs", "kubevirt-ca"):
        installation.cluster.kubectl("delete", "secret", secret, "-n", "kubevirt")
    eventually(lambda: (now := served()) != before and now != "" if secret_there(installation) else False)

    def answers() -> bool:
        try:
            error = installation.refused(VMS, vm(runStrategy="Sometimes"))
        except AssertionError:
            return False
        return error.code == 422

    eventually(answers, why=lambda: installation.cluster.tail("api"))
    eventually(installation.available)
    assert installation.running["api"].poll() is None, "without a restart"


def secret_there(installation: Installation) -> bool:
    return "kubevirt-virt-api-certs" in installation.cluster.kubectl("get", "secrets", "-n", "kubevirt", "-o", "name")


def test_an_upgrade_by_applying_again_leaves_certificates_and_machines(installation: Installation) -> None:
    path = "jsonpath={.webhooks[*].clientConfig.caBundle}"
    before = installation.cluster.kubectl("get", "mutatingwebhookconfiguration", "virt-api", "-o", path)
    machines = installation.cluster.kubectl("get", "vmi", "-o", "jsonpath={.items[*].metadata.uid}")
    installation.install()
    assert before
    assert installation.cluster.kubectl("get", "mutatingwebhookconfiguration", "virt-api", "-o", path) == before
    assert installation.cluster.kubectl("get", "vmi", "-o", "jsonpath={.items[*].metadata.uid}") == machines


def test_writes_without_anything_to_judge_pass_by_the_webhook(installation: Installation) -> None:
    """Status and finalizers can be written even while virt-api is down."""
    machine = installation.create(VMIS, {**vmi(), "metadata": {"name": "held", "namespace": "default"}})
    installation.running["api"].terminate()
    installation.running["api"].wait(20)
    patch = {"status": {"reason": "told"}}

    async def tell(client: KubeClient) -> Obj:
        found = await client.get(VMIS, "held", "default")
        return await client.update_status(VMIS, {**found, "status": {**found["status"], **patch["status"]}})

    installation.act_as("kubevirt-controller", tell)
    with pytest.raises(ApiError, match="failed calling webhook"):
        installation.act(lambda c: c.patch(VMIS, "held", {"metadata": {"labels": {"a": "b"}}}, "default"))
    installation.start_api()
    eventually(lambda: installation.ready("api"), why=lambda: installation.cluster.tail("api"))
    assert machine["metadata"]["uid"]


def test_a_node_agent_labels_its_node_and_has_no_right_to_more(installation: Installation) -> None:
    installation.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "agents"}})
    folder = installation.cluster.folder
    (folder / "pods").mkdir()
    where = (f"--state-dir={folder}/state", f"--pods-dir={folder}/pods", "--node-name=agents", "--bind=127.0.0.1")
    installation.start("agent", "agent", "kubevirt-handler", *where, f"--port={free_port()}", node="agents")
    eventually(lambda: installation.ready("agent"), why=lambda: installation.cluster.tail("agent"))

    def labels() -> Obj:
        return dict(
            json.loads(installation.cluster.kubectl("get", "node", "agents", "-o", "json"))["metadata"].get(
                "labels", {}
            )
        )

    eventually(lambda: labels().get("kubevirt.io/schedulable") == "true", 180)
    assert any(label.startswith("hypervisor.kubevirt.io/") for label in labels())
    condition = "jsonpath={.status.conditions[?(@.type=='HypervisorsWork')]}"
    eventually(lambda: '"status":"True"' in installation.cluster.kubectl("get", "node", "agents", "-o", condition))
    installation.running["agent"].terminate()
    assert installation.running["agent"].wait(20) == 0
    assert labels()["kubevirt.io/schedulable"] == "false"
    who = "--as=system:serviceaccount:kubevirt:kubevirt-handler"
    for verb, what in (
        ("get", "secrets"),
        ("create", "pods"),
        ("delete", "nodes"),
        ("create", "vmi"),
        ("update", "vm"),
    ):
        assert installation.cluster.kubectl("auth", "can-i", verb, what, who, check=False).startswith("no"), (
            verb,
            what,
        )


def test_a_node_agent_is_held_to_its_own_node(installation: Installation) -> None:
    for name in ("mine", "other"):
        installation.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        metadata = {"name": f"on-{name}", "namespace": "default"}
        machine = installation.create(VMIS, {**vmi(), "metadata": metadata})
        status = {"status": {"phase": "Scheduled", "nodeName": name}}
        name_of = machine["metadata"]["name"]
        installation.act_as("kubevirt-apiserver", lambda c, m=name_of, s=status: c.patch(VMIS, m, s, "default"))

    def tried(token: str, resource: Resource, name: str, patch: Obj, subresource: str | None = None) -> str:
        path = installation.cluster.folder / "tried.kubeconfig"
        path.write_text(installation.cluster.kubeconfig_for(token))

        async def work() -> str:
            async with KubeClient.from_kubeconfig(path) as client:
                while True:
                    try:
                        if resource is NODES:
                            how: Any = {"patch_type": "strategic", "subresource": subresource}
                            await client.patch(resource, name, patch, **how)
                        else:
                            found = json.loads(installation.cluster.kubectl("get", "vmi", name, "--output=json"))
                            await client.update(resource, {**found, "status": {**found["status"], **patch["status"]}})
                    except ApiError as error:
                        if error.conflict:
                            continue  # a controller wrote in between
                        return error.message
                    return ""

        return asyncio.run(work())

    mine = installation.token("kubevirt-handler", "mine")
    label = {"metadata": {"labels": {"hypervisor.kubevirt.io/x": "true"}}}
    eventually(lambda: "its token is of node mine" in tried(mine, NODES, "other", label))  # policies take a moment
    assert tried(mine, NODES, "mine", label) == ""
    assert "of no node" in tried(installation.token("kubevirt-handler"), NODES, "mine", label)
    role = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
    assert "Polyvisor's own labels alone" in tried(mine, NODES, "mine", role)
    assert "Node's spec" in tried(mine, NODES, "mine", {"spec": {"unschedulable": True}})
    works = {"status": {"conditions": [{"type": "HypervisorsWork", "status": "True"}]}}
    assert tried(mine, NODES, "mine", works, "status") == ""
    assert "its own Node alone" in tried(mine, NODES, "other", works, "status")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert "its own condition of a Node alone" in tried(mine, NODES, "mine", ready, "status")
    room = {"status": {"capacity": {"cpu": "1k"}}}
    assert "the rest of a Node's status" in tried(mine, NODES, "mine", room, "status")
    running = {"status": {"phase": "Running"}}
    assert "machines of its own Node" in tried(mine, VMIS, "on-other", running)
    assert tried(mine, VMIS, "on-mine", running) == ""
    assert "to another Node" in tried(mine, VMIS, "on-mine", {"status": {"nodeName": "other"}})


def test_figures_are_read_by_who_may_and_name_nobody_to_others(installation: Installation) -> None:
    kubectl = installation.cluster.kubectl
    installation.create(VMS, vm() | {"metadata": {"name": "figured", "namespace": "default"}})
    kubectl("create", "clusterrole", "scraper", "--verb=get", "--non-resource-url=/metrics")
    for name in ("scraper", "stranger"):
        kubectl("create", "serviceaccount", name, "-n", "kubevirt")
    kubectl("create", "clusterrolebinding", "scraper", "--clusterrole=scraper", "--serviceaccount=kubevirt:scraper")
    scraper, stranger = installation.token("scraper"), installation.token("stranger")
    named = "kubevirt_vm_info{"
    leads = installation.leader()

    def shown(name: str, token: str = "") -> httpx.Response:
        return installation.ask(name, "/metrics", token)

    eventually(lambda: named in shown(leads, scraper).text, why=lambda: shown(leads, scraper).text)
    for name, process in installation.running.items():
        if process.poll() is not None:
            continue
        assert shown(name, scraper).status_code == 200, name
        assert (shown(name, stranger).status_code, shown(name, "nonsense").status_code) == (403, 401), name
        anybody = shown(name)
        assert anybody.status_code == 200, name
        assert "kubevirt_info{" in anybody.text, name
        assert 'namespace="' not in anybody.text, name


def test_no_component_lacks_a_right(installation: Installation) -> None:
    for name in installation.health:
        log = (installation.cluster.folder / f"{name}.log").read_text()
        lacking = [line for line in log.splitlines() if "is forbidden: User" in line]
        assert lacking == [], name


def test_uninstalling_refuses_while_there_are_machines_and_leaves_nothing(installation: Installation) -> None:
    refused = installation.polyvisor("uninstall")
    assert refused.returncode == 1
    assert "--delete-machines" in refused.stderr
    eventually(installation.available)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    node["metadata"]["labels"] = {"hypervisor.kubevirt.io/qemu": "true"}  # type: ignore[index]
    installation.create(NODES, node)
    done = installation.polyvisor("uninstall", "--delete-machines", "--timeout=90")
    assert done.returncode == 0, done.stderr
    kubectl = installation.cluster.kubectl
    for kind in (
        "crd",
        "clusterrole,clusterrolebinding",
        "mutatingwebhookconfiguration,validatingwebhookconfiguration",
        "apiservice",
        "priorityclass",
        "role,rolebinding,secret,lease,deployment,daemonset -A",
        "node --show-labels",
    ):
        listed = kubectl("get", *kind.split())
        assert "kubevirt" not in "\n".join(
            line for line in listed.splitlines() if "cluster-admin" not in line and not line.startswith("kubevirt  ")
        ), listed
    assert KUBEVIRTS.kind not in kubectl("api-resources")


def test_what_install_makes_uninstall_takes_away_with_its_namespace() -> None:
    with cluster("kube-controller-manager") as control_plane, ExitStack() as stack:
        fresh = Installation(control_plane, stack)
        done = fresh.polyvisor("install", "--no-wait", "--namespace=machines", "--set=api.replicas=1")
        assert done.returncode == 0, done.stderr
        kubectl = control_plane.kubectl
        assert kubectl("get", "deployment", "virt-api", "-n", "machines", "-o", "jsonpath={.spec.replicas}") == "1"
        explained = kubectl("explain", "vm.spec.template.spec.hypervisor")
        assert "driver" in explained
        slow = fresh.polyvisor("install", "--namespace=machines", "--timeout=3")
        assert slow.returncode == 1
        assert "Deployment virt-api does not get ready" in slow.stderr
        gone = fresh.polyvisor("uninstall", "--namespace=machines", "--timeout=60")
        assert gone.returncode == 0, gone.stderr
        assert "machines" not in kubectl("get", "namespaces", "-o", "name")
        assert "kubevirt" not in kubectl("get", "crd", "-o", "name", check=False)


def test_kubevirts_own_definitions_are_not_taken_over() -> None:
    with cluster() as control_plane, ExitStack() as stack:
        foreign = [one for one in manifests() if one["kind"] == "CustomResourceDefinition"]
        for one in foreign:
            del one["metadata"]["labels"]
        control_plane.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, foreign)))
        done = Installation(control_plane, stack).polyvisor("install")
        assert done.returncode == 1
        assert "that is not Polyvisor's" in done.stderr
        assert "KubeVirt itself is installed" in done.stderr
