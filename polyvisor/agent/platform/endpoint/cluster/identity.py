"""Signing in as the Node that stands for an endpoint's host, and the certificate that its kubelet port shows.

Both come from the cluster's own signers, by CertificateSigningRequests that the service account of this agent makes and
virt-operator approves for this one Node. So Kubernetes limits the agent as it limits a kubelet: to its Node, the Pods
there, and the Secrets that these name. The keys stay in memory, and a pair is renewed before it ends, from the next
connection on.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from polyvisor.api import Obj
from polyvisor.api.cluster_resources import CSRS
from polyvisor.api.endpoint_names import CLIENT_SIGNER, NODE_GROUP, SERVING_SIGNER, USAGES, node_user
from polyvisor.api.reading import read_status
from polyvisor.kube.backoff import Backoff
from polyvisor.kube.client import KubeClient
from polyvisor.kube.config import Connection
from polyvisor.kube.errors import ApiError
from polyvisor.process.certificates import now, parsed
from polyvisor.process.pairs import Pair, load_pair

LIFE_SECONDS = 86400
"""The life that is asked for; the cluster's signer may give less."""
RENEW_AT = 0.7
"""The share of its life after which a certificate is asked for anew."""
SIGN_SECONDS = 60.0
"""How long a request waits to be approved and signed before another is made."""
AGAIN = Backoff(1.0, 60.0)
log = logging.getLogger("polyvisor.identity")


class Denied(Exception):
    """A certificate was refused, or nobody signs it."""


class NodeIdentity:
    """The two pairs of one Node. ``client`` is the service account's."""

    def __init__(self, client: KubeClient, node: str, address: str) -> None:
        self._client = client
        self._node = node
        self._address = address
        self.serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """The context of the kubelet's port."""

    async def signed_in(self, connection: Connection) -> KubeClient:
        """Return a client that is the Node; ``connection`` says where the API server is. Waits for the certificate."""
        context = connection.ssl_context
        if context is None:
            raise Denied("the API server is reached without TLS, so nobody can sign in by a certificate")
        load_pair(context, await self._insistent(self._for_client))
        there = replace(connection, token="", token_file=None, basic=None, plugin=None)
        return KubeClient(there, field_manager=self._node)

    async def ready_to_serve(self) -> None:
        """Wait for the certificate of the kubelet's port."""
        load_pair(self.serving, await self._insistent(self._for_serving))

    async def keep(self, connection: Connection) -> None:
        """Renew both until cancelled."""
        assert connection.ssl_context is not None
        await asyncio.gather(
            self._renew(connection.ssl_context, self._for_client), self._renew(self.serving, self._for_serving)
        )

    async def _renew(self, context: ssl.SSLContext, ask: Callable[[], Awaitable[Pair]]) -> None:
        pause = LIFE_SECONDS * RENEW_AT / 2
        while True:
            await asyncio.sleep(pause)
            pair = await self._insistent(ask)
            load_pair(context, pair)
            pause = (parsed(pair).not_valid_after_utc - now()).total_seconds() * RENEW_AT

    async def _insistent(self, ask: Callable[[], Awaitable[Pair]]) -> Pair:
        failed = 0
        while True:
            try:
                return await ask()
            except (ApiError, Denied) as error:
                failed += 1
                pause = AGAIN.delay(failed)
                log.warning("no certificate for %s: %s; again in %.0f s", self._node, error, pause)
                await asyncio.sleep(pause)

    async def _for_client(self) -> Pair:
        return await self._signed(CLIENT_SIGNER, [])

    async def _for_serving(self) -> Pair:
        names: list[x509.GeneralName] = [x509.DNSName(self._node), x509.IPAddress(ip_address(self._address))]
        return await self._signed(SERVING_SIGNER, names)

    async def _signed(self, signer: str, names: list[x509.GeneralName]) -> Pair:
        """Have one certificate signed. Raises :class:`ApiError` and :class:`Denied`."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = {
            "apiVersion": CSRS.api_version,
            "kind": CSRS.kind,
            "metadata": {"name": f"{self._node}-{secrets.token_hex(5)}"},
            "spec": {
                "request": base64.b64encode(request_of(self._node, key, names)).decode(),
                "signerName": signer,
                "usages": USAGES[signer],
                "expirationSeconds": int(timedelta(seconds=LIFE_SECONDS).total_seconds()),
            },
        }
        made = await self._client.create(CSRS, request)
        certificate = await self._answer(made)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(certificate, private)

    async def _answer(self, made: Obj) -> bytes:
        name, version = made["metadata"]["name"], made["metadata"]["resourceVersion"]
        stream = self._client.watch(CSRS, resource_version=version, field_selector=f"metadata.name={name}")
        try:
            async with asyncio.timeout(SIGN_SECONDS), aclosing(stream) as events:
                async for event in events:
                    if found := _certificate(event.object):
                        return found
        except TimeoutError:
            why = f"request {name} was not signed within {SIGN_SECONDS:.0f} s; is virt-operator there?"
            raise Denied(why) from None
        raise Denied(f"the watch on request {name} ended")


def _certificate(request: Obj) -> bytes:
    status = read_status(request)
    for one in status.get("conditions") or []:
        if one.get("type") in ("Denied", "Failed"):
            raise Denied(f"{one['type']}: {one.get('reason')}: {one.get('message')}")
    return base64.b64decode(status.get("certificate") or "")


def request_of(node: str, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName]) -> bytes:
    """Return the signing request of a Node, as PEM."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODE_GROUP),
            x509.NameAttribute(NameOID.COMMON_NAME, node_user(node)),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
