"""OpenAPI documents: for ``kubectl explain`` and for kubectl's question whether the server validates and dry-runs.

Version 3 has one document a group version, version 2 one of all (:mod:`polyvisor.api.openapi_v2`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from polyvisor.api import openapi_v2
from polyvisor.api.resources import RESOURCES, Resource
from polyvisor.api.schema import openapi_schema

from . import core_fields, discovery, openapi_protobuf
from .errors import Obj, no_such_path
from .listkeys import map_keys, patch_keys
from .negotiation import JSON, JsonResponse
from .protobuf.messages import message_of

_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"


@cache
def _documents() -> dict[str, bytes]:
    found = {}
    for group, versions in discovery.group_versions().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            found[path] = json.dumps(_document(group, version), separators=(",", ":")).encode()
    return found


def _document(group: str, version: str) -> Obj:
    schemas: Obj = {}
    paths: Obj = {}
    for resource in discovery.of(group, version):
        name = _schema_name(resource)
        gvk = {"group": group, "version": version, "kind": resource.kind}
        schema = _with_keys(_schema(resource), resource, ())
        schemas[name] = {**schema, "x-kubernetes-group-version-kind": [gvk]}
        paths.update(_paths(resource, gvk, {"$ref": f"#/components/schemas/{name}"}))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Polyvisor", "version": discovery.GIT_VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema(resource: Resource) -> Obj:
    """Return a kind's schema, from the typed objects or, for what only this server has, from Kubernetes' table."""
    if resource in RESOURCES:
        return openapi_schema(resource.kind)
    message = message_of(resource.api_version, resource.kind)
    if message is None:
        return {"type": "object"}  # any fields, so that kubectl does not refuse them before the server says why not
    named: Obj = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    schema = core_fields.schema_of(message)
    return {**schema, "properties": {**named, **schema["properties"]}}


def _with_keys(schema: Obj, resource: Resource, names: tuple[str, ...]) -> Obj:
    """Say in the schema how lists are merged; kubectl works out its patches by that."""
    if "properties" in schema:
        properties = {name: _with_keys(one, resource, (*names, name)) for name, one in schema["properties"].items()}
        return {**schema, "properties": properties}
    if schema.get("type") != "array":
        return schema
    schema = {**schema, "items": _with_keys(schema["items"], resource, names)}
    keys, patch = map_keys(resource, names), patch_keys(resource, names)
    if keys is not None:
        schema["x-kubernetes-list-type"] = "map" if keys else "set"
        if keys:
            schema["x-kubernetes-list-map-keys"] = list(keys)
    if patch is not None and not resource.custom:
        schema["x-kubernetes-patch-strategy"] = "merge"
        if patch:
            schema["x-kubernetes-patch-merge-key"] = patch[0]
    return schema


def _schema_name(resource: Resource) -> str:
    if resource.custom:
        reverse = ".".join(reversed(resource.group.split(".")))
        return f"{reverse}.{resource.version}.{resource.kind}"
    group = resource.group.partition(".")[0] or "core"
    return f"io.k8s.api.{group}.{resource.version}.{resource.kind}"


def _operation(action: str, gvk: Obj, schema: Obj, parameters: tuple[str, ...], media: tuple[str, ...] = ()) -> Obj:
    operation: Obj = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in parameters
        ],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
    }
    if media:
        operation["requestBody"] = {"content": {one: {"schema": schema} for one in media}}
    return operation


def _paths(resource: Resource, gvk: Obj, schema: Obj) -> Obj:
    reading = ("labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion", "timeoutSeconds")
    writing = ("dryRun", "fieldManager", "fieldValidation")
    patches = _PATCHES if resource.custom else (*_PATCHES, _STRATEGIC)
    collection: Obj = {"get": _operation("list", gvk, schema, reading)}
    single: Obj = {"get": _operation("get", gvk, schema, ())}
    if "create" in discovery.verbs(resource):
        collection["post"] = _operation("post", gvk, schema, writing, ("application/json", "application/yaml"))
        single["put"] = _operation("put", gvk, schema, writing, ("application/json", "application/yaml"))
        single["patch"] = _operation("patch", gvk, schema, (*writing, "force"), patches)
        single["delete"] = _operation("delete", gvk, schema, ("dryRun", "gracePeriodSeconds", "propagationPolicy"))
    namespace = "{namespace}" if resource.namespaced else None
    return {resource.path(namespace): collection, resource.path(namespace, "{name}"): single}


async def index(_: Request) -> Response:
    """Answer ``/openapi/v3``: which documents there are."""
    paths = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashlib.sha256(text).hexdigest()[:32].upper()}"}
        for path, text in _documents().items()
    }
    return JsonResponse({"paths": paths})


async def document(request: Request) -> Response:
    """Answer the document of one group version."""
    text = _documents().get(request.path_params["path"])
    if text is None:
        raise no_such_path()
    return Response(text, media_type="application/json")


@cache
def _version_2(protobuf: bool) -> bytes:
    info = {"title": "Polyvisor", "version": discovery.GIT_VERSION}
    document = openapi_v2.convert(info, [json.loads(text) for text in _documents().values()])
    if protobuf:
        return openapi_protobuf.encode(document)
    return json.dumps(document, separators=(",", ":")).encode()


async def v2(request: Request) -> Response:
    """Answer ``/openapi/v2``."""
    protobuf = "protobuf" in request.headers.get("accept", "")
    return Response(_version_2(protobuf), media_type=openapi_protobuf.PROTOBUF if protobuf else JSON)
