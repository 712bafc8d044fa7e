"""Key pairs that others have made: reading them and having TLS show them, with the standard library alone.

Most processes only show pairs and believe authorities. What isn't obvious: Python's :mod:`ssl` tells nothing of a
certificate that it loads, so the one field that logs need is read from its DER encoding (RFC 5280, section 4.1).
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_FORMATS = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    @classmethod
    def of(cls, data: bytes) -> Pair:
        """Read a PEM file that has both; raises ValueError if one is missing."""
        certificate, key = _CERTIFICATE.search(data), _KEY.search(data)
        if certificate is None or key is None:
            raise ValueError("there is no certificate with its private key")
        return cls(certificate[0] + b"\n", key[0])


def split(bundle: bytes) -> list[bytes]:
    """Return the certificates of a bundle, each as PEM; raises ValueError if one cannot be used, or there is none."""
    found = [ssl.PEM_cert_to_DER_cert(one.decode("ascii")) for one in _CERTIFICATE.findall(bundle)]
    if not found:
        raise ValueError("there is no certificate")
    for one in found:
        _check(one)
    return [ssl.DER_cert_to_PEM_cert(one).encode() for one in found]


def valid_until(certificate: bytes) -> datetime:
    """Return the end of a PEM certificate's validity; raises ValueError if it is no certificate."""
    der = ssl.PEM_cert_to_DER_cert(split(certificate)[0].decode())
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    if der[at] == _VERSION:
        at = _element(der, at)[2]
    for _ in ("serial number", "signature", "issuer"):
        at = _element(der, at)[2]
    _, at, _ = _element(der, at)
    kind, begin, end = _element(der, _element(der, at)[2])
    return datetime.strptime(der[begin:end].decode("ascii"), _FORMATS[kind]).replace(tzinfo=UTC)


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Have a context show a pair from its next connection on. The key is never written to a disk."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        data = pair.certificate.rstrip() + b"\n" + pair.key
        while data:
            data = data[os.write(descriptor, data) :]
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _check(der: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except ssl.SSLError as error:
        raise ValueError(f"this is not a valid certificate: {error.reason}") from error


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, begin and end of the content of the element at ``at``; OpenSSL has checked the lengths."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size], "big"), begin + size
    return der[at], begin, begin + length
