"""The ASGI application: routes, errors as ``Status``, and the background work that belongs to a running server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from polyvisor.api.resources import Resource
from polyvisor.kube.tasks import end_task

from . import discovery, openapi
from .auth import GROUPS, Authentication
from .bootstrap import bootstrap
from .errors import StatusError, StorageError, no_such_path, status_object, storage_failure
from .gc import Collector
from .handlers import Handlers, find_target
from .negotiation import JsonResponse
from .registry import Admit, Registry, admit_all
from .requests import parse, read_body
from .store import Store

_log = logging.getLogger(__name__)
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(
    store: Store,
    tokens: Mapping[str, str] | Iterable[str],
    admit: Admit = admit_all,
    extra_routes: Sequence[BaseRoute] = (),
    ready: Callable[[], bool] = lambda: True,
    may_write_status: Callable[[str, Resource], bool] = lambda *_: True,
) -> Starlette:
    """Build the server over an opened store; ``tokens`` are bearer tokens, or token -> user name.

    The application's lifespan bootstraps the namespaces and runs the garbage collector; on its end the store's
    watches are closed, so that open streams do not hold up a shutdown. ``ready`` is asked by ``/readyz``.
    ``may_write_status`` says whether a user may write a kind's status subresource.
    """
    registry = Registry(store, admit)
    handlers = Handlers(registry, may_write_status)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await bootstrap(registry)
        collector = asyncio.create_task(Collector(registry).run(), name="apiserver-collector")
        try:
            yield
        finally:
            await end_task(collector)
            store.end_watches()

    async def resources(request: Request) -> Response:
        group = request.path_params.get("group", "")
        rest = request.path_params["rest"].rstrip("/").split("/")
        return await handlers.handle(request, find_target(group, request.path_params["version"], rest))

    async def healthy(request: Request) -> Response:
        if request.url.path == "/readyz" and not ready():
            return PlainTextResponse("not ready", status_code=503)
        return PlainTextResponse("ok")

    async def no_stream(websocket: WebSocket) -> None:
        """Refuse a stream that nothing serves with a Status, which kubectl shows; a bare refusal says only 403."""
        try:
            _, kind, *rest = websocket.url.path.split("/")
            group, version, *rest = rest if kind == "apis" else ["", *rest]
            find_target(group, version, rest)
            error = no_such_path()
        except StatusError as found:
            error = found
        except ValueError:
            error = no_such_path()
        await websocket.send_denial_response(JsonResponse(error.to_obj(), status_code=error.code))

    routes: list[BaseRoute] = [
        *extra_routes,
        *(Route(path, healthy) for path in ("/healthz", "/livez", "/readyz")),
        Route("/version", _version),
        Route("/version/", _version),
        Route("/api", _core),
        Route("/api/", _core),
        Route("/apis", _groups),
        Route("/apis/", _groups),
        Route("/openapi/v2", openapi.v2),
        Route("/openapi/v3", openapi.index),
        Route("/openapi/v3/{path:path}", openapi.document),
        Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _review, methods=["POST"]),
        Route("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", _review, methods=["POST"]),
        Route("/apis/authentication.k8s.io/v1/selfsubjectreviews", _who_am_i, methods=["POST"]),
        Route("/api/{version}", _resource_list),
        Route("/apis/{group}", _group),
        Route("/apis/{group}/", _group),
        Route("/apis/{group}/{version}", _resource_list),
        Route("/apis/{group}/{version}/", _resource_list),
        Route("/api/{version}/{rest:path}", resources, methods=_METHODS),
        Route("/apis/{group}/{version}/{rest:path}", resources, methods=_METHODS),
        WebSocketRoute("/{path:path}", no_stream),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Authentication, tokens=tokens)],
        exception_handlers={
            StatusError: _status_error,
            StorageError: _storage_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False
    app.state.registry = registry
    return app


async def _version(_: Request) -> Response:
    return JsonResponse(discovery.version())


def _aggregated(request: Request, names: list[str]) -> Response | None:
    for part in request.headers.get("accept", "").split(","):
        if "as=APIGroupDiscoveryList" in part and "v=v2;" in part + ";" and "protobuf" not in part:
            media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return JsonResponse(discovery.aggregated(names), media_type=media)
    return None


async def _core(request: Request) -> Response:
    return _aggregated(request, [""]) or JsonResponse(discovery.api_versions())


async def _groups(request: Request) -> Response:
    names = [name for name in discovery.group_versions() if name]
    return _aggregated(request, names) or JsonResponse(discovery.groups())


async def _group(request: Request) -> Response:
    name = request.path_params["group"]
    if name not in discovery.group_versions():
        raise no_such_path()
    return JsonResponse(discovery.group(name))


async def _resource_list(request: Request) -> Response:
    group, version = request.path_params.get("group", ""), request.path_params["version"]
    if version not in discovery.group_versions().get(group, []):
        raise no_such_path()
    return JsonResponse(discovery.resource_list(group, version))


async def _review(request: Request) -> Response:
    body = parse(await read_body(request), request.headers.get("content-type", "")).value
    answer = body if isinstance(body, dict) else {}
    if request.url.path.endswith("rulesreviews"):
        rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        status = {"resourceRules": [rule], "nonResourceRules": [], "incomplete": False}
    else:
        status = {"allowed": True, "reason": "the bearer of this token may do everything"}
    return JsonResponse({**answer, "status": status}, status_code=201)


async def _who_am_i(request: Request) -> Response:
    """Answer who asks; what the request says does not matter, in whatever form it is sent."""
    await read_body(request)
    user = {"username": request.state.user, "groups": list(GROUPS)}
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    return JsonResponse({**kind, "status": {"userInfo": user}}, status_code=201)


async def _status_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StatusError)
    return JsonResponse(error.to_obj(), status_code=error.code)


async def _storage_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)
    return await _status_error(request, storage_failure(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return await _status_error(request, no_such_path())
    if error.status_code == 405:
        message = "the server does not allow this method on the requested resource"
        return await _status_error(request, StatusError(405, "MethodNotAllowed", message))
    return JsonResponse(status_object(error.status_code, "", str(error.detail)), status_code=error.status_code)


async def _unexpected(_: Request, error: Exception) -> Response:
    _log.error("internal error", exc_info=error)
    message = f"Internal error occurred: {type(error).__name__}: {error}"
    return JsonResponse(status_object(500, "InternalError", message), status_code=500)
