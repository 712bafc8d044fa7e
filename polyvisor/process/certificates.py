"""Making key pairs: an authority of our own, and what it signs. Values in, PEM out; others keep them.

A pair has one role. A server's certificate carries the DNS names under which it is reached, a client's carries its
name as common name; neither can be used as the other. The library for it takes 4 MiB of each process that loads it, so
who only shows pairs uses :mod:`polyvisor.process.pairs`. ``python -m polyvisor.process.certificates`` prints a server's
pair that nobody else knows, for :func:`~polyvisor.process.health.own_context`.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polyvisor.process.pairs import Pair

LIFE = timedelta(days=3650)
"""Of a pair that a process makes for itself."""
SKEW = timedelta(minutes=5)
"""How far clocks may be apart: a certificate is valid from that long ago."""


def parsed(pair: Pair) -> x509.Certificate:
    """Return a pair's certificate; raises ValueError if it is none."""
    return x509.load_pem_x509_certificate(pair.certificate)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def make_authority(name: str, lifetime: timedelta, at: datetime | None = None) -> Pair:
    """Make an authority; its name is its own alone, so that two of them can be told apart."""
    at = at or now()
    private = ec.generate_private_key(ec.SECP256R1())
    subject = f"{name}-{int(at.timestamp())}"
    builder = _builder(subject, subject, private, lifetime, at).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return _pair(builder.add_extension(_usage(sign=True), critical=True).sign(private, hashes.SHA256()), private)


def issue_server(authority: Pair, names: Sequence[str], lifetime: timedelta, at: datetime | None = None) -> Pair:
    """Make a server's pair for some DNS names and addresses."""
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    return _issue(authority, names[0], lifetime, at or now(), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)


def issue_client(authority: Pair, name: str, lifetime: timedelta, at: datetime | None = None) -> Pair:
    """Make a client's pair under a name."""
    return _issue(authority, name, lifetime, at or now(), ExtendedKeyUsageOID.CLIENT_AUTH, None)


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether an authority signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # what is raised differs by what is wrong
        return False
    return True


def _issue(
    authority: Pair,
    common: str,
    lifetime: timedelta,
    at: datetime,
    usage: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None,
) -> Pair:
    signer = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic curve's")
    issuer = parsed(authority)
    private = ec.generate_private_key(ec.SECP256R1())
    until = min(at + lifetime, issuer.not_valid_after_utc)
    name = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = (
        _builder(common, str(name), private, until - at, at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return _pair(builder.sign(signer, hashes.SHA256()), private)


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta, at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - SKEW)
        .not_valid_after(at + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> Pair:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), pem)


if __name__ == "__main__":
    made = issue_server(make_authority("polyvisor-health", LIFE), ("localhost",), LIFE)
    sys.stdout.buffer.write(made.certificate + made.key)
