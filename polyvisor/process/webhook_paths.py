"""Where virt-api serves its webhooks: at paths that nobody can guess, because few API servers show who they are.

A webhook answers whoever reaches its port, and most managed API servers present no certificate to it. So each
installation has a token, the last part of every webhook's path, which virt-operator makes with virt-api's certificate,
keeps in the same Secret and writes into the webhook configurations. A new one is written there only once it is in the
Secret, and the one before is taken until the next comes, so that no call fails while they change.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Collection

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from polyvisor.api import Obj, names
from polyvisor.api.resources import SECRETS
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.process.kept import named, value

MUTATE, VALIDATE, EVICT, ENTER = "/mutate", "/validate", "/evict", "/enter"
PATHS = (MUTATE, VALIDATE, EVICT, ENTER)
OWN_PATHS = {
    "virt-launcher-eviction-interceptor.kubevirt.io": EVICT,
    "virt-launcher-entering.kubevirt.io": ENTER,
}
"""The path of a webhook, by its name, that judges no object."""
TOKENS = "webhook-tokens"
"""The key of the Secret: tokens in lines, the newest first."""
KEPT = 2
ASK_SECONDS = 1.0
"""How often an unknown token may have the Secret read anew."""


def tokens_of(secret: Obj | None) -> list[str]:
    """Return the tokens in virt-api's Secret, the newest first."""
    return value(secret or {}, TOKENS).decode(errors="replace").split()


def with_new(tokens: list[str]) -> list[str]:
    """Return the tokens after a change of certificates."""
    return [secrets.token_hex(20), *tokens][:KEPT]


def path_of(hook: str, mutates: bool, token: str) -> str:
    """Return the path that a webhook configuration has to have for one of its webhooks."""
    base = OWN_PATHS.get(hook) or (MUTATE if mutates else VALIDATE)
    return f"{base}/{token}"


class WebhookPaths:
    """The tokens that are taken, followed as they change."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._informer = named(client, SECRETS, namespace, names.API_SECRET)
        self._informer.on_change(lambda _, new: self._learn(new))
        self._tokens: list[str] = []
        self._there = asyncio.Event()
        self._asked = 0.0

    async def run(self) -> None:
        """Follow the Secret for ever."""
        await self._informer.run()

    async def wait(self) -> None:
        """Wait until there is a token."""
        await self._there.wait()

    async def takes(self, token: str) -> bool:
        """Whether a token is taken; one that is not known may be newer than what was heard of."""
        if self._known(token):
            return True
        if time.monotonic() - self._asked < ASK_SECONDS:
            return False
        self._asked = time.monotonic()
        try:
            self._learn(await self._client.get(SECRETS, names.API_SECRET, self._namespace))
        except ApiError:
            return False
        return self._known(token)

    def _known(self, token: str) -> bool:
        return any(hmac.compare_digest(token.encode(), known.encode()) for known in self._tokens)

    def _learn(self, secret: Obj | None) -> None:
        if found := tokens_of(secret):
            self._tokens = found
            self._there.set()


class WebhookGate:
    """ASGI middleware before the webhooks; other paths pass.

    ``peers`` gives the names of which a client certificate, where one is shown, has to have one; empty: any name.
    """

    def __init__(self, app: ASGIApp, paths: WebhookPaths, peers: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._paths = paths
        self._peers = peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has a token that is taken, at the path without it."""
        base, _, token = scope.get("path", "").rpartition("/")
        if base not in PATHS:
            if f"/{token}" in PATHS and not base:
                await _nothing_here(scope, receive, send)
            else:
                await self._app(scope, receive, send)
            return
        peer, peers = str(scope.get("state", {}).get("peer") or ""), self._peers()
        if (peer and peers and peer not in peers) or not await self._paths.takes(token):
            await _nothing_here(scope, receive, send)
            return
        await self._app({**scope, "path": base, "raw_path": base.encode()}, receive, send)


_nothing_here = PlainTextResponse("Not Found", 404)
