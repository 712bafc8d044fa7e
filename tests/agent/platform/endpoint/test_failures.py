"""What libvirt's errors mean; the messages are those of libvirt 9.0 with OpenSSH 9.2 and GnuTLS 3.7."""

from __future__ import annotations

import pytest

from polyvisor.agent.platform.endpoint.failures import MAX_TEXT, of_error

CHANGED = (
    "Cannot recv data: @@@@@@@@@@@@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "@@@@@@@@@@@@@@@@@@@@\r\nIT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
    "Host key for [127.0.0.1]:22022 has changed and you have requested strict checking.\r\n"
    "Host key verification failed.: Connection reset by peer"
)
UNKNOWN = (
    "Cannot recv data: No ED25519 host key is known for [127.0.0.1]:22022 and you have requested strict checking.\r\n"
    "Host key verification failed.: Connection reset by peer"
)


@pytest.mark.parametrize(
    ("message", "code", "aspect", "reason", "again"),
    [
        (
            "Cannot recv data: root@127.0.0.1: Permission denied (publickey).: Connection reset by peer",
            38,
            "Authenticated",
            "CredentialsRefused",
            False,
        ),
        (UNKNOWN, 38, "Authenticated", "HostKeyNotKnown", True),
        (CHANGED, 38, "Authenticated", "HostKeyChanged", True),
        (
            "authentication failed: Failed to verify peer's certificate",
            45,
            "Authenticated",
            "CertificateNotTrusted",
            True,
        ),
        (
            "Unable to read TLS confirmation: Input/output error",
            38,
            "Authenticated",
            "ClientCertificateRefused",
            False,
        ),
        ("authentication failed: authentication failed", 45, "Authenticated", "CredentialsRefused", False),
        (
            "Cannot complete login due to an incorrect user name or password.",
            1,
            "Authenticated",
            "CredentialsRefused",
            False,
        ),
        (
            "internal error: HTTP response code 500 for call to 'Login'. Fault: ServerFaultCode - Login failure",
            1,
            "Authenticated",
            "CredentialsRefused",
            False,
        ),
        ("authentication unavailable: no polkit agent available", 80, "Privileged", "NotAuthorized", True),
        (
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
            38,
            "Privileged",
            "NotAuthorized",
            True,
        ),
        (
            "Cannot recv data: ssh: connect to host h port 22: Connection refused: Connection reset by peer",
            38,
            "Reachable",
            "ConnectionRefused",
            True,
        ),
        (
            "Cannot recv data: ssh: Could not resolve hostname h: Name or service not known: Connection reset by peer",
            38,
            "Reachable",
            "UnknownHost",
            True,
        ),
        (
            "End of file while reading data: sh: 1: nc: not found: Input/output error",
            38,
            "Reachable",
            "NoHelper",
            True,
        ),
        (
            "End of file while reading data: virt-ssh-helper: cannot connect to '/var/run/libvirt/libvirt-sock': "
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
            38,
            "Reachable",
            "NoDaemon",
            True,
        ),
        (
            "unsupported configuration: libvirt was built without the 'hyperv' driver",
            67,
            "Supported",
            "DriverMissing",
            True,
        ),
        ("internal error: libxenlight state driver is not active", 1, "Supported", "DriverMissing", True),
        ("something that nobody has met yet", 1, "Reachable", "ConnectionFailed", True),
    ],
)
def test_an_error_has_a_reason_and_something_to_do(
    message: str, code: int, aspect: str, reason: str, again: bool
) -> None:
    found = of_error(message, code)
    assert (found.aspect, found.reason, found.again) == (aspect, reason, again)
    assert found.suggestion


def test_a_message_is_short_and_on_one_line() -> None:
    assert of_error(CHANGED).message == (
        "Host key for [127.0.0.1]:22022 has changed and you have requested strict checking. "
        "Host key verification failed."
    )
    assert of_error("Cannot recv data: root@h: Permission denied (publickey).: Connection reset by peer").message == (
        "root@h: Permission denied (publickey)."
    )
    assert len(of_error("x " * 5000).message) == MAX_TEXT
