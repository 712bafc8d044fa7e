"""What Kubernetes' aggregator is told of the subresources: both versions of OpenAPI, complete and consistent."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from polyvisor.server import openapi
from polyvisor.server.subresources_discovery import VERSIONS, resource_list, routes

Obj = dict[str, Any]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=[*openapi.routes(), *routes()]))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as found:
        yield found


def references(found: Any) -> set[str]:
    return set(re.findall(r'"\$ref": "#/(?:components/schemas|definitions)/([^"]+)"', json.dumps(found)))


def operations(document: Obj) -> list[Obj]:
    return [one for path in document["paths"].values() for one in path.values()]


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_subresource_of_the_discovery_is_described(client: httpx.AsyncClient, version: str) -> None:
    index = (await client.get("/openapi/v3")).json()["paths"]
    document = (await client.get(index[f"apis/subresources.kubevirt.io/{version}"]["serverRelativeURL"])).json()
    base = f"/apis/subresources.kubevirt.io/{version}/namespaces/{{namespace}}/"
    described = {path.removeprefix(base).replace("/{name}", ""): one for path, one in document["paths"].items()}
    for resource in resource_list(version)["resources"]:
        name, (verb,) = resource["name"], resource["verbs"]
        path = f"{name}/{{port}}" if name.endswith("portforward") else name
        assert set(described.pop(path)) == {"put" if verb == "update" else "get"}, name
    assert set(described) == {f"{kind}/portforward/{{port}}/{{protocol}}" for kind in KINDS}
    assert references(document) == set(document["components"]["schemas"])
    for path, found in document["paths"].items():
        named = [one["name"] for operation in found.values() for one in operation["parameters"]]
        assert named == re.findall(r"\{(\w+)\}", path)


KINDS = ("virtualmachines", "virtualmachineinstances")


async def test_version_2_has_the_same_paths_and_names_no_operation_twice(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi/v2", headers={"accept": "application/json"})).json()
    assert set(document["paths"]) == {path for version in VERSIONS for path in openapi.document(version)["paths"]}
    assert references(document) == set(document["definitions"])
    called = [one["operationId"] for one in operations(document)]
    assert len(set(called)) == len(called)
    for operation in operations(document):
        for parameter in operation["parameters"]:
            assert parameter["in"] == "body" or parameter["required"]


async def test_the_version_names_what_it_was_made_with(client: httpx.AsyncClient) -> None:
    found = (await client.get("/apis/subresources.kubevirt.io/v1/version")).json()
    assert set(found) == {
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    }
    assert found["compiler"].startswith("CPython ")
