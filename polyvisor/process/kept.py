"""Key pairs that lie in Secrets, followed as they change: what a process shows, and whom it believes.

Only the Secrets that are named are read, one by one, so that a process needs no right to any other.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections.abc import Callable

from polyvisor.api import Obj
from polyvisor.api.reading import nested
from polyvisor.api.resources import SECRETS, Resource
from polyvisor.kube.client import KubeClient
from polyvisor.kube.informer import Informer
from polyvisor.process.pairs import Pair, load_pair, valid_until

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
log = logging.getLogger("polyvisor.certificates")


def named(client: KubeClient, resource: Resource, namespace: str, name: str) -> Informer:
    """Return an informer of one object."""
    return Informer(client, resource, namespace, field_selector=f"metadata.name={name}")


def value(secret: Obj, key: str) -> bytes:
    """Return a value of a Secret, empty if there is none or it is no base64."""
    try:
        return base64.b64decode(nested(secret, "data").get(key) or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


class KeptPair:
    """The pair in one Secret. Whoever uses it is told of every new one."""

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self.name = name
        self.authorities = b""
        self._informer = named(client, SECRETS, namespace, name)
        self._pair: Pair | None = None
        self._there = asyncio.Event()
        self._users: list[Callable[[Pair, bytes], None]] = []
        self._informer.on_change(lambda _, new: self._changed(new))

    async def run(self) -> None:
        """Follow the Secret for ever."""
        await self._informer.run()

    async def wait(self) -> Pair:
        """Wait until there is a pair, and return it."""
        await self._there.wait()
        assert self._pair is not None
        return self._pair

    def follow(self, use: Callable[[Pair, bytes], None]) -> None:
        """Call ``use`` with the pair and the authorities beside it: now, if there is one, and when it changes."""
        self._users.append(use)
        if self._pair is not None:
            use(self._pair, self.authorities)

    def shown_by(self, context: ssl.SSLContext) -> None:
        """Have a TLS context show the pair, and each later one from the next connection on."""
        self.follow(lambda pair, _: load_pair(context, pair))

    def _changed(self, secret: Obj | None) -> None:
        if secret is None:
            return  # what was shown stays good until it is made anew
        pair, authorities = Pair(value(secret, CERTIFICATE), value(secret, KEY)), value(secret, AUTHORITIES)
        if (pair, authorities) == (self._pair, self.authorities):
            return
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
        except ssl.SSLError as error:
            log.error("the pair in Secret %s cannot be used: %s", self.name, error)
            return
        log.info("Secret %s: a pair valid until %s", self.name, valid_until(pair.certificate).isoformat())
        self._pair, self.authorities = pair, authorities
        self._there.set()
        for use in self._users:
            use(pair, authorities)
