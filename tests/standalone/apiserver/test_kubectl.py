"""Every verb that a user types, through a real kubectl."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from .conftest import CONFIGMAPS, PODS, VMI, Running, configmap, pod, vmi


def manifest(name: str = "web", memory: str = "64Mi", labels: str = "{app: web}") -> str:
    return f"""
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {{name: {name}, labels: {labels}}}
spec: {{domain: {{devices: {{}}, resources: {{requests: {{memory: {memory}}}}}}}}}
"""


async def test_get_shows_the_columns_of_each_kind(server: Running) -> None:
    await server.kubectl("apply", "-f", "-", stdin=manifest())
    plain = (await server.kubectl("get", "vmi")).out.splitlines()
    assert plain[0].split() == ["NAME", "AGE", "PHASE", "IP", "NODENAME", "READY"]
    assert plain[1].split()[0] == "web"
    wide = (await server.kubectl("get", "vmi", "-A", "-o", "wide")).out.splitlines()
    assert wide[0].split()[-3:] == ["HYPERVISOR", "LIVE-MIGRATABLE", "PAUSED"]
    assert wide[0].split()[0] == "NAMESPACE"
    assert (await server.json("get", "vmi", "web"))["metadata"]["name"] == "web"
    assert "memory: 64Mi" in (await server.kubectl("get", "vmi", "web", "-o", "yaml")).out
    several = (await server.kubectl("get", "vm,vmi,pods,nodes", "-A", "-o", "wide")).out
    assert "virtualmachineinstance.kubevirt.io/web" in several


async def test_selectors(server: Running) -> None:
    await server.post(PODS, pod("one", labels={"app": "a"}))
    await server.post(PODS, pod("two", labels={"app": "b"}))

    async def names(*args: str) -> list[str]:
        return (await server.kubectl("get", "pods", "-o", "name", *args)).out.split()

    assert await names("-l", "app=a") == ["pod/one"]
    assert await names("-l", "app!=a") == ["pod/two"]
    assert await names("-l", "app in (a,b)") == ["pod/one", "pod/two"]
    assert await names("-l", "!app") == []
    assert await names("--field-selector", "metadata.name=two") == ["pod/two"]
    assert await names("--field-selector", "status.phase=Pending,metadata.name!=two") == ["pod/one"]


async def test_client_side_apply_changes_and_removes(server: Running) -> None:
    assert "created" in (await server.kubectl("apply", "-f", "-", stdin=manifest())).out
    assert "unchanged" in (await server.kubectl("apply", "-f", "-", stdin=manifest())).out
    done = await server.kubectl("apply", "-f", "-", stdin=manifest(memory="128Mi", labels="{other: x}"))
    assert "configured" in done.out
    found = await server.json("get", "vmi", "web")
    assert found["metadata"]["labels"] == {"other": "x"}
    assert found["spec"]["domain"]["resources"]["requests"]["memory"] == "128Mi"
    assert found["metadata"]["generation"] == 2


async def test_client_side_apply_of_core_kinds_is_strategic(server: Running, tmp_path: Path) -> None:
    def text(images: dict[str, str]) -> str:
        containers = [{"name": name, "image": image} for name, image in images.items()]
        return json.dumps({**pod("web"), "spec": {"containers": containers}})

    await server.kubectl("apply", "-f", "-", stdin=text({"a": "one", "b": "two"}))
    extra = {"spec": {"containers": [{"name": "b", "env": [{"name": "K", "value": "v"}]}]}}
    await server.kubectl("patch", "pod", "web", "-p", json.dumps(extra))
    await server.kubectl("apply", "-f", "-", stdin=text({"a": "one", "b": "three"}))
    containers = (await server.json("get", "pod", "web"))["spec"]["containers"]
    assert [(one["name"], one["image"]) for one in containers] == [("a", "one"), ("b", "three")]
    assert containers[1]["env"] == [{"name": "K", "value": "v"}]
    await server.kubectl("apply", "-f", "-", stdin=text({"b": "three"}))
    assert [one["name"] for one in (await server.json("get", "pod", "web"))["spec"]["containers"]] == ["b"]


async def test_server_side_apply_and_its_conflicts(server: Running) -> None:
    await server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest())
    other = manifest(memory="1Gi")
    refused = await server.kubectl(
        "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other, check=False
    )
    assert refused.code != 0
    assert 'conflict with "kubectl"' in refused.err
    assert ".spec.domain.resources.requests.memory" in refused.err
    await server.kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=other)
    found = await server.json("get", "vmi", "web", "--show-managed-fields")
    assert found["spec"]["domain"]["resources"]["requests"]["memory"] == "1Gi"
    owners = {entry["manager"]: json.dumps(entry["fieldsV1"]) for entry in found["metadata"]["managedFields"]}
    assert "f:memory" in owners["other"]
    assert "f:memory" not in owners["kubectl"]


async def test_server_side_apply_after_client_side(server: Running) -> None:
    await server.kubectl("apply", "-f", "-", stdin=manifest())
    await server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest(memory="96Mi"))
    await server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest(memory="96Mi", labels="{}"))
    found = await server.json("get", "vmi", "web")
    assert found["spec"]["domain"]["resources"]["requests"]["memory"] == "96Mi"
    assert not found["metadata"].get("labels")


async def test_create_of_typed_kinds(server: Running) -> None:
    await server.kubectl("create", "configmap", "settings", "--from-literal=a=b")
    await server.kubectl("create", "secret", "generic", "key", "--from-literal=p=w\u00e4")
    await server.kubectl("create", "namespace", "team")
    assert (await server.json("get", "configmap", "settings"))["data"] == {"a": "b"}
    assert (await server.json("get", "secret", "key"))["data"] == {"p": "d8Ok"}
    listed = (await server.kubectl("get", "cm,secret,ns")).out
    assert "Opaque" in listed
    assert "team" in listed
    again = await server.kubectl("create", "configmap", "settings", check=False)
    assert 'configmaps "settings" already exists' in again.err


async def test_patch_in_three_ways(server: Running) -> None:
    await server.post(VMI, vmi("web"))
    await server.kubectl("patch", "vmi", "web", "--type=merge", "-p", '{"metadata":{"labels":{"a":"1"}}}')
    operations = (
        '[{"op":"test","path":"/metadata/labels/a","value":"1"},{"op":"add","path":"/spec/hostname","value":"h"}]'
    )
    await server.kubectl("patch", "vmi", "web", "--type=json", "-p", operations)
    found = await server.json("get", "vmi", "web")
    assert (found["metadata"]["labels"], found["spec"]["hostname"]) == ({"a": "1"}, "h")
    refused = await server.kubectl("patch", "vmi", "web", "-p", "{}", check=False)
    assert "UnsupportedMediaType" in refused.err or "unknown format" in refused.err
    failed = await server.kubectl(
        "patch", "vmi", "web", "--type=json", "-p", '[{"op":"remove","path":"/spec/nothing"}]', check=False
    )
    assert failed.code != 0


async def test_label_annotate_and_edit(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await server.post(VMI, vmi("web"))
    await server.kubectl("label", "vmi", "web", "tier=front")
    await server.kubectl("annotate", "vmi", "web", "note=yes")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/64Mi/80Mi/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setitem(os.environ, "KUBE_EDITOR", str(editor))
    assert "edited" in (await server.kubectl("edit", "vmi", "web")).out
    found = await server.json("get", "vmi", "web")
    assert found["metadata"]["labels"] == {"tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "yes"
    assert found["spec"]["domain"]["resources"]["requests"]["memory"] == "80Mi"


async def test_get_watch_follows_changes(server: Running) -> None:
    await server.post(VMI, vmi("web"))
    process = await server.spawn("get", "vmi", "-w", "--no-headers", "-o", "custom-columns=P:.status.phase")
    table = await server.spawn("get", "vmi", "-w")
    try:
        assert process.stdout
        assert table.stdout
        async with asyncio.timeout(20):
            assert (await process.stdout.readline()).decode().strip() == "<none>"
            assert b"PHASE" in await table.stdout.readline()
            assert b"web" in await table.stdout.readline()
            merge = {"content-type": "application/merge-patch+json"}
            await server.client.patch(f"{VMI}/web", content='{"status":{"phase":"Running"}}', headers=merge)
            assert (await process.stdout.readline()).decode().strip() == "Running"
            assert b"Running" in await table.stdout.readline()
    finally:
        for one in (process, table):
            one.kill()
            await one.communicate()


async def test_wait_for_condition_and_for_delete(server: Running) -> None:
    await server.post(VMI, vmi("web"))
    waiting = asyncio.create_task(server.kubectl("wait", "vmi/web", "--for=condition=Ready", "--timeout=20s"))
    merge = {"content-type": "application/merge-patch+json"}
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await server.client.patch(f"{VMI}/web", content=json.dumps(status), headers=merge)
    assert "condition met" in (await waiting).out
    waiting = asyncio.create_task(server.kubectl("wait", "vmi/web", "--for=delete", "--timeout=20s"))
    await server.kubectl("delete", "vmi", "web")
    assert (await waiting).code == 0
    late = await server.kubectl("wait", "vmi/none", "--for=condition=Ready", "--timeout=1s", check=False)
    assert late.code != 0


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
async def test_delete_cascades(server: Running, cascade: str) -> None:
    owner = await server.post(VMI, vmi("web"))
    reference = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "name": "web",
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    await server.post(CONFIGMAPS, configmap("owned", ownerReferences=[reference]))
    await server.kubectl("delete", "vmi", "web", f"--cascade={cascade}")
    assert (await server.client.get(f"{VMI}/web")).status_code == 404
    if cascade == "orphan":
        kept = (await server.client.get(f"{CONFIGMAPS}/owned")).json()
        assert "ownerReferences" not in kept["metadata"]
    elif cascade == "foreground":
        assert (await server.client.get(f"{CONFIGMAPS}/owned")).status_code == 404
    else:
        await server.gone(f"{CONFIGMAPS}/owned")


async def test_delete_waits_for_finalizers(server: Running) -> None:
    await server.post(VMI, vmi("web", finalizers=["example.org/hold"]))
    deleting = asyncio.create_task(server.kubectl("delete", "vmi", "web"))
    async with server.watch(f"{VMI}?watch=1") as read:
        while not (await read())["object"]["metadata"].get("deletionTimestamp"):
            pass
    assert not deleting.done()
    await server.kubectl("patch", "vmi", "web", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "deleted" in (await deleting).out


async def test_delete_all_of_a_kind_and_force(server: Running) -> None:
    for name in ("a", "b"):
        await server.post(PODS, pod(name))
    await server.kubectl("delete", "pods", "--all")
    assert (await server.json("get", "pods"))["items"] == []
    await server.post(PODS, {**pod("c"), "spec": {**pod("c")["spec"], "nodeName": "n"}})
    await server.kubectl("delete", "pod", "c", "--force", "--grace-period=0")
    assert (await server.client.get(f"{PODS}/c")).status_code == 404


async def test_explain(server: Running) -> None:
    told = (await server.kubectl("explain", "vmi.spec.domain.cpu")).out
    assert "cores" in told
    assert "GROUP:      kubevirt.io" in told
    assert "nodeName" in (await server.kubectl("explain", "pod.spec")).out
    unknown = await server.kubectl("explain", "vmi.spec.nothing", check=False)
    assert 'field "nothing" does not exist' in unknown.err


async def test_describe_shows_events(server: Running) -> None:
    made = await server.post(VMI, vmi("web"))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "web."},
        "involvedObject": {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "namespace": "default",
            "name": "web",
            "uid": made["metadata"]["uid"],
        },
        "reason": "Started",
        "message": "it runs",
        "type": "Normal",
        "count": 1,
        "firstTimestamp": made["metadata"]["creationTimestamp"],
        "lastTimestamp": made["metadata"]["creationTimestamp"],
    }
    await server.post("/api/v1/namespaces/default/events", event)
    told = (await server.kubectl("describe", "vmi", "web")).out
    assert "it runs" in told
    assert "Started" in told
    assert "virtualmachineinstance/web" in (await server.kubectl("get", "events")).out
    assert "it runs" in (await server.kubectl("events", "--for=vmi/web", check=False)).out


async def test_describe_of_core_kinds(server: Running) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}
    await server.post("/api/v1/nodes", node)
    await server.post(PODS, {**pod("p"), "spec": {**pod("p")["spec"], "nodeName": "n"}})
    assert "Non-terminated Pods" in (await server.kubectl("describe", "node", "n")).out
    assert "compute" in (await server.kubectl("describe", "pod", "p")).out
    assert "Status:       Active" in (await server.kubectl("describe", "ns", "default")).out


async def test_api_resources_versions_and_version(server: Running) -> None:
    kinds = (await server.kubectl("api-resources")).out
    assert "vmi,vmis" in kinds
    assert "kubevirt.io/v1" in (await server.kubectl("api-versions")).out
    assert "Server Version: v1.37" in (await server.kubectl("version")).out
    assert (await server.kubectl("auth", "can-i", "create", "vmi")).out.strip() == "yes"
    assert (await server.kubectl("get", "crd", "virtualmachines.kubevirt.io")).code == 0
    assert (await server.kubectl("get", "--raw", "/readyz")).out == "ok"


async def test_namespaces(server: Running) -> None:
    refused = await server.kubectl("apply", "-n", "nowhere", "-f", "-", stdin=manifest(), check=False)
    assert 'namespaces "nowhere" not found' in refused.err
    await server.kubectl("create", "namespace", "team")
    await server.kubectl("apply", "-n", "team", "-f", "-", stdin=manifest())
    await server.kubectl("delete", "namespace", "team")
    assert (await server.client.get("/api/v1/namespaces/team")).status_code == 404
    assert (await server.json("get", "vmi", "-A"))["items"] == []


async def test_dry_run_and_diff(server: Running) -> None:
    await server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest())
    assert (await server.client.get(f"{VMI}/web")).status_code == 404
    await server.kubectl("apply", "-f", "-", stdin=manifest())
    changed = await server.kubectl("diff", "-f", "-", stdin=manifest(memory="1Gi"), check=False)
    assert changed.code == 1
    assert "+        memory: 1Gi" in changed.out
    await server.kubectl("delete", "vmi", "web", "--dry-run=server")
    assert (await server.client.get(f"{VMI}/web")).status_code == 200


async def test_replace_and_field_validation(server: Running) -> None:
    await server.kubectl("create", "configmap", "c", "--from-literal=a=b")
    found = await server.json("get", "cm", "c")
    await server.kubectl("replace", "-f", "-", stdin=json.dumps({**found, "data": {"a": "c"}}))
    stale = await server.kubectl("replace", "-f", "-", stdin=json.dumps({**found, "data": {}}), check=False)
    assert "the object has been modified" in stale.err
    wrong = json.dumps({**configmap("d"), "dta": {}})
    refused = await server.kubectl("create", "-f", "-", stdin=wrong, check=False)
    assert 'unknown field "dta"' in refused.err
    warned = await server.kubectl("create", "--validate=warn", "-f", "-", stdin=wrong)
    assert "Warning: unknown field" in warned.err


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}
"""


async def test_workloads_are_refused_with_what_to_do_instead(server: Running) -> None:
    """Whether kubectl sends protobuf, checks the fields itself, or leaves that to the server."""
    for words in (
        ["create", "deployment", "web", "--image=i"],
        ["apply", "-f", "-"],
        ["apply", "--server-side", "-f", "-"],
        ["create", "-f", "-"],
    ):
        done = await server.kubectl(*words, stdin=DEPLOYMENT, check=False)
        assert "put the program into a VirtualMachine" in done.err, words


async def test_who_am_i(server: Running) -> None:
    assert "admin" in (await server.kubectl("auth", "whoami")).out


async def test_tokens_are_refused_with_where_the_users_is(server: Running) -> None:
    await server.kubectl("create", "serviceaccount", "bot")
    done = await server.kubectl("create", "token", "bot", check=False)
    assert "polyvisor kubeconfig" in done.err
