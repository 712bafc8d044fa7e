"""Kubernetes' own kinds: what is stored, what is listed empty, and how their fields are checked."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .conftest import CONFIGMAPS, MERGE, PODS, Obj, Running, configmap, is_status, pod

SERVICES = "/api/v1/namespaces/default/services"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
SECRETS = "/api/v1/namespaces/default/secrets"
CHART = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  selector: {app: web}
  ports: [{name: ssh, port: 22}, {name: http, port: 80, targetPort: 8080}]
"""


def claim(size: str | None = "1Gi", modes: Any = ("ReadWriteOnce",), **spec: Any) -> Obj:
    requests = {"resources": {"requests": {"storage": size}}} if size else {}
    return {"metadata": {"name": "c"}, "spec": {"accessModes": list(modes), **requests, **spec}}


def causes(answer: httpx.Response) -> dict[str, str]:
    is_status(answer, 422, "Invalid")
    return {one["field"]: one["message"] for one in answer.json()["details"]["causes"]}


async def test_what_a_chart_brings_beside_its_machines(server: Running) -> None:
    done = await server.kubectl("apply", "-f", "-", stdin=CHART)
    assert "service/web created" in done.out
    assert "polyvisor port-forward" in done.err
    assert "service/web unchanged" in (await server.kubectl("apply", "-f", "-", stdin=CHART)).out
    shown = (await server.kubectl("get", "svc", "web")).out
    assert shown.split()[:4] == ["NAME", "TYPE", "CLUSTER-IP", "PORT(S)"]
    made = await server.json("get", "service", "web")
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["ports"][0] == {"name": "ssh", "port": 22, "protocol": "TCP", "targetPort": 22}
    assert "targetPort" in (await server.kubectl("explain", "service.spec.ports")).out


async def test_a_node_has_a_spec(server: Running) -> None:
    made = await server.post("/api/v1/nodes", {"metadata": {"name": "n"}})
    assert made["spec"] == {}
    del made["spec"]
    assert (await server.client.put("/api/v1/nodes/n", json=made)).json()["spec"] == {}


async def test_a_port_of_the_node_has_a_number_that_stays(server: Running) -> None:
    services = "/api/v1/namespaces/default/services"
    wanted = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 22}]}}
    made = await server.post(services, wanted)
    number = made["spec"]["ports"][0]["nodePort"]
    assert 30000 <= number <= 32767
    replaced = (await server.client.put(f"{services}/s", json=wanted)).json()
    assert replaced["spec"] == made["spec"]
    plain = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 22}]}}
    assert "nodePort" not in (await server.client.put(f"{services}/s", json=plain)).json()["spec"]["ports"][0]


async def test_cluster_info_and_pruning(server: Running) -> None:
    assert "is running at" in (await server.kubectl("cluster-info")).out
    first = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {of: me}}\n"
    await server.kubectl("apply", "-f", "-", stdin=f"{first}---\n{first.replace('a,', 'b,')}")
    done = await server.kubectl("apply", "--prune", "-l", "of=me", "-f", "-", stdin=first)
    assert "configmap/b pruned" in done.out


async def test_kinds_that_are_always_empty(server: Running) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await server.client.get(path)).json()["items"] == []
    message = is_status(await server.client.post(path, json={"metadata": {"name": "x"}}), 405, "MethodNotAllowed")
    assert "put the program into a VirtualMachine" in message


async def test_each_namespace_has_its_account(server: Running) -> None:
    await server.post("/api/v1/namespaces", {"metadata": {"name": "work"}})
    for namespace in ("default", "work"):
        answer = await server.client.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        assert answer.status_code == 200
    await server.client.delete("/api/v1/namespaces/work")
    await server.gone("/api/v1/namespaces/work")


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_what_is_done_to_containers_is_named_for_machines(server: Running, subresource: str) -> None:
    await server.post(PODS, pod("p"))
    path = f"{PODS}/p/{subresource}"
    assert "polyvisor" in is_status(await server.client.post(path), 404, "NotFound")
    with pytest.raises(InvalidStatus) as caught:
        async with connect(
            f"wss://127.0.0.1:{server.port}{path}",
            additional_headers={"authorization": server.client.headers["authorization"]},
            ssl=server.client._transport._pool._ssl_context,  # type: ignore[attr-defined]
        ):
            pass
    assert caught.value.response.status_code == 404
    assert "polyvisor" in json.loads(caught.value.response.body or b"{}")["message"]


async def test_kubectl_exec_says_what_to_use(server: Running) -> None:
    await server.post(PODS, pod("p"))
    done = await server.kubectl("exec", "p", "--", "true", check=False)
    assert done.code != 0
    assert "polyvisor console" in done.err


async def test_discovery_names_log_and_eviction(server: Running) -> None:
    listed = {one["name"]: one for one in (await server.client.get("/api/v1")).json()["resources"]}
    assert listed["pods/log"]["verbs"] == ["get"]
    assert (listed["pods/eviction"]["group"], listed["pods/eviction"]["kind"]) == ("policy", "Eviction")


async def test_unknown_fields_at_every_depth(server: Running) -> None:
    """They are never stored; a client that asks for strictness is refused, and one that does not is warned."""
    body = pod("p")
    body["spec"]["containers"][0]["imagePulPolicy"] = "Never"
    body["metadata"]["label"] = {}
    answer = await server.client.post(f"{PODS}?fieldValidation=Strict", json=body)
    message = is_status(answer, 400, "BadRequest")
    assert 'unknown field "spec.containers[0].imagePulPolicy" (did you mean "imagePullPolicy"?)' in message
    assert 'unknown field "metadata.label"' in message
    answer = await server.client.post(PODS, json=body)
    assert "imagePulPolicy" in answer.headers["warning"]
    assert "imagePulPolicy" not in answer.json()["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            PODS,
            {"metadata": {"name": "p"}, "spec": {"containers": {}}},
            "spec.containers: must be a list, not an object",
        ),
        (PODS, {"metadata": {"name": "p"}, "spec": {"hostNetwork": "yes"}}, "spec.hostNetwork: must be true or false"),
        (CLAIMS, claim("much"), "spec.resources.requests.storage: must be a quantity such as .* not 'much'"),
        (CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"a": 1}}, "data.a: must be a string, not 1"),
        (SECRETS, {"metadata": {"name": "s"}, "data": {"a": "?"}}, "data.a: must be base64"),
    ],
)
async def test_values_of_a_wrong_type(server: Running, path: str, body: Obj, message: str) -> None:
    found = is_status(await server.client.post(path, json=body), 400, "BadRequest")
    assert re.search(message, found), found


async def test_pods_get_kubernetes_defaults(server: Running) -> None:
    spec = (await server.post(PODS, pod("p")))["spec"]
    assert spec["enableServiceLinks"] is True
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert spec["containers"][0]["terminationMessagePath"] == "/dev/termination-log"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metadata": {"name": "c"}, "spec": {}}, "spec.accessModes"),
        (claim(None), "spec.resources.requests.storage"),
        (claim("0"), "spec.resources.requests.storage"),
        (claim(modes=["ReadWriteEverywhere"]), "spec.accessModes[0]"),
        (claim(modes=["ReadWriteOncePod", "ReadWriteOnce"]), "spec.accessModes"),
        (claim(volumeMode="Object"), "spec.volumeMode"),
        (claim(storageClassName="Not_A_Name"), "spec.storageClassName"),
    ],
)
async def test_claims_that_mean_nothing(server: Running, body: Obj, field: str) -> None:
    assert field in causes(await server.client.post(CLAIMS, json=body))


async def test_a_claim_changes_in_size_alone_and_upwards(server: Running) -> None:
    await server.post(CLAIMS, claim())

    async def patch(**spec: Any) -> httpx.Response:
        return await server.client.patch(f"{CLAIMS}/c", json={"spec": spec}, headers=MERGE)

    size = "spec.resources.requests.storage"
    assert "cannot be less than the present 1Gi" in causes(await patch(resources={"requests": {"storage": "1G"}}))[size]
    assert "spec.accessModes" in causes(await patch(accessModes=["ReadWriteMany"]))
    assert (await patch(resources={"requests": {"storage": "2Gi"}})).status_code == 200


async def test_keys_and_sizes_of_data(server: Running) -> None:
    found = causes(await server.client.post(CONFIGMAPS, json=configmap("c", {"a/b": "", "..x": "", "ok": ""})))
    assert set(found) == {"data[a/b]", "data[..x]"}
    text = "x" * (512 * 1024)
    assert (
        "at most 1048576"
        in causes(await server.client.post(CONFIGMAPS, json=configmap("c", {"a": text, "b": text + "y"})))[""]
    )
    assert (await server.client.post(CONFIGMAPS, json=configmap("c", {"a": text, "b": text}))).status_code == 201


async def test_secrets_have_what_their_type_promises(server: Running) -> None:
    body: Obj = {"metadata": {"name": "s"}, "type": "kubernetes.io/tls"}
    assert set(causes(await server.client.post(SECRETS, json=body))) == {"data[tls.crt]", "data[tls.key]"}
    body["stringData"] = {"tls.crt": "c", "tls.key": "k"}
    made = await server.post(SECRETS, body)
    assert base64.b64decode(made["data"]["tls.key"]) == b"k"


async def test_finalizers_need_a_domain(server: Running) -> None:
    found = causes(await server.client.post(CONFIGMAPS, json=configmap("c", finalizers=["mine"])))
    assert "example.com/mine" in found["metadata.finalizers[0]"]


async def test_events_of_the_newer_group_are_the_same_events(server: Running) -> None:
    newer, core = (f"/{api}/namespaces/default/events" for api in ("apis/events.k8s.io/v1", "api/v1"))
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "words",
        "reason": "Tried",
        "type": "Normal",
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "action": "Try",
        "reportingController": "me",
    }
    made = await server.post(newer, body)
    assert {**made, "metadata": body["metadata"]} == body
    stored = (await server.client.get(f"{core}/e")).json()
    assert (stored["apiVersion"], stored["message"], stored["involvedObject"]["name"]) == ("v1", "words", "p")
    assert stored["reportingComponent"] == "me"
    answer = await server.client.patch(f"{newer}/e", json={"note": "other"}, headers=MERGE)
    assert answer.json()["note"] == "other"
    assert (await server.client.get(newer)).json()["items"][0]["note"] == "other"
    async with server.watch(f"{newer}?watch=1&resourceVersion=0") as read:
        assert (await read())["object"]["regarding"]["name"] == "p"
    listed = (await server.client.get("/apis/events.k8s.io/v1")).json()["resources"]
    assert [one["name"] for one in listed] == ["events"]
    assert "e" in (await server.kubectl("get", "events.events.k8s.io", "-o", "name")).out


def test_the_table_of_fields_is_part_of_the_package() -> None:
    import polyvisor.standalone.apiserver.protobuf as package

    assert (Path(package.__file__).parent / "messages.tsv").is_file()
