"""What ``tlsConfiguration`` asks of those who connect: real handshakes with a server whose configuration changes."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any

import pytest

from polyvisor.api.tls_ciphers import CIPHERS, KNOWN
from polyvisor.process.certificates import issue_server, make_authority
from polyvisor.process.pairs import load_pair
from polyvisor.process.tls import apply

DAY = timedelta(days=1)
CA = make_authority("ca", DAY)
PAIR = issue_server(CA, ["localhost"], DAY)
GCM = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
RSA = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"


def server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, PAIR)
    return context


def client(newest: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=CA.certificate.decode())
    context.maximum_version = newest
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def shaken(to: ssl.SSLContext, by: ssl.SSLContext) -> tuple[str, str]:
    """Return protocol and cipher suite of a connection; raises SSLError where there is none."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [by.wrap_bio(down, up, server_hostname="localhost"), to.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    cipher = ends[0].cipher()
    assert cipher is not None
    return cipher[1], cipher[0]


def test_the_least_version_is_held_to_from_the_next_connection_on() -> None:
    context = server()
    older, newer = client(ssl.TLSVersion.TLSv1_2), client(ssl.TLSVersion.TLSv1_3)
    assert shaken(context, older)[0] == "TLSv1.2"
    apply(context, {"tlsConfiguration": {"minTLSVersion": "VersionTLS13"}})
    with pytest.raises(ssl.SSLError, match="protocol"):
        shaken(context, older)
    assert shaken(context, newer)[0] == "TLSv1.3"
    apply(context, {})
    assert shaken(context, older)[0] == "TLSv1.2"


@pytest.mark.parametrize("asked", [{}, {"minTLSVersion": "VersionTLS10"}, {"minTLSVersion": ""}])
def test_less_than_tls_1_2_is_never_served(asked: Any) -> None:
    context = server()
    apply(context, {"tlsConfiguration": asked})
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_suites_are_those_that_are_named() -> None:
    context = server()
    apply(context, {"tlsConfiguration": {"minTLSVersion": "VersionTLS12", "ciphers": [GCM, RSA]}})
    assert shaken(context, client(ssl.TLSVersion.TLSv1_2)) == ("TLSv1.2", CIPHERS[GCM])
    with pytest.raises(ssl.SSLError):
        shaken(context, client(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"))
    apply(context, {"tlsConfiguration": {"minTLSVersion": "VersionTLS12"}})
    assert shaken(context, client(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"))[0] == "TLSv1.2"


def test_suites_that_fit_no_key_of_ours_leave_tls_1_3_alone() -> None:
    context = server()
    apply(context, {"tlsConfiguration": {"minTLSVersion": "VersionTLS12", "ciphers": [RSA]}})
    with pytest.raises(ssl.SSLError):
        shaken(context, client(ssl.TLSVersion.TLSv1_2))
    assert shaken(context, client(ssl.TLSVersion.TLSv1_3))[0] == "TLSv1.3"


@pytest.mark.parametrize("name", sorted(CIPHERS))
def test_each_suite_is_known_to_openssl(name: str) -> None:
    context = server()
    context.set_ciphers(f"{CIPHERS[name]}:@SECLEVEL=0")
    assert CIPHERS[name] in [one["name"] for one in context.get_ciphers()]
    assert name in KNOWN
