"""Who a standalone Polyvisor is, and who may use it: its certificates, its token, and a kubeconfig that has both.

Everything lies in the state folder with mode 0600 and is made once; a certificate near its end is made anew, with the
same authority, so that kubeconfigs that were handed out go on working.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 365
_RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of one state folder, and the token itself."""

    ca: Path
    cert: Path
    key: Path
    token_file: Path
    token: str

    def kubeconfig(self, port: int, host: str = "127.0.0.1") -> str:
        """Return a kubeconfig for the server at that port."""
        address = f"[{host}]" if ":" in host else host
        cluster = {
            "server": f"https://{address}:{port}",
            "certificate-authority-data": b64encode(self.ca.read_bytes()).decode(),
        }
        context = {"cluster": "polyvisor", "user": "polyvisor", "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "polyvisor", "cluster": cluster}],
            "users": [{"name": "polyvisor", "user": {"token": self.token}}],
            "contexts": [{"name": "polyvisor", "context": context}],
            "current-context": "polyvisor",
        }
        return yaml.safe_dump(config, sort_keys=False)


def ensure_identity(state: Path) -> Identity:
    """Return the identity of a state folder, making what is missing."""
    tls = state / "tls"
    tls.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = tls / "ca.crt", tls / "ca.key"
    cert, key = tls / "server.crt", tls / "server.key"
    if not (_fresh(ca) and ca_key.exists()):
        _make_authority(ca, ca_key)
        cert.unlink(missing_ok=True)
    if not (_fresh(cert) and key.exists()):
        _make_server(ca, ca_key, cert, key)
    token_file = state / "token"
    if not token_file.exists():
        write_private(token_file, secrets.token_urlsafe(32) + "\n")
    return Identity(ca, cert, key, token_file, token_file.read_text().strip())


def write_kubeconfig(path: Path, identity: Identity, port: int, host: str = "127.0.0.1") -> None:
    """Write the kubeconfig, replacing an older one in one step."""
    write_private(path, identity.kubeconfig(port, host))


def write_private(path: Path, text: str | bytes) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    data = text.encode() if isinstance(text, str) else text
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _fresh(path: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    return certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=_RENEW_DAYS)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(cert: Path, key: Path, certificate: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> None:
    plain = serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    write_private(key, pem)
    write_private(cert, certificate.public_bytes(serialization.Encoding.PEM))


def _make_authority(cert: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = f"polyvisor-ca-{secrets.token_hex(4)}"
    certificate = (
        _builder(name, name, private, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    _write_pair(cert, key, certificate, private)


def _make_server(ca: Path, ca_key: Path, cert: Path, key: Path) -> None:
    authority = x509.load_pem_x509_certificate(ca.read_bytes())
    signer = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    private = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    certificate = (
        _builder("polyvisor", str(issuer), private, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_pair(cert, key, certificate, private)
