"""An agent signs in as its Node: with what the cluster's signer gives, asked again where it is denied."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from polyvisor.agent.platform.endpoint.cluster import identity
from polyvisor.agent.platform.endpoint.cluster.identity import NodeIdentity
from polyvisor.api.endpoint_names import CLIENT_SIGNER, SERVING_SIGNER
from polyvisor.controllers.endpoint_identity import why_not
from polyvisor.kube import Connection
from polyvisor.kube.backoff import Backoff
from polyvisor.process.certificates import make_authority, now, parsed
from tests.cluster import running

Obj = dict[str, Any]
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODE, ADDRESS = "endpoint-rack4", "10.0.0.7"


class Signer:
    """Plays the cluster: judges as virt-operator does, and signs; ``deny`` as many requests as that first."""

    def __init__(self) -> None:
        self.authority = make_authority("signer", timedelta(days=1))
        self.asked: list[Obj] = []
        self.deny = 0

    def routes(self) -> list[Route]:
        return [Route(PATH, self._create, methods=["POST"]), Route(PATH, self._watch, methods=["GET"])]

    async def _create(self, request: Request) -> JSONResponse:
        made = await request.json()
        self.asked.append(made)
        made["metadata"]["resourceVersion"] = "1"
        return JSONResponse(made, 201)

    async def _watch(self, request: Request) -> StreamingResponse:
        made = self.asked[-1]
        assert request.query_params["fieldSelector"] == f"metadata.name={made['metadata']['name']}"
        condition = {"type": "Approved"}
        status: Obj = {}
        if self.deny:
            self.deny -= 1
            condition = {"type": "Denied", "reason": "NotOfThisEndpoint", "message": "no"}
        else:
            assert why_not(made["spec"], NODE, [ADDRESS]) == ""
            status["certificate"] = base64.b64encode(self._sign(base64.b64decode(made["spec"]["request"]))).decode()
        event = {"type": "MODIFIED", "object": {**made, "status": {**status, "conditions": [condition]}}}

        async def lines() -> AsyncIterator[bytes]:
            yield json.dumps(event).encode() + b"\n"

        return StreamingResponse(lines())

    def _sign(self, pem: bytes) -> bytes:
        request, issuer = x509.load_pem_x509_csr(pem), parsed(self.authority)
        key = load_pem_private_key(self.authority.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(issuer.subject)
        builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now()).not_valid_after(now() + timedelta(hours=1))
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
async def signer() -> Signer:
    return Signer()


async def test_two_certificates_are_asked_for_and_used(tmp_path: Path, signer: Signer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with running(tmp_path, extra_routes=signer.routes()) as client, asyncio.timeout(30):
        signing = NodeIdentity(client, NODE, ADDRESS)
        connection = Connection("https://api.example.org", context, token="an account's")
        async with await signing.signed_in(connection) as node:
            assert node.connection.ssl_context is context
            assert node.connection.authorization() == "", "the Node is not the account"
        await signing.ready_to_serve()
    assert [one["spec"]["signerName"] for one in signer.asked] == [CLIENT_SIGNER, SERVING_SIGNER]
    assert len({one["metadata"]["name"] for one in signer.asked}) == 2


async def test_who_is_denied_asks_again(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(identity, "AGAIN", Backoff(0.01, 0.01))
    signer.deny = 2
    async with running(tmp_path, extra_routes=signer.routes()) as client, asyncio.timeout(30):
        await NodeIdentity(client, NODE, ADDRESS).ready_to_serve()
    assert len(signer.asked) == 3
    assert "Denied: NotOfThisEndpoint: no" in caplog.text
