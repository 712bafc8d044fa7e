"""The HTTP side of the resources: one object of the path's parts, and a method for each verb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from polyvisor.api.resources import CRDS, NAMESPACES, PODS, Resource

from . import discovery, protobuf, versions
from .auth import CURRENT_USER
from .binding import bind
from .deletion import Deleter, parse_options
from .errors import Obj, StatusError, bad_request, forbidden, no_such_path, status_object
from .kinds import SERVICE_ACCOUNTS
from .listing import list_page
from .negotiation import JSON, JsonResponse, Wanted, respond, wanted
from .patching import json_patch, merge_patch, strategic_patch
from .registry import Options, Registry
from .requests import (
    flag,
    options_of,
    parse,
    query_of,
    read_body,
    report_duplicates,
    unsupported,
    warning_headers,
)
from .scale import rescale, scale_of
from .selectors import Predicate, both, field_selector, label_selector
from .table import partial, table
from .watching import parse_watch, stream

INSTEAD = {
    "attach": "`polyvisor console NAME` is the VM's serial console",
    "exec": "`polyvisor console NAME` and `polyvisor ssh NAME` lead into the VM",
    "portforward": "`polyvisor port-forward NAME PORT` leads to the VM's ports",
}
"""What kubectl does to containers, and what does the same to a VM."""
NO_TOKENS = (
    "serviceaccounts/token is not served: a standalone installation has one user, whose token is in the kubeconfig"
    " (`polyvisor kubeconfig`)"
)
WRITING = ("POST", "PUT", "PATCH")
ELSEWHERE = ("eviction", "log")
"""Subresources that routes of their own answer, for the methods that they have."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a path points to. ``namespace`` is None for all namespaces and for kinds outside of them."""

    resource: Resource
    version: str
    namespace: str | None
    name: str
    subresource: str


def find_target(group: str, version: str, rest: list[str]) -> Target:
    """Read ``[namespaces/<namespace>/]<plural>[/<name>[/<subresource>]]``."""
    namespace: str | None = None
    if len(rest) >= 3 and rest[0] == "namespaces":
        inner = _resource(group, version, rest[2])
        if inner is not None and inner.namespaced:
            namespace, rest = rest[1], rest[2:]
    resource = _resource(group, version, rest[0]) if rest else None
    if resource is None or len(rest) > 3 or "" in rest:
        raise no_such_path()
    name, subresource = [*rest, "", ""][1:3]
    if resource is PODS and subresource in INSTEAD:
        message = (
            f"pods/{subresource} is not served: a standalone installation has no containers; {INSTEAD[subresource]}"
        )
        raise no_such_path(message)
    if resource is SERVICE_ACCOUNTS and subresource == "token":
        raise no_such_path(NO_TOKENS)
    if subresource and subresource not in discovery.served_subresources(resource):
        raise no_such_path()
    if name and resource.namespaced and namespace is None:
        raise no_such_path()
    if group == versions.EVENTS_GROUP:
        version = versions.EVENTS_VERSION
    return Target(resource, version, namespace, name, subresource)


def _resource(group: str, version: str, plural: str) -> Resource | None:
    return next((one for one in discovery.stored_of(group, version) if one.plural == plural), None)


def _not_allowed() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def _wanted(request: Request, target: Target, *, watch: bool = False) -> Wanted:
    encodable = protobuf.encodable(versions.api_version(target.resource, target.version), target.resource.kind)
    return wanted(request.headers.get("accept", ""), encodable=encodable, watch=watch)


class Handlers:
    """Answers requests for resources."""

    def __init__(self, registry: Registry, may_write_status: Callable[[str, Resource], bool] = lambda *_: True) -> None:
        self._registry = registry
        self._may_write_status = may_write_status
        self._store = registry.store
        self._deleter = Deleter(registry)

    async def handle(self, request: Request, target: Target) -> Response:
        """Answer one request."""
        query = query_of(request)
        _wanted(request, target, watch=flag(query, "watch"))  # a refusal comes before anything is written
        if target.subresource in ELSEWHERE:
            raise _not_allowed()
        if target.subresource == "binding":
            return await self._bind(request, target, query)
        if request.method in WRITING:
            self._registry.check_writable(target.resource)  # before a body that may have no form here
        if target.name:
            return await self._object(request, target, query)
        if request.method == "GET":
            return self._list(request, target, query)
        if request.method == "POST":
            return await self._create(request, target, query)
        if request.method == "DELETE":
            return await self._delete_collection(request, target, query)
        raise _not_allowed()

    async def _object(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        method = request.method
        namespace = target.namespace or ""
        if method != "GET" and target.subresource == "status":
            user, resource = CURRENT_USER.get(), target.resource
            if not self._may_write_status(user, resource):
                what = f"the status of {resource.full_name} is written by Polyvisor's own components alone"
                raise forbidden(what, resource.plural, resource.group, target.name)
        if method == "GET":
            if flag(query, "watch"):
                return self._list(request, target, query)
            obj = self._registry.get(target.resource, namespace, target.name)
            if target.subresource == "scale":
                return JsonResponse(scale_of(obj))
            return self._answer(request, target, obj, query)
        if method == "PATCH":
            return await self._patch(request, target, query)
        if method == "PUT":
            options, body = await self._read(request, target, query)
            if target.subresource == "scale":
                return await self._rescale(target, lambda _: body, options)
            obj = await self._registry.update(
                target.resource, namespace, target.name, body, options, target.subresource
            )
            return self._answer(request, target, obj, query, options)
        if method == "DELETE" and not target.subresource:
            options = options_of(request, query)
            body = parse(await read_body(request), request.headers.get("content-type", "")).value
            asked = parse_options(body, query)
            obj, gone = await self._deleter.delete(target.resource, namespace, target.name, asked, options)
            if gone:
                return JsonResponse(versions.outward(target.resource, target.version, obj), headers=None)
            return self._answer(request, target, obj, query, options)
        raise _not_allowed()

    # --- reading

    def _predicate(self, target: Target, query: dict[str, str]) -> Predicate:
        fields = field_selector(query.get("fieldSelector", ""), target.resource)
        matches = both(label_selector(query.get("labelSelector", "")), fields)
        if target.name:
            matches = both(lambda obj: obj["metadata"]["name"] == target.name, matches)
        return matches

    def _list(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        watch = flag(query, "watch")
        how = _wanted(request, target, watch=watch)
        matches = self._predicate(target, query)
        if watch:
            asked = parse_watch(self._store, target.resource, target.version, target.namespace, matches, how, query)
            media = protobuf.WATCH_MEDIA if how.media == "protobuf" else JSON
            return StreamingResponse(stream(self._store, asked), media_type=media)
        page = list_page(self._store, target.resource, target.namespace, matches, query)
        if how.form == "Table":
            include = query.get("includeObject", "Metadata")
            return respond(table(target.resource, page.items, page.metadata, include), how)
        if how.form == "Partial":
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = [partial(obj) for obj in page.items]
        else:
            kind, api_version = f"{target.resource.kind}List", versions.api_version(target.resource, target.version)
            items = [versions.outward(target.resource, target.version, obj) for obj in page.items]
        return respond({"kind": kind, "apiVersion": api_version, "metadata": page.metadata, "items": items}, how)

    def _answer(
        self,
        request: Request,
        target: Target,
        obj: Obj,
        query: dict[str, str],
        options: Options | None = None,
        code: int = 200,
    ) -> Response:
        how = _wanted(request, target)
        if how.form == "Table":
            rv = obj["metadata"].get("resourceVersion", "")
            obj = table(target.resource, [obj], {"resourceVersion": rv}, query.get("includeObject", "Metadata"))
        elif how.form == "Partial":
            obj = partial(obj)
        else:
            obj = versions.outward(target.resource, target.version, obj)
        response = respond(obj, how, code)
        for name, value in warning_headers(options.warnings if options else []):
            response.headers.append(name, value)
        return response

    # --- writing

    async def _read(self, request: Request, target: Target, query: dict[str, str]) -> tuple[Options, Any]:
        options = options_of(request, query)
        body = parse(await read_body(request), request.headers.get("content-type", ""))
        report_duplicates(body, options)
        return options, versions.inward(target.resource, target.version, body.value)

    def _namespace(self, target: Target) -> str:
        if target.resource.namespaced and target.namespace is None:
            raise bad_request("an empty namespace may not be set during creation")
        return target.namespace or ""

    async def _create(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        options, body = await self._read(request, target, query)
        obj = await self._registry.create(target.resource, self._namespace(target), body, options)
        return self._answer(request, target, obj, query, options, 201)

    async def _bind(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        if request.method != "POST" or target.resource is not PODS:
            raise _not_allowed()
        options, body = await self._read(request, target, query)
        await bind(self._registry, target.namespace or "", target.name, body, options)
        return JsonResponse(status_object(201, "", ""), status_code=201)

    async def _patch(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        options = options_of(request, query)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        raw = await read_body(request)
        namespace, resource = target.namespace or "", target.resource
        if kind == "application/apply-patch+yaml":
            if target.subresource == "scale":
                raise unsupported(kind)
            body = parse(raw, "application/yaml")
            options.manager = query.get("fieldManager", "")
            wanted = versions.inward(resource, target.version, body.value)
            obj, created = await self._registry.apply(
                resource, namespace, target.name, wanted, options, target.subresource
            )
            return self._answer(request, target, obj, query, options, 201 if created else 200)
        appliers: dict[str, Callable[[Obj, Any], Any]] = {
            "application/json-patch+json": json_patch,
            "application/merge-patch+json": merge_patch,
            "application/strategic-merge-patch+json": lambda obj, patch: strategic_patch(resource, obj, patch),
        }
        if kind not in appliers:
            raise unsupported(kind)
        patch = parse(raw, "application/json")
        report_duplicates(patch, options)
        if patch.value is None:
            raise bad_request("the patch is empty")
        if target.subresource == "scale":
            return await self._rescale(target, lambda old: appliers[kind](old, patch.value), options)
        obj = await self._registry.patch(
            resource,
            namespace,
            target.name,
            lambda old: appliers[kind](old, versions.inward(resource, target.version, patch.value)),
            options,
            target.subresource,
        )
        return self._answer(request, target, obj, query, options)

    async def _rescale(self, target: Target, wanted: Callable[[Obj], Any], options: Options) -> Response:
        namespace = target.namespace or ""
        found = await rescale(self._registry, target.resource, namespace, target.name, wanted, options)
        response = JsonResponse(found)
        for name, value in warning_headers(options.warnings):
            response.headers.append(name, value)
        return response

    async def _delete_collection(self, request: Request, target: Target, query: dict[str, str]) -> Response:
        if target.resource in (NAMESPACES, CRDS):
            raise _not_allowed()
        options = options_of(request, query)
        body = parse(await read_body(request), request.headers.get("content-type", "")).value
        asked = parse_options(body, query)
        page = list_page(self._store, target.resource, target.namespace, self._predicate(target, query), query)
        for obj in page.items:
            metadata = obj["metadata"]
            try:
                await self._deleter.delete(
                    target.resource, metadata.get("namespace", ""), metadata["name"], asked, options
                )
            except StatusError as error:
                if error.code != 404:
                    raise
        answer = {
            "kind": f"{target.resource.kind}List",
            "apiVersion": versions.api_version(target.resource, target.version),
            "metadata": {"resourceVersion": str(self._store.rv)},
            "items": [versions.outward(target.resource, target.version, obj) for obj in page.items],
        }
        return JsonResponse(answer)
