"""What a cluster asks of a process: whether it lives, whether it is ready, and its figures for Prometheus.

All of it is answered by TLS on KubeVirt's port, 8443, from a process's first moment on: with a certificate that the
process made for itself until virt-operator has made one, and with that for good where the process has no other.
Kubelets and KubeVirt's tools, which ask each component as ``/healthz`` for the configuration that it goes by, believe
any certificate.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from polyvisor.kube.client import KubeClient
from polyvisor.kube.informer import Informer
from polyvisor.process.metrics_readers import MetricsReaders, Nameless
from polyvisor.process.pairs import Pair, load_pair
from polyvisor.process.serving import WebServer, listen
from polyvisor.process.tls import heed

PORT = 8443
OWN_PAIR_SECONDS = 60
REFUSED = {
    401: "the token is not valid in this cluster",
    403: "the token's user may not get /metrics; a ClusterRole with nonResourceURLs [/metrics] and verb get allows it",
    503: "the API server could not be asked whose token this is; try again",
}
"""Why the figures are not shown, by HTTP status."""


def port_option(parser: argparse.ArgumentParser) -> None:
    """Let a process be told where it answers."""
    parser.add_argument("--health-port", type=int, default=PORT, help="port of /readyz, /livez and /metrics, by TLS")


class Health:
    """Whether a process is ready: ``ready`` holds what it still waits for, and why."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.before_figures: list[Callable[[], Awaitable[None]]] = []
        """What is to be done before figures are shown, where they have to be asked for elsewhere."""
        self.kubevirts: Informer | None = None
        """What knows the KubeVirt object, whose version the process tells."""
        self.tls: ssl.SSLContext | None = None
        """What the answers are given by, which the KubeVirt object's ``tlsConfiguration`` holds for."""
        self.readers: MetricsReaders | None = None
        """Who judges tokens for ``/metrics``; none are accepted without it."""

    def follow(self, kubevirts: Informer) -> None:
        """Tell of the KubeVirt object that an informer sees, and hold to what it says of TLS."""
        self.kubevirts = kubevirts
        if self.tls is not None:
            heed(kubevirts, self.tls)

    def waits(self, what: str, why: str) -> None:
        """Say that something is missing."""
        self._missing[what] = why

    def has(self, what: str) -> None:
        """Say that something is there now."""
        self._missing.pop(what, None)
        if not self._missing:
            self._changed.set()
            self._changed = asyncio.Event()

    @property
    def missing(self) -> dict[str, str]:
        """What is missing still."""
        return dict(self._missing)

    async def ready(self) -> None:
        """Wait until nothing is missing."""
        while self._missing:
            await self._changed.wait()

    def routes(self, registry: CollectorRegistry = REGISTRY) -> list[Route]:
        """Return the routes: ``/livez``, ``/healthz``, ``/readyz`` and ``/metrics``."""

        async def alive(_: Request) -> Response:
            return PlainTextResponse("ok")

        async def ready(_: Request) -> Response:
            if not self._missing:
                return PlainTextResponse("ok")
            return PlainTextResponse("\n".join(f"{k}: {v}" for k, v in self._missing.items()), status_code=503)

        async def metrics(asked: Request) -> Response:
            authorization = asked.headers.get("authorization")
            if authorization is None:
                return await figures((), Nameless(registry))
            status = await self.readers.judge(authorization) if self.readers else 401
            if status != 200:
                return PlainTextResponse(REFUSED[status], status_code=status)
            return await figures(self.before_figures, registry)

        return [
            Route("/livez", alive),
            # KubeVirt's tools ask with one slash too many
            *(Route(path, self.healthy) for path in ("/healthz", "//healthz")),
            Route("/readyz", ready),
            Route("/metrics", metrics),
        ]

    async def healthy(self, _: Request) -> Response:
        """Say that the process lives, and which version of the KubeVirt object it has seen."""
        found = self.kubevirts.items() if self.kubevirts else []
        versions = (str(one["metadata"]["resourceVersion"]) for one in found)
        return JSONResponse({"config-resource-version": max(versions, key=lambda v: (len(v), v), default="")})


async def figures(
    before: Iterable[Callable[[], Awaitable[None]]] = (), registry: CollectorRegistry | Nameless = REGISTRY
) -> Response:
    """Answer with the figures of a registry."""
    for refresh in before:
        await refresh()
    shown = generate_latest(registry)
    return Response(shown, media_type=CONTENT_TYPE_LATEST)


@asynccontextmanager
async def serve_health(health: Health, client: KubeClient, host: str, port: int) -> AsyncIterator[int]:
    """Answer while the context lasts; gives the port. The client asks who may read the figures."""
    health.readers, health.tls = MetricsReaders(client), own_context()
    with listen(host, port) as listener:
        server = WebServer(Starlette(routes=health.routes()), listener, health.tls, websockets=False)
        await server.start()
        try:
            yield server.port
        finally:
            await server.stop()


def own_context() -> ssl.SSLContext:
    """Return a TLS context with a certificate that nobody else knows, for who only wants to be understood.

    Another process makes the pair, which takes the library for it along when it ends.
    """
    command = [sys.executable, "-m", "polyvisor.process.certificates"]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=OWN_PAIR_SECONDS).stdout
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, Pair.of(made))
    return context
