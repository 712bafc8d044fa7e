"""What virt-api counts: requests, reviews, and the streams that are open to machines.

A machine's labels go when its last stream is closed, or as many would stay as ever were opened.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyvisor.api import Obj
from polyvisor.api.reading import nested
from polyvisor.api.resources import SUBRESOURCES_GROUP, VMIS, VMS
from polyvisor.kube import metrics

PREFIX = f"/apis/{SUBRESOURCES_GROUP}/"
KINDS = (VMS.plural, VMIS.plural)
REMEMBERED = 1000
READY = metrics.gauge("kubevirt_virt_api_ready_status")
REVIEWS = metrics.counter("polyvisor_admission_reviews_total")
CREATED = metrics.counter("kubevirt_vm_created_by_pod_total")
REQUESTS = metrics.counter("polyvisor_api_requests_total")
LAST = metrics.gauge("kubevirt_vmi_last_api_connection_timestamp_seconds")
OPEN = {
    "console": metrics.gauge("kubevirt_console_active_connections"),
    "vnc": metrics.gauge("kubevirt_vnc_active_connections"),
    "port": metrics.gauge("kubevirt_portforward_active_tunnels"),
    "usbredir": metrics.gauge("kubevirt_usbredir_active_connections"),
}
_open: Counter[tuple[str, str, str]] = Counter()
_last: OrderedDict[tuple[str, str], None] = OrderedDict()


@contextmanager
def counted(stream: str, vmi: Obj) -> Iterator[None]:
    """Count a stream to a machine as open while the context lasts."""
    namespace, name = vmi["metadata"]["namespace"], vmi["metadata"]["name"]
    key, shown = (stream, namespace, name), OPEN[stream]
    _open[key] += 1
    shown.labels(namespace, name).set(_open[key])
    LAST.labels(namespace, name).set(time.time())
    _last.pop((namespace, name), None)
    _last[namespace, name] = None
    if len(_last) > REMEMBERED:
        LAST.remove(*_last.popitem(last=False)[0])
    try:
        yield
    finally:
        _open[key] -= 1
        if _open[key]:
            shown.labels(namespace, name).set(_open[key])
        else:
            del _open[key]
            shown.remove(namespace, name)


def reviewed(webhook: str, allowed: bool, request: Obj | None = None) -> None:
    """Count an admission review, and the virtual machine that it lets come into being."""
    REVIEWS.labels(webhook.strip("/"), str(allowed).lower()).inc()
    request = request or {}
    made = request.get("operation") == "CREATE" and nested(request, "resource").get("resource") == VMS.plural
    if allowed and made and webhook == "/validate" and not request.get("dryRun"):
        CREATED.labels(str(request.get("namespace") or "")).inc()


class Requests:
    """ASGI middleware that counts the aggregated API's requests by what became of them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count when the answer begins."""
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        found = metrics.resource_of(scope["path"])
        resource = found if found.partition("/")[0] in KINDS else "other"
        verb = scope.get("method", "CONNECT")

        async def counting(message: Message) -> None:
            if message["type"] == "websocket.accept":
                REQUESTS.labels(verb, resource, "101").inc()
            elif message["type"] in ("http.response.start", "websocket.http.response.start"):
                REQUESTS.labels(verb, resource, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
