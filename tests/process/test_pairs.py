from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from polyvisor.process.certificates import issue_server, make_authority, parsed
from polyvisor.process.pairs import Pair, load_pair, split, valid_until

DAY = timedelta(days=1)


def test_a_bundle_is_split_into_its_certificates() -> None:
    pairs = [make_authority("a", DAY), make_authority("b", DAY)]
    bundle = b"\n# a remark\n".join(pair.certificate for pair in pairs)
    assert [x509.load_pem_x509_certificate(one) for one in split(bundle)] == [parsed(pair) for pair in pairs]
    assert split(bundle) == [pair.certificate for pair in pairs]


@pytest.mark.parametrize("body", [b"", b"AAAA", b"MIIB", b"!"])
def test_what_is_no_certificate_is_refused(body: bytes) -> None:
    good = make_authority("a", DAY).certificate
    bad = b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match=r"certificate|base64|padding|encoded|PEM"):
        split(good + bad)
    with pytest.raises(ValueError, match="no certificate"):
        split(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("end", [datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)])
def test_the_end_of_a_certificate_is_read_in_both_of_its_forms(end: datetime) -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    for pair in (
        make_authority("a", end - at, at),
        issue_server(make_authority("b", end - at, at), ["a" * 60], end - at),
    ):
        assert valid_until(pair.certificate) == parsed(pair).not_valid_after_utc


def test_a_pair_is_read_from_a_file_of_both() -> None:
    pair = issue_server(make_authority("a", DAY), ["a"], DAY)
    assert Pair.of(pair.key + pair.certificate) == pair
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Pair.of(pair.certificate + pair.key))
    with pytest.raises(ValueError, match="no certificate with its private key"):
        Pair.of(pair.certificate)
