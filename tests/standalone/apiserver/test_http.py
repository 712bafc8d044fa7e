"""The API over HTTP: codes, Status objects, versions, pages, subresources."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
import yaml
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from polyvisor.api.problems import Problem
from polyvisor.standalone.apiserver import Store, create_app

from .conftest import CONFIGMAPS, MERGE, PODS, VM, VMI, Obj, Running, configmap, is_status, pod, vmi
from .test_store import limit_pages


async def test_requests_without_the_token_are_refused(server: Running) -> None:
    for header in ("", "Bearer", "Bearer wrong", "Basic abc"):
        answer = await server.client.get(VMI, headers={"authorization": header})
        is_status(answer, 401, "Unauthorized")
    assert (await server.client.get("/healthz", headers={"authorization": ""})).text == "ok"


async def test_extra_routes_are_served_behind_the_token(store: Store) -> None:
    async def hello(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = create_app(store, ["t"], extra_routes=[Route("/apis/subresources.kubevirt.io/v1/x", hello)])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        path = "/apis/subresources.kubevirt.io/v1/x"
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers={"authorization": "Bearer t"})).text == "hello"


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/things", "/apis/none.io/v1/x", "/api/v2", f"{VMI}/a/b", "/apis/x"]
)
async def test_unknown_paths(server: Running, path: str) -> None:
    is_status(await server.client.get(path), 404, "NotFound")


async def test_unusable_bodies(server: Running) -> None:
    async def post(body: bytes, kind: str = "application/json") -> httpx.Response:
        return await server.client.post(CONFIGMAPS, content=body, headers={"content-type": kind})

    is_status(await post(b"{"), 400, "BadRequest")
    is_status(await post(b"a: [", "application/yaml"), 400, "BadRequest")
    is_status(await post(b"a: &x 1\nb: *x", "application/yaml"), 400, "BadRequest")
    is_status(await post(b"[" * 5000 + b"]" * 5000), 400, "BadRequest")
    is_status(await post(b'{"metadata":{"name":"x"},"data":{"a":NaN}}'), 400, "BadRequest")
    is_status(await post(b"[]"), 400, "BadRequest")
    is_status(await post(b"x", "application/cbor"), 415, "UnsupportedMediaType")
    is_status(await post(b"x" * (3 * 1024 * 1024 + 1)), 413, "RequestEntityTooLarge")
    is_status(await post(json.dumps(pod("x")).encode()), 400, "BadRequest")
    assert (await server.client.get(CONFIGMAPS)).json()["items"] == []
    assert (await post(b"metadata: {name: y}\ndata: {k: v}", "application/yaml")).status_code == 201


async def test_accept(server: Running) -> None:
    await server.post(PODS, pod("p"))

    async def kind(accept: str, path: str = PODS) -> str:
        answer = await server.client.get(path, headers={"accept": accept})
        assert answer.status_code == 200, answer.text
        return answer.headers["content-type"]

    protobuf = "application/vnd.kubernetes.protobuf"
    assert await kind(f"{protobuf},application/json") == protobuf
    assert await kind(f"{protobuf};q=0.5,application/json") == "application/json"
    assert await kind(f"{protobuf},application/json", VMI) == "application/json"
    assert await kind("text/html,*/*") == "application/json"
    assert await kind("application/yaml") == "application/yaml"
    answer = await server.client.get(f"{PODS}/p", headers={"accept": "application/yaml"})
    assert yaml.safe_load(answer.text)["kind"] == "Pod"
    wanted = {"accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    found = (await server.client.get(PODS, headers=wanted)).json()
    assert found["kind"] == "PartialObjectMetadataList"
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


@pytest.mark.parametrize("accept", ["text/plain", "application/cbor", "application/json;q=0", "application/json;as=X"])
async def test_forms_that_cannot_be_answered(server: Running, accept: str) -> None:
    """A refusal comes before the write."""
    message = is_status(await server.client.get(PODS, headers={"accept": accept}), 406, "NotAcceptable")
    assert "application/json, application/yaml, application/vnd.kubernetes.protobuf" in message
    is_status(await server.client.post(PODS, json=pod("p"), headers={"accept": accept}), 406, "NotAcceptable")
    assert (await server.client.get(PODS)).json()["items"] == []


async def test_bodies_in_other_forms(server: Running) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/merge-patch+json"):
        answer = await server.client.post(CONFIGMAPS, content=b"{}", headers={"content-type": kind})
        is_status(answer, 415, "UnsupportedMediaType")


async def test_of_a_repeated_parameter_the_first_counts(server: Running) -> None:
    await server.post(PODS, pod("one"))
    query = "fieldSelector=metadata.name%3Done&fieldSelector=metadata.name%3Dtwo"
    assert len((await server.client.get(f"{PODS}?{query}")).json()["items"]) == 1


async def test_fields_that_a_kind_cannot_be_selected_by(server: Running) -> None:
    """A selector that matched everything would delete everything."""
    await server.post(PODS, pod("one"))
    answer = await server.client.delete(f"{PODS}?fieldSelector=spec.priority%3D1")
    message = is_status(answer, 400, "BadRequest")
    assert "field label not supported: spec.priority" in message
    assert "spec.nodeName" in message
    is_status(await server.client.get(f"{VMI}?fieldSelector=status.phase%3DRunning"), 400, "BadRequest")
    assert len((await server.client.get(PODS)).json()["items"]) == 1


@pytest.mark.parametrize("header", ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-a"])
async def test_nobody_is_impersonated(server: Running, header: str) -> None:
    """A request that claims to be somebody with less rights must not be answered with all of them."""
    message = is_status(await server.client.get(PODS, headers={header: "joe"}), 403, "Forbidden")
    assert "--as" in message


async def test_answers_are_not_cached(server: Running) -> None:
    for path in (PODS, "/version", "/nothing"):
        assert (await server.client.get(path)).headers["cache-control"] == "no-cache, private"


async def test_who_am_i(server: Running) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await server.client.post(
        path, json={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    )
    assert answer.status_code == 201
    assert answer.json()["status"]["userInfo"]["username"] == "admin"


async def test_a_field_that_is_null_is_a_field_left_out(server: Running) -> None:
    """As in Kubernetes; Ansible's modules send what they do not set, and find later that it has changed."""
    sent = vmi("a", labels=None)
    sent["spec"]["domain"]["cpu"] = None
    made = await server.post(VMI, sent)
    assert "cpu" not in made["spec"]["domain"]
    assert "labels" not in made["metadata"]
    again = await server.client.patch(f"{VMI}/a", json={"spec": {"domain": {"cpu": None}}}, headers=MERGE)
    assert again.json()["metadata"]["generation"] == 1
    put = await server.client.put(f"{VMI}/a", json={**made, "spec": {**made["spec"], "hostname": None}})
    assert put.json()["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_admit_hook(server: Running) -> None:
    server.hook.problems = [Problem("spec.domain", "wrong", "FieldValueInvalid"), Problem("spec.x", "unknown")]
    answer = await server.client.post(VMI, json=vmi("a"))
    is_status(answer, 422, "Invalid")
    cause = {"field": "spec.domain", "message": "wrong", "reason": "FieldValueInvalid"}
    assert answer.json()["details"]["causes"][0] == cause
    assert (await server.client.get(f"{VMI}/a")).status_code == 404
    server.hook.problems = []
    server.hook.warnings = ['care "now"']
    server.hook.change = lambda obj: {**obj, "spec": {**obj["spec"], "hostname": "set"}}
    answer = await server.client.post(VMI, json=vmi("a"))
    assert answer.headers["warning"] == '299 - "care \\"now\\""'
    assert answer.json()["spec"]["hostname"] == "set"
    await server.client.delete(f"{VMI}/a")
    calls = [one for one in server.hook.calls if one[1] == "virtualmachineinstances"]
    assert calls == [("CREATE", "virtualmachineinstances")] * 2 + [("DELETE", "virtualmachineinstances")]


async def test_what_the_server_sets(server: Running) -> None:
    made = await server.post(VMI, vmi("a", uid="mine", creationTimestamp="2001-01-01T00:00:00Z", generation=7))
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] > "2020"
    assert metadata["generation"] == 1
    generated = await server.post(CONFIGMAPS, configmap("", generateName="pre-"))
    assert generated["metadata"]["name"].startswith("pre-")
    assert len(generated["metadata"]["name"]) == 9
    is_status(await server.client.post(VMI, json=vmi("a")), 409, "AlreadyExists")
    is_status(await server.client.post(VMI, json=vmi("z", resourceVersion="5")), 400, "BadRequest")
    is_status(await server.client.post("/api/v1/namespaces/none/pods", json=pod("a")), 404, "NotFound")
    is_status(await server.client.post(PODS, json=pod("a", namespace="other")), 400, "BadRequest")


async def test_generation_follows_the_spec_alone(server: Running) -> None:
    await server.post(VMI, vmi("a"))

    async def generation(patch: Obj) -> int:
        found: int = (await server.client.patch(f"{VMI}/a", json=patch, headers=MERGE)).json()["metadata"]["generation"]
        return found

    assert await generation({"status": {"phase": "Running"}}) == 1
    assert await generation({"metadata": {"labels": {"a": "b"}}}) == 1
    assert await generation({"spec": {"hostname": "h"}}) == 2
    assert await generation({"spec": {"hostname": "h"}}) == 2


async def test_versions_guard_updates(server: Running) -> None:
    first = await server.post(CONFIGMAPS, configmap("a", {"k": "1"}))
    path = f"{CONFIGMAPS}/a"
    second = (await server.client.put(path, json={**first, "data": {"k": "2"}})).json()
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    is_status(await server.client.put(path, json={**first, "data": {"k": "3"}}), 409, "Conflict")
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"k": "3"}}
    is_status(await server.client.patch(path, json=stale, headers=MERGE), 409, "Conflict")
    other = {**second, "metadata": {**second["metadata"], "uid": "x"}}
    is_status(await server.client.put(path, json=other), 409, "Conflict")
    unchanged = (await server.client.put(path, json=second)).json()
    assert unchanged["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert (await server.client.put(path, json=configmap("a", {"k": "4"}))).status_code == 200
    made = await server.post(VMI, vmi("v"))
    del made["metadata"]["resourceVersion"]
    is_status(await server.client.put(f"{VMI}/v", json=made), 422, "Invalid")


async def test_concurrent_patches_all_arrive(server: Running) -> None:
    await server.post(CONFIGMAPS, configmap("a"))
    patches = [server.client.patch(f"{CONFIGMAPS}/a", json={"data": {f"k{n}": "v"}}, headers=MERGE) for n in range(15)]
    assert {answer.status_code for answer in await asyncio.gather(*patches)} == {200}
    assert len((await server.client.get(f"{CONFIGMAPS}/a")).json()["data"]) == 15


async def test_status_is_apart(server: Running) -> None:
    vm = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "m"},
        "spec": {"running": True},
    }
    made = await server.post(VM, {**vm, "status": {"ready": True}})
    assert "status" not in made
    both = {**made, "spec": {"running": False}, "status": {"ready": True}}
    after = (await server.client.put(f"{VM}/m/status", json=both)).json()
    assert (after["spec"], after["status"]) == ({"running": True}, {"ready": True})
    assert after["metadata"]["generation"] == 1
    patched = (
        await server.client.patch(f"{VM}/m", json={"spec": {"running": False}, "status": None}, headers=MERGE)
    ).json()
    assert (patched["spec"], patched["status"]) == ({"running": False}, {"ready": True})
    assert patched["metadata"]["generation"] == 2
    is_status(await server.client.put(f"{VMI}/m/status", json=both), 404, "NotFound")


async def test_dry_run_changes_nothing(server: Running) -> None:
    rv = server.store.rv
    answer = await server.client.post(f"{CONFIGMAPS}?dryRun=All", json=configmap("a"))
    assert answer.status_code == 201
    assert server.store.rv == rv
    is_status(await server.client.post(f"{CONFIGMAPS}?dryRun=Some", json=configmap("a")), 400, "BadRequest")


async def test_field_validation(server: Running) -> None:
    body = b'{"metadata":{"name":"a","lables":{}},"data":{"k":"1","k":"2"}}'
    headers = {"content-type": "application/json"}
    strict = await server.client.post(f"{CONFIGMAPS}?fieldValidation=Strict", content=body, headers=headers)
    assert 'duplicate field "k"' in is_status(strict, 400, "BadRequest")
    warned = await server.client.post(f"{CONFIGMAPS}?fieldValidation=Warn", content=body, headers=headers)
    assert 'did you mean \\"labels\\"' in warned.headers["warning"]
    await server.client.delete(f"{CONFIGMAPS}/a")
    ignored = await server.client.post(f"{CONFIGMAPS}?fieldValidation=Ignore", content=body, headers=headers)
    assert "warning" not in ignored.headers


async def test_secrets_take_plain_text(server: Running) -> None:
    made = await server.post(
        "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    )
    assert (made["data"], made["type"]) == ({"a": "Yg=="}, "Opaque")
    assert "stringData" not in made
    bad = {"metadata": {"name": "t"}, "data": {"a": "not base64!"}}
    is_status(await server.client.post("/api/v1/namespaces/default/secrets", json=bad), 400, "BadRequest")


async def test_kinds_are_read_only(server: Running) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    listed = (await server.client.get(path)).json()["items"]
    assert "virtualmachines.kubevirt.io" in [one["metadata"]["name"] for one in listed]
    is_status(await server.client.delete(f"{path}/virtualmachines.kubevirt.io"), 405, "MethodNotAllowed")


async def test_a_full_disk_is_507_and_reading_goes_on(server: Running) -> None:
    await server.post(CONFIGMAPS, configmap("kept"))
    await limit_pages(server.store, 10)
    answer = await server.client.post(CONFIGMAPS, json=configmap("big", {"k": "x" * 500_000}))
    is_status(answer, 507, "InsufficientStorage")
    is_status(await server.client.get(f"{CONFIGMAPS}/big"), 404, "NotFound")
    assert (await server.client.get(f"{CONFIGMAPS}/kept")).status_code == 200


async def test_an_error_inside_is_a_status(server: Running) -> None:
    def broken(_: Obj) -> Obj:
        raise RuntimeError("oops")

    server.hook.change = broken
    is_status(await server.client.post(VMI, json=vmi("a")), 500, "InternalError")


async def test_discovery_is_consistent(server: Running) -> None:
    accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    aggregated = (await server.client.get("/apis", headers=accept)).json()
    assert aggregated["kind"] == "APIGroupDiscoveryList"
    new = {
        (item["metadata"]["name"], version["version"], resource["resource"])
        for item in aggregated["items"]
        for version in item["versions"]
        for resource in version["resources"]
    }
    old = set()
    for group in (await server.client.get("/apis")).json()["groups"]:
        for version in group["versions"]:
            listed = (await server.client.get(f"/apis/{version['groupVersion']}")).json()
            names = {one["name"] for one in listed["resources"] if "/" not in one["name"]}
            old |= {(group["name"], version["version"], name) for name in names}
    assert new == old
    assert ("kubevirt.io", "v1", "virtualmachines") in new


async def test_openapi_documents_are_whole(server: Running) -> None:
    index = (await server.client.get("/openapi/v3")).json()["paths"]
    document = (await server.client.get(index["apis/kubevirt.io/v1"]["serverRelativeURL"])).json()
    schema = document["components"]["schemas"]["io.kubevirt.v1.VirtualMachine"]
    assert schema["x-kubernetes-group-version-kind"] == [
        {"group": "kubevirt.io", "version": "v1", "kind": "VirtualMachine"}
    ]
    core = (await server.client.get("/openapi/v3/api/v1")).json()
    containers = core["components"]["schemas"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["properties"][
        "containers"
    ]
    assert containers["x-kubernetes-patch-merge-key"] == "name"


async def test_a_kind_is_the_same_at_its_older_version(server: Running) -> None:
    old = VM.replace("/v1/", "/v1alpha3/")
    body = {"apiVersion": "kubevirt.io/v1alpha3", "kind": "VirtualMachine", "metadata": {"name": "aged"}, "spec": {}}
    made = (await server.client.post(old, json=body)).json()
    assert (made["metadata"]["name"], made["apiVersion"]) == ("aged", "kubevirt.io/v1alpha3"), made
    assert (await server.client.get(f"{VM}/aged")).json()["apiVersion"] == "kubevirt.io/v1"
    listed = (await server.client.get(old)).json()
    assert listed["apiVersion"] == "kubevirt.io/v1alpha3"
    assert [one["apiVersion"] for one in listed["items"]] == ["kubevirt.io/v1alpha3"]
    merged = {"apiVersion": "kubevirt.io/v1alpha3", "metadata": {"labels": {"a": "b"}}}
    changed = (await server.client.patch(f"{old}/aged", json=merged, headers=MERGE)).json()
    assert (changed["apiVersion"], changed["metadata"]["labels"]) == ("kubevirt.io/v1alpha3", {"a": "b"})
    query = {"watch": "1", "timeoutSeconds": "1"}
    lines = (await server.client.get(old, params=query)).text.splitlines()
    assert [json.loads(line)["object"]["apiVersion"] for line in lines] == ["kubevirt.io/v1alpha3"]
    assert (await server.client.get(f"{VM}/aged")).json()["apiVersion"] == "kubevirt.io/v1"


async def test_a_patchs_test_takes_what_is_not_there_for_null(server: Running) -> None:
    await server.client.post(CONFIGMAPS, json=configmap("one"))
    headers = {"content-type": "application/json-patch+json"}

    async def patched(path: str) -> httpx.Response:
        steps = [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": {"a": "b"}}]
        return await server.client.patch(f"{CONFIGMAPS}/one", json=steps, headers=headers)

    assert (await patched("/metadata/annotations")).json()["metadata"]["annotations"] == {"a": "b"}
    assert (await patched("/metadata/annotations")).status_code == 422
    assert (await patched("/nowhere/annotations")).status_code == 422
    said = (await patched("/metadata/annotations")).json()["message"]
    assert "testing value /metadata/annotations failed" in said
    assert "class" not in said
    assert "{" not in said


@pytest.mark.parametrize("written", ["v2.v1.0", "v2@v1.0"])
async def test_the_second_version_of_openapi_has_a_media_type_that_go_parses(server: Running, written: str) -> None:
    """Go's mime.ParseMediaType takes the characters of RFC 2045's token, and ``@`` is none of them."""
    asked = f"application/com.github.proto-openapi.spec.{written}+protobuf"
    answer = await server.client.get("/openapi/v2", headers={"accept": asked})
    assert answer.headers["content-type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert answer.content.startswith(b"\x0a\x032.0")
    assert b"io.kubevirt.v1.VirtualMachine" in answer.content


async def test_the_second_version_of_openapi_is_whole(server: Running) -> None:
    document = (await server.client.get("/openapi/v2", headers={"accept": "application/json"})).json()
    kinds = {
        one["kind"]
        for schema in document["definitions"].values()
        for one in schema.get("x-kubernetes-group-version-kind", ())
    }
    assert {"VirtualMachine", "Pod", "ConfigMap", "DataVolume"} <= kinds
    text = json.dumps(document)
    assert '"anyOf": [' not in text
    references = set(re.findall(r'"\$ref": "([^"]*)"', text))
    assert {f"#/definitions/{name}" for name in document["definitions"]} >= references
    assert references
    patch = document["paths"]["/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}"]["patch"]
    assert {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": True} in patch["parameters"]
