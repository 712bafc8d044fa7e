"""Which certificates an endpoint's agent gets: those of its own Node, by its own address."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from polyvisor.api.endpoint_names import CLIENT_SIGNER, SERVING_SIGNER, USAGES
from polyvisor.controllers.endpoint_identity import why_not

Obj = dict[str, Any]
NODE, ADDRESS = "endpoint-rack4", "10.0.0.7"
KEY = ec.generate_private_key(ec.SECP256R1())
OURS = ((NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, f"system:node:{NODE}"))
DNS, IP = x509.DNSName(NODE), x509.IPAddress(ip_address(ADDRESS))


def request(signer: str, names: Sequence[x509.GeneralName] = (), subject: Sequence[Any] = OURS, **more: Any) -> Obj:
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
    return {"signerName": signer, "usages": USAGES[signer], "request": base64.b64encode(pem).decode(), **more}


@pytest.mark.parametrize(
    "spec", [request(CLIENT_SIGNER), request(SERVING_SIGNER, [DNS, IP]), request(CLIENT_SIGNER, (), OURS[::-1])]
)
def test_what_an_agent_asks_for_is_its_own(spec: Obj) -> None:
    assert why_not(spec, NODE, [ADDRESS]) == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (request(CLIENT_SIGNER, (), [OURS[0], (NameOID.COMMON_NAME, "system:node:node1")]), "the subject is"),
        (request(CLIENT_SIGNER, (), [(NameOID.ORGANIZATION_NAME, "system:masters"), OURS[1]]), "the subject is"),
        (request(CLIENT_SIGNER, (), [*OURS, (NameOID.ORGANIZATION_NAME, "system:masters")]), "the subject is"),
        (request(CLIENT_SIGNER, (), [OURS[1]]), "the subject is"),
        (request(CLIENT_SIGNER, [DNS]), "it names DNS:endpoint-rack4"),
        (request(CLIENT_SIGNER, usages=["digital signature", "server auth"]), "usages are"),
        (request(SERVING_SIGNER, [DNS, x509.IPAddress(ip_address("10.0.0.8"))]), "it names IP:10.0.0.8"),
        (request(SERVING_SIGNER, [x509.DNSName("kubernetes.default.svc")]), "it names DNS:kubernetes.default.svc"),
        (request(SERVING_SIGNER, [x509.RFC822Name("a@b.example.org")]), "it names RFC822Name"),
        (request(CLIENT_SIGNER, request="bm90aGluZw=="), "cannot be read"),
        (request(CLIENT_SIGNER, request="?"), "cannot be read"),
    ],
)
def test_what_is_anothers_is_denied(spec: Obj, said: str) -> None:
    assert said in why_not(spec, NODE, [ADDRESS])


def test_an_agent_without_a_pod_has_no_address() -> None:
    assert "it names IP" in why_not(request(SERVING_SIGNER, [DNS, IP]), NODE, [])
