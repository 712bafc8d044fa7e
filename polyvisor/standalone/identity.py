"""Who a standalone Polyvisor is, and who may use it: its certificates, its token, and a kubeconfig that has both.

Everything lies in the state folder with mode 0600 and is made once; a certificate near its end is made anew, with the
same authority, so that kubeconfigs that were handed out go on working.
"""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509

from polyvisor.process.certificates import issue_server, make_authority
from polyvisor.process.pairs import Pair

_NAMES = ("localhost", "127.0.0.1", "::1")
_AUTHORITY_LIFETIME = timedelta(days=3650)
_SERVER_LIFETIME = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)


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
        _keep(ca, ca_key, make_authority("polyvisor-ca", _AUTHORITY_LIFETIME))
        cert.unlink(missing_ok=True)
    if not (_fresh(cert) and key.exists()):
        authority = Pair(ca.read_bytes(), ca_key.read_bytes())
        _keep(cert, key, issue_server(authority, _NAMES, _SERVER_LIFETIME))
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
    return certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE


def _keep(cert: Path, key: Path, pair: Pair) -> None:
    write_private(key, pair.key)
    write_private(cert, pair.certificate)
