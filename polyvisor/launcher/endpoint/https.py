"""Volumes by HTTPS, for hosts to which libvirt uploads nothing: to the connection's host, with its credentials.

The host is verified as libvirt verifies it: by the authorities of this machine, unless the connection is not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from polyvisor.launcher.endpoint.owned import Refused

SECONDS = 60.0
MAX_TEXT = 200
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Access:
    """The connection's URI, and who connects."""

    uri: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    fingerprint: str = ""
    """SHA-256 of the certificate that the host has to show, if it is known by that."""

    @property
    def user(self) -> str:
        """The user of the URI, else the one that was given."""
        return unquote(urlsplit(self.uri).username or "") or self.username

    @property
    def verified(self) -> bool:
        """Whether the connection verifies its host."""
        return parse_qs(urlsplit(self.uri).query).get("no_verify", ["0"])[-1] != "1"


def check(access: Access) -> None:
    """Compare the certificate that a host shows with the fingerprint. Raises :class:`Refused`."""
    parts = urlsplit(access.uri)
    client = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=_context(access), timeout=SECONDS)
    try:
        client.connect()
        _compare(client, access)
    except OSError as error:
        raise Refused("connect", f"{parts.hostname} cannot be reached: {error}") from None
    finally:
        client.close()


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not access.verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _compare(client: http.client.HTTPSConnection, access: Access) -> None:
    if not access.fingerprint:
        return
    shown = client.sock.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(shown).hexdigest()
    if not hmac.compare_digest(found, access.fingerprint.replace(":", "").lower()):
        pairs = ":".join(found[i : i + 2] for i in range(0, len(found), 2))
        raise Refused(
            "fingerprint", f"the host's certificate has the fingerprint {pairs}, which is not the one expected"
        )


def put(access: Access, url: str, pieces: Iterator[bytes], length: int) -> None:
    """Write ``length`` bytes to an address of the connection's host. Raises :class:`Refused`."""
    client, host = _begun(access, "PUT", url)
    try:
        client.putheader("Content-Type", "application/octet-stream")
        client.putheader("Content-Length", str(length))
        client.endheaders()
        for piece in pieces:
            client.send(piece)
        answer = client.getresponse()
        answer.read(MAX_TEXT)
    except (OSError, http.client.HTTPException) as error:
        raise Refused("upload", f"the upload to {host} failed: {error}") from None
    finally:
        client.close()
    if answer.status not in (200, 201, 204):
        raise Refused("upload", f"{host} refused the upload: HTTP {answer.status} {answer.reason[:MAX_TEXT]}")


def get(access: Access, url: str) -> Iterator[bytes]:
    """Give the content of an address of the connection's host. Raises :class:`Refused`."""
    client, host = _begun(access, "GET", url)
    try:
        client.endheaders()
        answer = client.getresponse()
        if answer.status != 200:
            raise Refused("download", f"{host} refused the download: HTTP {answer.status} {answer.reason[:MAX_TEXT]}")
        while data := answer.read(CHUNK):
            yield data
        if answer.length:
            raise Refused("cut", f"the download from {host} ended {answer.length} bytes early")
    except (OSError, http.client.HTTPException) as error:
        raise Refused("download", f"the download from {host} failed: {error}") from None
    finally:
        client.close()


def _begun(access: Access, method: str, url: str) -> tuple[http.client.HTTPSConnection, str]:
    """Return a request to the connection's host with its credentials, whose headers go on; and the host."""
    parts, host = urlsplit(url), urlsplit(access.uri).hostname or ""
    if parts.scheme != "https" or parts.hostname != host:
        raise Refused("bad-request", f"url: an https address of the host {host} is expected")
    token = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
    client = http.client.HTTPSConnection(host, parts.port, context=_context(access), timeout=SECONDS)
    try:
        client.connect()
        _compare(client, access)
        client.putrequest(method, f"{parts.path}?{parts.query}")
        client.putheader("Authorization", f"Basic {token}")
    except Refused:
        client.close()
        raise
    except (OSError, http.client.HTTPException) as error:
        client.close()
        raise Refused("connect", f"{host} cannot be reached: {error}") from None
    return client, host
