"""``python -m polyvisor.server``, virt-api: the webhooks and the aggregated API in one TLS server.

Its port opens at once, for probes; reviews and the aggregated API follow once everything is there to answer with: the
configuration, the certificate that virt-operator makes, and what the cluster says of its front proxy. A new certificate
is shown from the next connection on. An authority of the front proxy that is added is believed at once; one that is
taken away cannot be unlearned by a TLS context in use, so the process ends and is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from polyvisor.admission import AdmissionContext
from polyvisor.admission.configuration import effective
from polyvisor.api import Obj, names
from polyvisor.api.reading import nested
from polyvisor.api.resources import CONFIGMAPS, KUBEVIRTS
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.informer import Informer
from polyvisor.process import running
from polyvisor.process.body_limit import BodyLimit
from polyvisor.process.handlers import client_context
from polyvisor.process.health import PORT, Health, own_context
from polyvisor.process.kept import KeptPair, named
from polyvisor.process.metrics_readers import MetricsReaders
from polyvisor.process.pairs import split
from polyvisor.process.serving import WebServer, listen
from polyvisor.process.webhook_paths import PATHS, WebhookGate, WebhookPaths
from polyvisor.server import metrics, openapi
from polyvisor.server.entering import Entering
from polyvisor.server.evictions import Evictions
from polyvisor.server.frontproxy import Authorizer, FrontProxy, Gate
from polyvisor.server.remote_endpoints import RemoteEndpoints
from polyvisor.server.remote_node import RemoteNode
from polyvisor.server.subresources import Subresources
from polyvisor.server.subresources_machines import MAX_BODY
from polyvisor.server.webhooks import MAX_BODY as MAX_REVIEW
from polyvisor.server.webhooks import Webhooks

AUTHENTICATION = "extension-apiserver-authentication"


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("server", "virt-api: admission webhooks and subresources.kubevirt.io")
    parser.add_argument("--port", type=int, default=PORT, help="port of the TLS server")
    found = parser.parse_args(arguments)
    return running.run(found, lambda: Server(found).run(), "virt-api")


def configuration_of(kubevirts: Informer) -> Obj:
    """Return the configuration that holds: of the KubeVirt object, the one named so if there are several."""
    found = sorted(kubevirts.items(), key=lambda one: one["metadata"]["name"] != names.KUBEVIRT_NAME)
    return nested(found[0], "spec", "configuration") if found else {}


class Door:
    """An ASGI application that another one takes the place of while connections are open."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application of the moment."""
        await self.app(scope, receive, send)


class Server:
    """The process's parts."""

    def __init__(self, found: argparse.Namespace, drivers: DriverRegistry | None = None) -> None:
        self._options = found
        self._drivers = registry() if drivers is None else drivers
        self.health = Health()
        self.port = 0
        self._proxy = FrontProxy()
        self._tls = self.health.tls = own_context()
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        namespace = running.namespace_of(self._options)
        self.health.waits("server", "not listening yet")
        async with (
            running.client_of(self._options, "virt-api") as client,
            self._listening(client) as door,
            asyncio.TaskGroup() as group,
        ):
            kubevirts = Informer(client, KUBEVIRTS, namespace)
            self.health.follow(kubevirts)
            proxy = named(client, CONFIGMAPS, "kube-system", AUTHENTICATION)
            proxy.on_change(lambda _, new: self._learn(new or {}))
            shown = KeptPair(client, namespace, names.API_SECRET)
            ours = KeptPair(client, namespace, names.API_CLIENT_SECRET)
            paths = WebhookPaths(client, namespace)
            for follower in (kubevirts, proxy, shown, ours, paths):
                group.create_task(follower.run())
            self.health.waits("certificates", f"Secrets {shown.name} and {ours.name}, which virt-operator makes")
            await asyncio.gather(kubevirts.synced(), proxy.synced(), shown.wait(), ours.wait(), paths.wait())
            self.health.has("certificates")
            shown.shown_by(self._tls)
            group.create_task(self._end_when_lost())
            node = RemoteNode(client, namespace, client_context(ours))
            endpoints = RemoteEndpoints(client, namespace, client_context(ours))
            door.app = self._application(client, namespace, kubevirts, node, endpoints, paths)
            self.health.has("server")
            metrics.READY.set(1)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.health.waits("server", "stopping")
                metrics.READY.set(0)

    @asynccontextmanager
    async def _listening(self, client: KubeClient) -> AsyncIterator[Door]:
        self.health.readers = MetricsReaders(client)
        door = Door(Starlette(routes=self.health.routes()))
        with listen(self._options.bind, self._options.port) as listener:
            web = WebServer(door, listener, self._tls)
            await web.start()
            self.port = web.port
            try:
                yield door
            finally:
                await web.stop()

    def _application(
        self,
        client: KubeClient,
        namespace: str,
        kubevirts: Informer,
        node: RemoteNode,
        endpoints: RemoteEndpoints,
        paths: WebhookPaths,
    ) -> ASGIApp:
        webhooks = Webhooks(
            client,
            lambda: AdmissionContext(
                effective(configuration_of(kubevirts), self._drivers), self._drivers, cluster=True
            ),
            metrics.reviewed,
            frozenset(f"system:serviceaccount:{namespace}:{account}" for account in names.COMPONENT_ACCOUNTS),
        )
        gate = Middleware(Gate, proxy=lambda: self._proxy, authorizer=Authorizer(client))
        doors = [
            Middleware(metrics.Requests),
            gate,
            Middleware(BodyLimit, limit_of=body_limit),
            Middleware(WebhookGate, paths=paths, peers=lambda: self._proxy.names),
        ]
        routes = [
            *webhooks.routes(),
            *Evictions(client, lambda: configuration_of(kubevirts), metrics.reviewed).routes(),
            *Entering(client, self._drivers, metrics.reviewed).routes(),
            *Subresources(client, node, self._drivers).routes(),
            *endpoints.routes(),
            *openapi.routes(),
            *self.health.routes(),
        ]
        return Starlette(routes=routes, middleware=doors)

    def _learn(self, configmap: Obj) -> None:
        new = FrontProxy.of(configmap)
        before, now = set(_certificates(self._proxy)), set(_certificates(new))
        if before - now:
            self._lost.set()
        if now - before:
            self._tls.load_verify_locations(cadata=new.authorities)
        self._proxy = new

    async def _end_when_lost(self) -> None:
        await self._lost.wait()
        raise running.Restart("an authority of the front proxy was taken away")


def body_limit(path: str) -> int:
    """Return how long a request's body may be: a review has two objects in it, and is wrapped."""
    return MAX_REVIEW if path.startswith(PATHS) else MAX_BODY


def _certificates(proxy: FrontProxy) -> list[bytes]:
    try:
        return split(proxy.authorities.encode())
    except ValueError:
        return []


def entry() -> None:
    """Run with the command line's arguments."""
    sys.exit(main(sys.argv[1:]))
