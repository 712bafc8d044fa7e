"""All that is wrong with an object is said at once, whoever found it."""

from __future__ import annotations

import httpx
import pytest

from polyvisor.api.problems import Problem

from .conftest import CONFIGMAPS, MERGE, VMI, Running, configmap, is_status, vmi


@pytest.mark.parametrize("name", ["UPPER", "a_b", "-a", "a" * 254, "a/b", "..", ""])
async def test_names_are_checked(server: Running, name: str) -> None:
    answer = await server.client.post(CONFIGMAPS, json=configmap(name))
    is_status(answer, 422, "Invalid")
    assert answer.json()["details"]["causes"][0]["field"] == "metadata.name"


async def test_all_problems_of_metadata_at_once(server: Running) -> None:
    bad = configmap("Bad", labels={"a b": "x", "ok": "no spaces"}, finalizers=["?"], ownerReferences=[{"kind": "Pod"}])
    answer = await server.client.post(CONFIGMAPS, json=bad)
    is_status(answer, 422, "Invalid")
    fields = [cause["field"] for cause in answer.json()["details"]["causes"]]
    assert {
        "metadata.labels",
        "metadata.labels[ok]",
        "metadata.name",
        "metadata.finalizers[0]",
        "metadata.ownerReferences[0].uid",
    } <= set(fields)


async def test_problems_of_metadata_hide_no_others(server: Running) -> None:
    def causes(answer: httpx.Response) -> list[tuple[str, str]]:
        is_status(answer, 422, "Invalid")
        return [(cause["field"], cause["message"]) for cause in answer.json()["details"]["causes"]]

    server.hook.problems = [Problem("spec.domain", "wrong"), Problem("metadata.name", "said twice")]
    found = causes(await server.client.post(VMI, json=vmi("Bad", labels={"a b": "x"}, ownerReferences=["x"])))
    assert [field for field, _ in found].count("metadata.name") == 1
    assert ("metadata.name", "said twice") not in found
    fields = {field for field, _ in found}
    assert fields == {"metadata.name", "metadata.labels", "metadata.ownerReferences[0]", "spec.domain"}
    server.hook.problems = []
    await server.post(VMI, vmi("good"))
    server.hook.problems = [Problem("spec.domain", "wrong")]
    patch = {"metadata": {"labels": {"a b": "x"}}, "spec": {"hostname": "h"}}
    found = causes(await server.client.patch(f"{VMI}/good", json=patch, headers=MERGE))
    assert {field for field, _ in found} == {"metadata.labels", "spec.domain"}
    secret = {"metadata": {"name": "Bad"}, "data": {"..k": ""}}
    found = causes(await server.client.post("/api/v1/namespaces/default/secrets", json=secret))
    assert {field for field, _ in found} == {"metadata.name", "data[..k]"}
