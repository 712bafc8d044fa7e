"""OpenAPI documents of ``subresources.kubevirt.io``, which Kubernetes' aggregator asks for once a minute.

It puts them into its own, which ``kubectl`` and generated clients read; where there are none it logs an error.
Made from the discovery's table, so that what is served and what is described are one list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import cache

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from polyvisor import __version__
from polyvisor.api import AddVolumeOptions, openapi_v2
from polyvisor.api.base import Obj
from polyvisor.api.resources import SUBRESOURCES_GROUP, VMS
from polyvisor.api.schema import openapi_schema, part_schema
from polyvisor.server.subresources_discovery import ACTIONS, EXPAND_GIVEN, METHODS, VERSIONS

OPENAPI = "/openapi"
_INFO = {"title": "Polyvisor", "version": f"v{__version__}"}
_JSON = "application/json"
_TEXT: Obj = {"type": "string"}
_NUMBER: Obj = {"type": "integer", "format": "int64"}
_DRY: Obj = {"dryRun": {"type": "array", "items": _TEXT}}
_BODIES: dict[str, Obj] = {
    "start": {"paused": {"type": "boolean"}, **_DRY},
    "stop": {"gracePeriod": _NUMBER, **_DRY},
    "restart": {"gracePeriodSeconds": _NUMBER, **_DRY},
    "pause": _DRY,
    "unpause": _DRY,
    "softreboot": _DRY,
    "reset": _DRY,
    "freeze": {"unfreezeTimeout": _TEXT, **_DRY},
    "unfreeze": _DRY,
    "removevolume": {"name": _TEXT, **_DRY},
    "memorydump": {"claimName": _TEXT},
    "removememorydump": {},
}
"""Subresource -> fields of its body, each of which may be left out; ``addvolume`` has a type of its own."""
_OBJECTS = ("expand-spec", "guestosinfo", "userlist", "filesystemlist")
"""What is answered with an object; streams and changes have no body that can be described."""


def routes() -> list[BaseRoute]:
    """Return the routes of both versions of OpenAPI."""
    return [
        Route(f"{OPENAPI}/v2", _version_2, methods=["GET"]),
        Route(f"{OPENAPI}/v3", _index, methods=["GET"]),
        *(Route(f"{OPENAPI}/v3/{_path(version)}", _document_of(version), methods=["GET"]) for version in VERSIONS),
    ]


def document(version: str) -> Obj:
    """Return the document, in OpenAPI's version 3, of a version of the group."""
    base = f"/{_path(version)}/namespaces/{{namespace}}"
    schemas: Obj = {"v1.AddVolumeOptions": part_schema(AddVolumeOptions), "v1.VirtualMachine": openapi_schema(VMS.kind)}
    paths: Obj = {}
    for resource, actions in ACTIONS.items():
        for action, verb in actions.items():
            path = f"{base}/{resource.plural}/{{name}}/{action}"
            ports = (("port",), ("port", "protocol")) if action == "portforward" else ((),)
            for more in ports:
                whole = "/".join([path, *(f"{{{name}}}" for name in more)])
                called = f"{version}{resource.kind}-{action.replace('/', '-')}" + "".join(f"-{name}" for name in more)
                operation = _operation(called, action, ("namespace", "name", *more), schemas)
                paths[whole] = {METHODS[verb].lower(): operation}
    given = _operation(f"{version}-{EXPAND_GIVEN}", EXPAND_GIVEN, ("namespace",), schemas)
    paths[f"{base}/{EXPAND_GIVEN}"] = {"put": given}
    return {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}


def _operation(called: str, action: str, parameters: tuple[str, ...], schemas: Obj) -> Obj:
    operation: Obj = {
        "operationId": called,
        "parameters": [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in parameters],
        "responses": {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}},
    }
    if action in _OBJECTS:
        operation["responses"]["200"]["content"] = {_JSON: {"schema": {"type": "object"}}}
    if action in ("expand-spec", EXPAND_GIVEN):
        operation["responses"]["200"]["content"] = {_JSON: {"schema": _reference("v1.VirtualMachine")}}
    if action == EXPAND_GIVEN:
        operation["requestBody"] = _body("v1.VirtualMachine", required=True)
    elif action == "addvolume":
        operation["requestBody"] = _body("v1.AddVolumeOptions", required=True)
    elif action in _BODIES:
        name = f"v1.{action.capitalize()}Options"
        schemas[name] = {"type": "object", "properties": _BODIES[action]}
        operation["requestBody"] = _body(name, required=action == "removevolume")
    return operation


def _body(name: str, required: bool) -> Obj:
    return {"required": required, "content": {_JSON: {"schema": _reference(name)}}}


def _reference(name: str) -> Obj:
    return {"$ref": f"#/components/schemas/{name}"}


def _path(version: str) -> str:
    return f"apis/{SUBRESOURCES_GROUP}/{version}"


@cache
def _text(version: str) -> bytes:
    return json.dumps(document(version), separators=(",", ":")).encode()


@cache
def _text_2() -> bytes:
    found = openapi_v2.convert(_INFO, [document(version) for version in VERSIONS])
    return json.dumps(found, separators=(",", ":")).encode()


async def _index(_: Request) -> Response:
    def url(version: str) -> str:
        return f"{OPENAPI}/v3/{_path(version)}?hash={hashlib.sha256(_text(version)).hexdigest()[:32].upper()}"

    return JSONResponse({"paths": {_path(version): {"serverRelativeURL": url(version)} for version in VERSIONS}})


def _document_of(version: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(_text(version), media_type=_JSON)

    return answer


async def _version_2(_: Request) -> Response:
    return Response(_text_2(), media_type=_JSON)
