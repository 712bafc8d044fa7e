"""Schemas from the models: structural ones for CRD manifests, and OpenAPI documents for ``kubectl explain``.

Both are the models' shapes written in OpenAPI v3. A structural schema may not describe ``metadata`` (Kubernetes does
that itself) and must be whole, without references, which is why types are written out in place.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import polyvisor.api
from polyvisor.api._descriptions import DESCRIPTIONS
from polyvisor.api.base import Model, Obj
from polyvisor.api.names import MANAGER, PART_OF_LABEL
from polyvisor.api.resources import RESOURCES, Resource
from polyvisor.api.shapes import Shape, members

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
_API_VERSION = "Version of the API that the object is written in."
_KIND = "Kind of the object."
_METADATA = "Name, labels and whatever else all objects carry."


@cache
def model_of(kind: str) -> type[Model]:
    """Return the model of a kind, such as ``VirtualMachine``; raises KeyError for a kind that we do not have."""
    if kind not in {r.kind for r in RESOURCES}:
        raise KeyError(kind)
    return cast(type[Model], getattr(polyvisor.api, kind))


@cache
def openapi_schema(kind: str) -> Obj:
    """Return the schema of a kind, everything written out, for an OpenAPI v3 document. Do not change the result."""
    refused = next((r for r in RESOURCES if r.kind == kind and r.refused), None)
    return _unknown(refused) if refused else _object(model_of(kind))


def part_schema(model: type[Model]) -> Obj:
    """Return the schema of what is no kind of its own, such as the body of a subresource."""
    return _object(model)


def crd_schema(kind: str) -> Obj:
    """Return the structural schema of a kind for its CRD.

    Unknown fields of ``spec`` are kept as far as admission, which refuses them by name; a schema alone would have the
    API server drop them before anybody could say so.
    """
    schema = dict(openapi_schema(kind))
    spec = _kept(schema["properties"]["spec"]) if "spec" in schema["properties"] else {}
    schema["properties"] = {**schema["properties"], "metadata": {"type": "object"}, **({"spec": spec} if spec else {})}
    return schema


def _unknown(resource: Resource) -> Obj:
    """Return the schema of a kind that is known by name alone."""
    free: Obj = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    common = {"apiVersion": _API_VERSION, "kind": _KIND}
    return {
        "type": "object",
        "description": f"Polyvisor does not make objects of this kind: {resource.refused}.",
        "properties": {
            **{name: {"type": "string", "description": words} for name, words in common.items()},
            "metadata": {"type": "object", "description": _METADATA},
            "spec": free,
            "status": free,
        },
    }


def _kept(schema: Obj) -> Obj:
    """Return a schema under which no object loses unknown fields."""
    kept = dict(schema)
    if "properties" in schema:
        kept["properties"] = {name: _kept(one) for name, one in schema["properties"].items()}
        kept["x-kubernetes-preserve-unknown-fields"] = True
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            kept[key] = _kept(schema[key])
    return kept


def crd(resource: Resource) -> Obj:
    """Return the CustomResourceDefinition of one of our kinds."""
    names: Obj = {
        "plural": resource.plural,
        "singular": resource.singular,
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "shortNames": list(resource.short_names),
    }
    if resource.categories:
        names["categories"] = list(resource.categories)
    version: Obj = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": crd_schema(resource.kind)},
    }
    if resource.has_status:
        version["subresources"] = {"status": {}}
    if "scale" in resource.subresources:
        version["subresources"]["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector",
        }
    version["additionalPrinterColumns"] = [
        {"name": c.name, "type": c.type, "jsonPath": c.path, **({"priority": c.priority} if c.priority else {})}
        for c in resource.columns
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.full_name, "labels": {PART_OF_LABEL: MANAGER}},
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version, *({**version, "name": old, "storage": False} for old in resource.also_served)],
        },
    }


def _object(model: type[Model]) -> Obj:
    words = DESCRIPTIONS.get(model.__name__, {})
    schema: Obj = {"type": "object"}
    if words.get(""):
        schema["description"] = words[""]
    properties: Obj = {}
    for member in members(model).values():
        schema_of = _schema(member.shape)
        description = words.get(member.name) or _common(model, member.name)
        if description:
            schema_of["description"] = description
        properties[member.name] = schema_of
    if properties:
        schema["properties"] = properties
    required = [member.name for member in members(model).values() if member.required]
    if required:
        schema["required"] = required
    return schema


def _common(model: type[Model], name: str) -> str:
    if model.__name__ not in {r.kind for r in RESOURCES}:
        return ""
    return {"apiVersion": _API_VERSION, "kind": _KIND, "metadata": _METADATA}.get(name, "")


def _schema(shape: Shape) -> Obj:
    choice = [{"type": "integer"}, {"type": "string"}]
    match shape.kind:
        case "object":
            assert shape.model is not None
            return _object(shape.model)
        case "list":
            assert shape.item is not None
            return {"type": "array", "items": _schema(shape.item)}
        case "map":
            assert shape.item is not None
            return {"type": "object", "additionalProperties": _schema(shape.item)}
        case "any":
            return {"x-kubernetes-preserve-unknown-fields": True}
        case "quantity":
            return {"anyOf": choice, "pattern": QUANTITY_PATTERN, "x-kubernetes-int-or-string": True}
        case "int-or-string":
            return {"anyOf": choice, "x-kubernetes-int-or-string": True}
    schema: dict[str, Any] = {"type": shape.kind}
    if shape.format and shape.format != "duration":
        schema["format"] = shape.format
    if shape.enum:
        schema["enum"] = list(shape.enum)
    return schema
