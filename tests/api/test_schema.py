from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api.resources import KUBEVIRTS, RESOURCES, VMIS, VMS, Resource, find
from polyvisor.api.schema import crd, openapi_schema

OURS = [r for r in RESOURCES if r.custom]


def walk(schema: Any, path: str = "") -> list[str]:
    """Return where a schema breaks the rules for structural schemas."""
    wrong = []
    if isinstance(schema, dict) and not {
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
    } & set(schema):
        wrong.append(f"{path}: no type")
    for key in ("$ref", "oneOf", "allOf", "not", "default"):
        if key in schema:
            wrong.append(f"{path}: {key}")
    for name, item in schema.get("properties", {}).items():
        wrong += walk(item, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            wrong += walk(schema[key], f"{path}[]")
    for name in schema.get("required", []):
        if name not in schema.get("properties", {}):
            wrong.append(f"{path}: requires {name}, which is not there")
    return wrong


@pytest.mark.parametrize("resource", OURS, ids=lambda r: r.kind)
def test_schemas_are_structural(resource: Resource) -> None:
    schema = crd(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert walk(schema) == []
    assert schema["properties"]["metadata"] == {"type": "object"}


def test_a_crd_says_what_the_table_says() -> None:
    spec = crd(VMS)["spec"]
    assert spec["names"]["shortNames"] == ["vm", "vms"]
    assert spec["names"]["categories"] == ["all"]
    assert spec["versions"][0]["subresources"] == {"status": {}}
    assert "subresources" not in crd(VMIS)["spec"]["versions"][0]
    columns = {c["name"]: c for c in crd(VMIS)["spec"]["versions"][0]["additionalPrinterColumns"]}
    assert columns["Hypervisor"] == {
        "name": "Hypervisor",
        "type": "string",
        "jsonPath": ".status.hypervisor.driver",
        "priority": 1,
    }


def test_quantities_values_and_descriptions_are_in_the_schema() -> None:
    spec = openapi_schema("VirtualMachineInstance")["properties"]["spec"]["properties"]
    guest = spec["domain"]["properties"]["memory"]["properties"]["guest"]
    assert guest["x-kubernetes-int-or-string"] is True
    assert "anyOf" in guest
    disk = spec["domain"]["properties"]["devices"]["properties"]["disks"]["items"]
    assert disk["required"] == ["name"]
    assert disk["properties"]["cache"]["enum"] == ["none", "writethrough", "writeback"]
    for field in spec["hypervisor"]["properties"].values():
        assert field["description"]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.kind)
def test_every_kind_has_a_schema(resource: Resource) -> None:
    schema = openapi_schema(resource.kind)
    assert {"apiVersion", "kind", "metadata"} <= set(schema["properties"])


@pytest.mark.parametrize("resource", OURS, ids=lambda r: r.kind)
def test_older_versions_are_served_with_the_same_fields(resource: Resource) -> None:
    stored, *older = crd(resource)["spec"]["versions"]
    assert stored["storage"]
    assert tuple(one["name"] for one in older) == resource.also_served
    for one in older:
        assert {**one, "name": stored["name"], "storage": True} == stored


def test_resources_are_found_by_any_of_their_names() -> None:
    for word in ("vm", "vms", "VirtualMachine", "virtualmachines", "virtualmachines.kubevirt.io"):
        assert find(word) is VMS
    assert find("kv") is KUBEVIRTS
    assert find("virtualmachines.example.org") is None
    assert VMS.path("a", "b", "status") == "/apis/kubevirt.io/v1/namespaces/a/virtualmachines/b/status"
