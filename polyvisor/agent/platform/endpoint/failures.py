"""Why a connection failed, as one of few reasons, each with what an administrator can do about it.

libvirt has few error codes for connections: most of what goes wrong behind SSH or TLS has one and the same code, and
only the text of the SSH client or of GnuTLS tells more. So the text is searched, and what is not recognized is passed
on as it is, as a failure to reach the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Aspect = Literal["Reachable", "Authenticated", "Privileged", "Supported"]
MAX_TEXT = 400
AUTH_FAILED, AUTH_CANCELLED, AUTH_UNAVAILABLE = 45, 79, 80
ACCESS_DENIED, OPERATION_DENIED, CONFIG_UNSUPPORTED = 88, 29, 67
"""libvirt's error codes, ``include/libvirt/virterror.h``."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps an endpoint from working. ``again``: another try without a change can help."""

    aspect: Aspect
    reason: str
    message: str
    suggestion: str
    again: bool = True


_REFUSED = "Check user name, password or key in the Secret; they are tried again when the Secret or the URI changes."
_CERTIFICATE = "Check ca.crt in the Secret or spec.tls.caBundle, and that the certificate is for the name in the URI."
_KNOWN_HOSTS = (
    "Write the host's key into known_hosts in the Secret; `ssh-keyscan HOST` shows it. Have the host's administrator "
    "confirm it."
)
_SOCKET = "Start libvirt's daemon on the host, or give its socket by ?socket=PATH."
_PATTERNS: tuple[tuple[str, Aspect, str, str, bool], ...] = (
    (
        r"Failed to connect socket.*Permission denied",
        "Privileged",
        "NotAuthorized",
        "Connect as a user who may use libvirt's daemon, such as a member of its group.",
        True,
    ),
    (r"Host key for .* has changed", "Authenticated", "HostKeyChanged", _KNOWN_HOSTS, True),
    (r"Host key verification failed", "Authenticated", "HostKeyNotKnown", _KNOWN_HOSTS, True),
    (
        r"incorrect user name or password|call to 'Login'.*[Ll]ogin failure",
        "Authenticated",
        "CredentialsRefused",
        _REFUSED,
        False,
    ),
    (r"Permission denied \([a-z,-]+\)", "Authenticated", "CredentialsRefused", _REFUSED, False),
    (r"Our own certificate", "Authenticated", "ClientCertificateInvalid", "Replace tls.crt and tls.key.", False),
    (
        r"Unable to read TLS confirmation",
        "Authenticated",
        "ClientCertificateRefused",
        "Write a certificate that the host accepts into tls.crt and tls.key of the Secret.",
        False,
    ),
    (r"Failed to verify peer's certificate", "Authenticated", "CertificateNotTrusted", _CERTIFICATE, True),
    (
        r"[Cc]ertificate .*(not trusted|expired|validation)",
        "Authenticated",
        "CertificateNotTrusted",
        _CERTIFICATE,
        True,
    ),
    (r"SSL (peer )?certificate|SSL certificate problem", "Authenticated", "CertificateNotTrusted", _CERTIFICATE, True),
    (r"usage does not permit", "Authenticated", "ClientCertificateInvalid", "Replace tls.crt and tls.key.", False),
    (
        r"certificate has the fingerprint",
        "Authenticated",
        "CertificateNotTrusted",
        "Compare it with what the host's administrator says; then write it into spec.tls.fingerprint.",
        True,
    ),
    (r"TLS handshake failed", "Authenticated", "TLSHandshakeFailed", _CERTIFICATE, True),
    (
        r"[Cc]ould not resolve host|Unable to resolve address|Name or service not known",
        "Reachable",
        "UnknownHost",
        "Check the host in the URI and the name service.",
        True,
    ),
    (
        r"virt-ssh-helper: cannot connect|Failed to connect socket to|libvirt-sock.*No such file",
        "Reachable",
        "NoDaemon",
        _SOCKET,
        True,
    ),
    (
        r"(nc|netcat|virt-ssh-helper): (command )?not found",
        "Reachable",
        "NoHelper",
        "Install libvirt's virt-ssh-helper on the host, or nc where the URI names a socket.",
        True,
    ),
    (r"Connection refused|Couldn't connect", "Reachable", "ConnectionRefused", "Check host, port and daemon.", True),
    (r"timed out|[Tt]imeout", "Reachable", "NoAnswer", "Check that the host is up and no firewall is between.", True),
    (r"No route to host|Network is unreachable", "Reachable", "NoRoute", "Check the network to the host.", True),
    (
        r"libvirt was built without|no connection driver available|driver is not active|[Cc]annot find .* driver",
        "Supported",
        "DriverMissing",
        "Install libvirt's driver for this hypervisor where its daemon runs.",
        True,
    ),
)

_AROUND = re.compile(
    r"^(Cannot recv data|End of file while reading data): (?=.+:)"
    r"|(?<=.): (Connection reset by peer|Input/output error)$"
)
"""What libvirt writes before and behind the words of the SSH client."""


def of_error(message: str, code: int = 0) -> Failure:
    """Return what an error of libvirt's means."""
    text = shorten(message)
    for pattern, aspect, reason, suggestion, again in _PATTERNS:
        if re.search(pattern, message):
            return Failure(aspect, reason, text, suggestion, again)
    if code == AUTH_UNAVAILABLE or code in (ACCESS_DENIED, OPERATION_DENIED):
        what = "Connect as a user who may use libvirt's daemon, such as a member of its group."
        return Failure("Privileged", "NotAuthorized", text, what)
    if code in (AUTH_FAILED, AUTH_CANCELLED):
        return Failure("Authenticated", "CredentialsRefused", text, _REFUSED, again=False)
    if code == CONFIG_UNSUPPORTED:
        return Failure("Supported", "DriverMissing", text, "Install libvirt's driver for this hypervisor.")
    return Failure("Reachable", "ConnectionFailed", text, "The message is libvirt's; the host's log may tell more.")


def no_answer(seconds: float, what: str) -> Failure:
    """Return the failure of a host that keeps a request waiting."""
    message = f"the host did not answer within {seconds:.0f} s to {what}"
    return Failure("Reachable", "NoAnswer", message, "Check that the host is up and no firewall is between.")


def lost(reason: str) -> Failure:
    """Return the failure of a connection that was there."""
    message = f"the connection broke: {reason}"
    return Failure("Reachable", "ConnectionLost", message, "Nothing is to be done: the agent connects again.")


def shorten(message: str) -> str:
    """Return the part of a message that tells why: on one line, without banners and what libvirt puts around it."""
    lines = [" ".join(line.split()) for line in message.splitlines()]
    telling = [line for line in lines if line and "@@@@" not in line and not line.startswith("@ ")]
    if len(telling) > 2:
        telling = telling[-2:]
    return _AROUND.sub("", " ".join(telling))[:MAX_TEXT]
