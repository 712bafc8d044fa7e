"""A Kubernetes client of plain dictionaries over one pool of kept-alive connections.

It knows no kinds: every call takes an entry of the resource table (:mod:`polyvisor.api.resources`) and gives back the
JSON object as the server sent it. Why it stands on a plain HTTP library: docs/decisions/0001-kubernetes-client.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias

import httpx

from polyvisor.kube import config as configuration
from polyvisor.kube.errors import UNREACHABLE, ApiError, error_from_status, error_from_text

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

Objects: TypeAlias = "list[Obj]"
PatchType = Literal["json", "merge", "strategic", "apply"]
PATCH_MEDIA_TYPES: Mapping[str, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
PAGE_SIZE = 500
CALL_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
LOOPBACK_TIMEOUT = httpx.Timeout(120.0, connect=60.0)  # a server on this machine is busy, not lost
WATCH_SLACK = 30.0
MAX_TRIES = 5
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0)


class WatchEvent(NamedTuple):
    """One line of a watch: ``type`` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Obj


class KubeClient:
    """Talks to one API server. Close it with :meth:`aclose`, or use it as an async context manager."""

    def __init__(
        self,
        connection: configuration.Connection,
        *,
        field_manager: str = "polyvisor",
        transport: httpx.AsyncBaseTransport | None = None,
        observe: Callable[[str, str, int, float], None] = lambda *_: None,
    ) -> None:
        """``observe`` is told of each call: verb, path, the answer's code (0 if none came), and seconds."""
        self.connection = connection
        self._observe = observe
        self.field_manager = field_manager
        self._extensions = {"sni_hostname": connection.server_name} if connection.server_name else {}
        self._http = httpx.AsyncClient(
            base_url=connection.server,
            verify=connection.ssl_context or False,
            timeout=LOOPBACK_TIMEOUT if connection.loopback else CALL_TIMEOUT,
            limits=LIMITS,
            transport=transport,
            proxy=connection.proxy,
            trust_env=not connection.loopback,
            headers={"Accept": "application/json", "User-Agent": field_manager},
        )

    @classmethod
    def from_kubeconfig(cls, path: str | Path | None = None, context: str | None = None, **options: Any) -> Self:
        """Connect as a kubeconfig says; without a path as $KUBECONFIG or ~/.kube/config does."""
        return cls(configuration.from_kubeconfig(path, context), **options)

    @classmethod
    def in_cluster(cls, **options: Any) -> Self:
        """Connect with the service account of the Pod that this process runs in."""
        return cls(configuration.in_cluster(), **options)

    @classmethod
    def discover(cls, **options: Any) -> Self:
        """Connect from inside a Pod if this is one, else by the default kubeconfig."""
        return cls(configuration.discover(), **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Obj:
        """Read one object."""
        return await self._object("GET", path_of(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Objects:
        """Read all objects of a kind (in all namespaces unless one is given), page by page."""
        items, _ = await self.list_with_version(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return items

    async def list_with_version(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
    ) -> tuple[Objects, str]:
        """Read all objects of a kind and the resourceVersion from which a watch continues.

        A continue token that expires between two pages starts the list again, in one piece.
        """
        items: Objects = []
        token: str | None = None
        limit = page_size
        while True:
            query = {
                "limit": str(limit) if limit else None,
                "continue": token,
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
            }
            try:
                page = await self.request("GET", path_of(resource, namespace), query=query)
            except ApiError as error:
                if not (error.expired and token):
                    raise
                items, token, limit = [], None, 0
                continue
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            token = metadata.get("continue")
            if not token:
                break
        identity = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [identity | item for item in items], str(metadata.get("resourceVersion") or "")

    async def create(
        self,
        resource: Resource,
        obj: Obj,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Create an object; with ``name`` and ``subresource``, POST to a subresource such as ``binding``."""
        space = namespace or (obj.get("metadata") or {}).get("namespace")
        path = path_of(resource, space, name, subresource)
        return await self._object("POST", path, body=obj, query=self._write_query(dry_run))

    async def update(
        self, resource: Resource, obj: Obj, *, subresource: str | None = None, dry_run: bool = False
    ) -> Obj:
        """Replace an object; guarded by ``metadata.resourceVersion`` if it is there."""
        metadata = obj["metadata"]
        path = path_of(resource, metadata.get("namespace"), metadata["name"], subresource)
        return await self._object("PUT", path, body=obj, query=self._write_query(dry_run))

    async def update_status(self, resource: Resource, obj: Obj) -> Obj:
        """Replace an object's status, through the status subresource if the kind has one."""
        return await self.update(resource, obj, subresource="status" if resource.has_status else None)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        patch_type: PatchType = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj:
        """Change an object by a JSON, merge, strategic merge or server-side apply patch."""
        query = self._write_query(dry_run)
        if field_manager:
            query["fieldManager"] = field_manager
        if force:
            query["force"] = "true"
        return await self._object(
            "PATCH",
            path_of(resource, namespace, name, subresource),
            body=patch,
            query=query,
            content_type=PATCH_MEDIA_TYPES[patch_type],
        )

    async def apply(
        self, resource: Resource, obj: Obj, *, field_manager: str | None = None, force: bool = False
    ) -> Obj:
        """Server-side apply an object."""
        metadata = obj["metadata"]
        return await self.patch(
            resource,
            metadata["name"],
            obj,
            metadata.get("namespace"),
            patch_type="apply",
            field_manager=field_manager,
            force=force,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Obj:
        """Delete an object; with ``uid`` (and ``resource_version``) only if it is still that one."""
        options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if any(conditions.values()):
            options["preconditions"] = {k: v for k, v in conditions.items() if v}
        return await self._object("DELETE", path_of(resource, namespace, name), body=options)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = 300,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow changes until the server ends the watch (at the latest after ``timeout_seconds``).

        Raises :class:`ApiError`, with ``expired`` set when the resourceVersion is too old. Close the iterator
        (``contextlib.aclosing``) if it is left early.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "timeoutSeconds": str(timeout_seconds),
        }
        timeout = httpx.Timeout(self._http.timeout.connect, read=timeout_seconds + WATCH_SLACK)
        async with aclosing(self._lines(path_of(resource, namespace), query, timeout)) as lines:
            async for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise error_from_status(event["object"])
                yield WatchEvent(event["type"], event["object"])

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str | None] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Make one call and return the JSON answer (or the text, if it is not JSON); raise :class:`ApiError`.

        A server that asks for patience (429 with Retry-After) gets it, and a read is tried again once when a
        kept-alive connection turns out to be dead.
        """
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        sent = await self._headers(headers)
        if content is not None:
            sent["Content-Type"] = content_type
        params = {k: v for k, v in (query or {}).items() if v is not None}
        tries = 0
        while True:
            tries += 1
            began, code = time.monotonic(), 0
            try:
                answer = await self._http.request(
                    method, path, content=content, params=params, headers=sent, extensions=dict(self._extensions)
                )
                code = answer.status_code
            except httpx.TransportError as error:
                dropped = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
                if dropped and method == "GET" and tries == 1:
                    continue
                raise self._unreachable(error) from error
            finally:
                self._observe(method, path, code, time.monotonic() - began)
            if answer.status_code == 429 and "Retry-After" in answer.headers and tries < MAX_TRIES:
                await asyncio.sleep(_seconds(answer.headers["Retry-After"]))
                continue
            return _decode(answer)

    async def _object(self, method: str, path: str, **options: Any) -> Obj:
        answer = await self.request(method, path, **options)
        if not isinstance(answer, dict):
            raise ApiError(0, "NotJSON", f"{self.connection.server}{path}: the answer is not a JSON object")
        return answer

    async def _lines(
        self, path: str, query: Mapping[str, str | None], limits: httpx.Timeout
    ) -> AsyncGenerator[bytes, None]:
        params = {k: v for k, v in query.items() if v is not None}
        rest = b""
        try:
            async with self._http.stream(
                "GET",
                path,
                params=params,
                headers=await self._headers(None),
                timeout=limits,
                extensions=dict(self._extensions),
            ) as answer:
                self._observe("WATCH", path, answer.status_code, 0.0)
                if answer.status_code != 200:
                    await answer.aread()
                    _decode(answer)
                async for chunk in answer.aiter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield line
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if rest.strip():
            raise ApiError(0, UNREACHABLE, f"{self.connection.server}: the watch broke off within an event")

    async def _headers(self, more: Mapping[str, str] | None) -> dict[str, str]:
        await self.connection.prepare()
        authorization = self.connection.authorization()
        return ({"Authorization": authorization} if authorization else {}) | dict(more or {})

    def _write_query(self, dry_run: bool) -> dict[str, str | None]:
        return {"fieldManager": self.field_manager, "dryRun": "All" if dry_run else None}

    def _unreachable(self, error: httpx.TransportError) -> ApiError:
        what = str(error) or type(error).__name__
        return ApiError(0, UNREACHABLE, f"the API server at {self.connection.server} does not answer: {what}")


def path_of(
    resource: Resource, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """Return the URL path of a collection, an object or a subresource; names are checked, not trusted."""
    parts = ["apis", resource.group, resource.version] if resource.group else ["api", resource.version]
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [p for p in (resource.plural, name, subresource) if p]
    if name is not None and resource.namespaced and not namespace:
        raise ValueError(f"{resource.plural} {name!r}: a namespace is needed")
    for part in parts:
        if part in (".", "..") or not part.isprintable() or any(c in part for c in "/?#% \\"):
            raise ApiError(400, "BadRequest", f"{part!r} cannot be part of an object's address")
    return "/" + "/".join(parts)


def _decode(answer: httpx.Response) -> Any:
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    try:
        value = json.loads(answer.content) if is_json else answer.text
    except ValueError:
        value = answer.text
    if answer.is_success:
        return value
    if isinstance(value, dict) and value.get("kind") == "Status":
        raise error_from_status(value, answer.status_code)
    raise error_from_text(answer.status_code, answer.text)


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.05), 30.0)
    except ValueError:
        return 1.0
