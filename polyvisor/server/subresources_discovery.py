"""Discovery of ``subresources.kubevirt.io``: which subresources there are, in the two versions that KubeVirt serves."""

from __future__ import annotations

import platform
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from polyvisor import __version__
from polyvisor.api.resources import SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS, VMIS, VMS, Resource

Obj = dict[str, Any]
VERSIONS = SUBRESOURCES_VERSIONS
"""The preferred one first; they do not differ."""
ACTIONS: dict[Resource, dict[str, str]] = {
    VMS: {
        "start": "update",
        "stop": "update",
        "restart": "update",
        "migrate": "update",
        "evacuate/cancel": "update",
        "expand-spec": "get",
        "portforward": "get",
        "addvolume": "update",
        "removevolume": "update",
        "memorydump": "update",
        "removememorydump": "update",
    },
    VMIS: {
        "pause": "update",
        "unpause": "update",
        "softreboot": "update",
        "reset": "update",
        "freeze": "update",
        "unfreeze": "update",
        "evacuate/cancel": "update",
        "addvolume": "update",
        "removevolume": "update",
        "console": "get",
        "vnc": "get",
        "vnc/screenshot": "get",
        "usbredir": "get",
        "portforward": "get",
        "guestosinfo": "get",
        "userlist": "get",
        "filesystemlist": "get",
    },
}
"""Resource -> subresource -> the verb that RBAC knows it by."""
METHODS = {"get": "GET", "update": "PUT"}
EXPAND_GIVEN = "expand-vm-spec"


def resource_list(version: str) -> Obj:
    """Return what the group version holds."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{SUBRESOURCES_GROUP}/{version}",
        "resources": [
            {
                "name": f"{resource.plural}/{action}",
                "singularName": "",
                "namespaced": True,
                "kind": resource.kind,
                "verbs": [verb],
            }
            for resource, actions in ACTIONS.items()
            for action, verb in actions.items()
        ]
        + [{"name": EXPAND_GIVEN, "singularName": "", "namespaced": True, "kind": VMS.kind, "verbs": ["update"]}],
    }


def routes() -> list[BaseRoute]:
    """Return the routes of the group itself."""
    found: list[BaseRoute] = [Route(f"/apis/{SUBRESOURCES_GROUP}", _group, methods=["GET"])]
    for version in VERSIONS:
        base = f"/apis/{SUBRESOURCES_GROUP}/{version}"
        found += [
            Route(base, _resources, methods=["GET"]),
            Route(f"{base}/version", _version, methods=["GET"]),
            Route(f"{base}/healthz", _healthy, methods=["GET"]),
        ]
    return found


async def _group(_: Request) -> Response:
    versions = [{"groupVersion": f"{SUBRESOURCES_GROUP}/{version}", "version": version} for version in VERSIONS]
    group = {"kind": "APIGroup", "apiVersion": "v1", "name": SUBRESOURCES_GROUP}
    return JSONResponse({**group, "versions": versions, "preferredVersion": versions[0]})


async def _resources(request: Request) -> Response:
    return JSONResponse(resource_list(request.url.path.rstrip("/").rpartition("/")[2]))


async def _version(_: Request) -> Response:
    return JSONResponse(
        {
            "gitVersion": f"v{__version__}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": f"CPython {platform.python_version()}",
            "platform": f"{platform.system().lower()}/{platform.machine()}",
        }
    )


async def _healthy(_: Request) -> Response:
    return JSONResponse({"status": "ok"})
