"""What a launcher is told to connect with, and what of it comes from where."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.platform.endpoint.failures import Failure
from polyvisor.agent.platform.endpoint.login import Login, Secret, prepare, read_secret
from polyvisor.drivers import registry
from polyvisor.drivers.uris import driver_of, parse
from tests.agent.platform.endpoint.conftest import endpoint, secret

FOLDER = Path("/private")


def prepared(uri: str, values: dict[str, str], **spec: Any) -> Login | Failure:
    found, problems = parse(uri, registry())
    assert found is not None, problems
    pair = driver_of(found.scheme, registry())
    assert pair is not None
    return prepare(found, pair[1], {"uri": uri, **spec}, Secret("s", "1", values), FOLDER)


def test_ssh_reads_no_settings_but_ours_and_wants_a_known_host() -> None:
    found = prepared("qemu+ssh://root@h:22/system", {"ssh-privatekey": "KEY", "known_hosts": "h ssh-ed25519 AAAA\n\n"})
    assert isinstance(found, Login)
    assert found.uri == "qemu+ssh://root@h:22/system?command=%2Fprivate%2Fssh&no_tty=1"
    assert found.files["ssh-privatekey"] == "KEY\n"
    assert found.files["known_hosts"] == "h ssh-ed25519 AAAA\n"
    assert found.files["ssh"] == '#!/bin/sh\nexec ssh -F /private/ssh_config "$@"\n'
    settings = [line.strip() for line in found.files["ssh_config"].splitlines()]
    for line in (
        "StrictHostKeyChecking yes",
        "UserKnownHostsFile /private/known_hosts",
        "GlobalKnownHostsFile /dev/null",
        "BatchMode yes",
        "ForwardAgent no",
        "IdentityAgent none",
    ):
        assert line in settings
    assert "KEY" not in found.uri
    assert "KEY" not in repr(found)


@pytest.mark.parametrize("lacking", ["ssh-privatekey", "known_hosts"])
def test_ssh_without_key_or_known_host_is_not_tried(lacking: str) -> None:
    values = {"ssh-privatekey": "KEY", "known_hosts": "h ssh-ed25519 AAAA"} | {lacking: " "}
    found = prepared("qemu+ssh://h/system", values)
    assert isinstance(found, Failure)
    assert (found.reason, found.again) == ("CredentialsIncomplete", False)
    assert found.message == f"an SSH connection needs {lacking}, which Secret s does not have"


@pytest.mark.parametrize("uri", ["qemu+tls://h/system", "qemu://h/system"])
def test_tls_is_verified_by_the_authority_that_was_given(uri: str) -> None:
    found = prepared(uri, {"ca.crt": "CA", "tls.crt": "CERT", "tls.key": "KEY"})
    assert isinstance(found, Login)
    assert found.uri == f"{uri}?pkipath=%2Fprivate"
    assert found.files == {"cacert.pem": "CA", "clientcert.pem": "CERT", "clientkey.pem": "KEY"}
    bundled = prepared(uri, {}, tls={"caBundle": base64.b64encode(b"BUNDLE").decode()})
    assert isinstance(bundled, Login)
    assert bundled.files == {"cacert.pem": "BUNDLE"}
    assert isinstance(prepared(uri, {}), Failure)


def test_verification_is_left_out_on_the_administrators_word_alone() -> None:
    for insecure, there in (("Never", False), ("Allow", True)):
        found = prepared("qemu+tls://h/system", {"ca.crt": "CA"}, tls={"insecure": insecure})
        assert isinstance(found, Login)
        assert ("no_verify=1" in found.uri) is there
        found = prepared("esx://root@h/", {"password": "pw"}, tls={"insecure": insecure})
        assert isinstance(found, Login)
        assert ("no_verify=1" in found.uri) is there


def test_a_password_is_no_part_of_the_uri() -> None:
    found = prepared("esx://root@h/", {"password": "p w\n"})
    assert isinstance(found, Login)
    assert (found.uri, found.password) == ("esx://root@h/", "p w")
    assert "p w" not in repr(found)
    lacking = prepared("esx://h/", {})
    assert isinstance(lacking, Failure)
    assert "username and password" in lacking.message


def test_only_a_secret_that_is_labelled_for_the_endpoint_is_read() -> None:
    obj = endpoint("qemu+ssh://h/system", secret=True)
    found = read_secret(obj, secret(3, password="pw"))
    assert found == Secret("s", "3", {"password": "pw"})
    assert "pw" not in repr(found)
    for other, reason in (
        (None, "SecretNotFound"),
        (secret(name="other"), "SecretNotLabelled"),
        ({**secret(), "data": {"password": "!"}}, "SecretInvalid"),
        ({**secret(), "data": {"password": base64.b64encode(b"\xff").decode()}}, "SecretInvalid"),
    ):
        refused = read_secret(obj, other)
        assert isinstance(refused, Failure)
        assert refused.reason == reason
    assert read_secret(endpoint("qemu:///system"), None) == Secret()
