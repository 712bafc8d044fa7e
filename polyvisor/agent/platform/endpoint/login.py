"""From the URI and the Secret to what a launcher is told: the whole URI, the files beside it, user name and password.

libvirt's own client parameters (``command``, ``pkipath``, ``no_verify``) are written here and nowhere else, so that
they lead into the launcher's private folder. The SSH client is given settings of ours alone: its user's and the
machine's are not read, the host's key must be among ``known_hosts``, and nobody is asked anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent.platform.endpoint.failures import Failure
from polyvisor.api import Obj, names
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.drivers.uris import LOCAL, SSH, TLS, ConnectionUri, UriScheme

SSH_SETTINGS = """\
Host *
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  IdentityFile {folder}/ssh-privatekey
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  PreferredAuthentications publickey
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  PermitLocalCommand no
  ControlMaster no
  ControlPath none
  ConnectTimeout 15
  ServerAliveInterval 10
  ServerAliveCountMax 3
"""
SSH_PROGRAM = """\
#!/bin/sh
exec ssh -F {folder}/ssh_config "$@"
"""


@dataclass(frozen=True, slots=True)
class Secret:
    """The credentials of one version of a Secret."""

    name: str = ""
    version: str = ""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """What a launcher is told to connect with."""

    uri: str
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    fingerprint: str = ""
    """SHA-256 of the certificate that the host has to show, where libvirt is not told what to trust."""


def read_secret(endpoint: Obj, found: Obj | None) -> Secret | Failure:
    """Return the credentials that an endpoint names, of the Secret that was found under that name."""
    reference = ((endpoint["spec"].get("credentials") or {}).get("secretRef") or {}).get("name", "")
    if not reference:
        return Secret()
    where = f"Secret {reference} in namespace {names.KUBEVIRT_NAMESPACE}"
    if found is None:
        return _missing("SecretNotFound", f"there is no {where}", f"Make {where}.")
    metadata = found["metadata"]
    name = endpoint["metadata"]["name"]
    if (metadata.get("labels") or {}).get(ENDPOINT_LABEL) != name:
        message = f"{where} does not say that it is for this endpoint, by the label {ENDPOINT_LABEL}={name}"
        return _missing("SecretNotLabelled", message, "Label it, if it is meant for this host.")
    values = {}
    for key, text in (found.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            message = f"{key} of {where} is not text"
            return _missing("SecretInvalid", message, "Write it as text.")
    return Secret(reference, str(metadata.get("resourceVersion") or ""), values)


def prepare(uri: ConnectionUri, scheme: UriScheme, spec: Obj, secret: Secret, folder: Path) -> Login | Failure:
    """Return what to connect with; ``folder`` is where the launcher will write the files."""
    given = secret.values
    tls = spec.get("tls") or {}
    insecure = tls.get("insecure") == "Allow"
    username, password = given.get("username", ""), given.get("password", "").removesuffix("\n")
    if uri.transport == SSH:
        lacking = [key for key in ("ssh-privatekey", "known_hosts") if not given.get(key, "").strip()]
        if lacking:
            return _lacking(lacking, secret, "an SSH connection")
        files = {
            "ssh-privatekey": given["ssh-privatekey"].rstrip("\n") + "\n",
            "known_hosts": given["known_hosts"].rstrip("\n") + "\n",
            "ssh_config": SSH_SETTINGS.format(folder=folder),
            "ssh": SSH_PROGRAM.format(folder=folder),
        }
        return Login(uri.text(command=f"{folder}/ssh", no_tty="1"), files, username, password)
    if uri.transport == TLS or (uri.transport == LOCAL and uri.host and not scheme.host):
        bundle = base64.b64decode(tls["caBundle"]).decode() if tls.get("caBundle") else ""
        authority = given.get("ca.crt", "") or bundle
        if not authority.strip():
            return _lacking(["ca.crt"], secret, "a TLS connection")
        pairs = (
            ("cacert.pem", authority),
            ("clientcert.pem", given.get("tls.crt")),
            ("clientkey.pem", given.get("tls.key")),
        )
        files = {name: text for name, text in pairs if text}
        more = {"pkipath": str(folder)} | ({"no_verify": "1"} if insecure else {})
        return Login(uri.text(**more), files, username, password)
    if scheme.host:
        lacking = [key for key, value in (("username", uri.user or username), ("password", password)) if not value]
        if lacking:
            return _lacking(lacking, secret, f"{scheme.name} connections")
        pinned = str(tls.get("fingerprint") or "")
        return Login(uri.text(**(scheme.unverified if insecure or pinned else {})), {}, username, password, pinned)
    return Login(uri.text(), {}, username, password)


def _lacking(keys: list[str], secret: Secret, what: str) -> Failure:
    where = f"Secret {secret.name}" if secret.name else "spec.credentials (no Secret is named)"
    message = f"{what} needs {' and '.join(keys)}, which {where} does not have"
    return _missing("CredentialsIncomplete", message, f"Add {' and '.join(keys)} to the endpoint's Secret.")


def _missing(reason: str, message: str, suggestion: str) -> Failure:
    return Failure("Authenticated", reason, message, suggestion, again=False)
