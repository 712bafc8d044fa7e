"""Credentials that a program gives: a kubeconfig's ``exec`` and ``auth-provider`` entries.

Managed clusters (EKS, GKE, AKS) hand out short-lived credentials through a plug-in: a program that prints an
``ExecCredential`` object (https://kubernetes.io/docs/reference/access-authn-authz/authentication/). It is run when
credentials are first needed and again when they have expired. ``auth-provider`` is its predecessor; of it only what is
written in the kubeconfig is used, until it expires. What a plug-in prints on standard error goes to the user's
terminal, since plug-ins tell there where to sign in; what it prints on standard output is secret and never shown.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from polyvisor.kube.errors import ApiError

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
RUN_SECONDS = 120.0
"""How long a plug-in may take; it may wait for a person who signs in with a browser."""
MARGIN = timedelta(seconds=10)
"""Credentials that expire sooner than this are renewed before they are used."""


class CredentialsError(ApiError):
    """There are no credentials to send; the message says why and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(401, "Unauthorized", message)


@dataclass(slots=True)
class ExecPlugin:
    """A program that gives a token, a client certificate, or both.

    ``on_certificate`` is called with the PEM text of certificate and key whenever the plug-in gives new ones.
    """

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    api_version: str
    interactive_mode: str
    cluster: Mapping[str, Any] | None
    hint: str
    on_certificate: Callable[[bytes], None] = lambda _: None
    _token: str = ""
    _expires: datetime | None = None
    _ran: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stale(self) -> bool:
        """Whether the next use of the credentials runs the plug-in."""
        return not self._ran or (self._expires is not None and datetime.now(UTC) > self._expires - MARGIN)

    def token(self) -> str:
        """Return the bearer token, empty where the plug-in gives a certificate alone. Blocks while the plug-in runs."""
        if self.stale:
            self.renew()
        return self._token

    def renew(self) -> None:
        """Run the plug-in, unless another thread did so meanwhile."""
        with self._lock:
            if self.stale:
                self._renew()

    def _renew(self) -> None:
        status = self._status(self._run())
        self._token = str(status.get("token") or "")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if not self._token and not (certificate and key):
            raise CredentialsError(f"{self.command} gave neither a token nor a client certificate with its key")
        self._expires = _moment(status.get("expirationTimestamp"), self.command)
        if certificate and key:
            try:
                self.on_certificate(f"{str(certificate).rstrip()}\n{key}".encode())
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                message = f"{self.command} gave a client certificate that cannot be used: {error}"
                raise CredentialsError(message) from error
        self._ran = True

    def _run(self) -> bytes:
        interactive = self.interactive_mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
        if self.interactive_mode == "Always" and not interactive:
            raise CredentialsError(
                f"{self.command} must ask the user (interactiveMode Always), and there is no terminal"
            )
        spec: dict[str, Any] = {"interactive": interactive}
        if self.cluster is not None:
            spec["cluster"] = dict(self.cluster)
        asked = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        environment = {**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
        program = shutil.which(self.command, path=environment.get("PATH"))
        if program is None:
            raise CredentialsError(f"the credential plug-in {self.command} is not installed. {self.hint}".rstrip(" "))
        try:
            done = subprocess.run(
                [program, *self.arguments],
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=environment,
                timeout=RUN_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialsError(f"the credential plug-in {self.command} cannot be run: {error}") from error
        if done.returncode != 0:
            message = (
                f"the credential plug-in {self.command} failed with exit code {done.returncode}; see its own messages"
            )
            raise CredentialsError(message)
        return done.stdout

    def _status(self, text: bytes) -> Mapping[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError:
            raise CredentialsError(f"{self.command} did not print an ExecCredential object as JSON") from None
        if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
            raise CredentialsError(f"{self.command} did not print an ExecCredential object as JSON")
        if answer.get("apiVersion") != self.api_version:
            message = (
                f"{self.command} answered in {answer.get('apiVersion')}, the kubeconfig asks for {self.api_version}"
            )
            raise CredentialsError(message)
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


def exec_plugin(entry: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> ExecPlugin:
    """Read a user's ``exec`` entry; ``folder`` is the kubeconfig's, ``cluster`` its cluster entry.

    :raises CredentialsError: the entry cannot be used.
    """
    command, version = str(entry.get("command") or ""), str(entry.get("apiVersion") or "")
    if not command:
        raise CredentialsError("exec.command must name a program")
    if version not in API_VERSIONS:
        raise CredentialsError(
            f"exec.apiVersion {version!r} is not supported; accepted are {' and '.join(API_VERSIONS)}"
        )
    if os.sep in command:
        command = str(folder / command)
    given = entry.get("env") or ()
    return ExecPlugin(
        command=command,
        arguments=tuple(str(one) for one in entry.get("args") or ()),
        environment={str(one["name"]): str(one.get("value") or "") for one in given if isinstance(one, dict)},
        api_version=version,
        interactive_mode=str(entry.get("interactiveMode") or "IfAvailable"),
        cluster=_cluster_info(cluster) if entry.get("provideClusterInfo") else None,
        hint=str(entry.get("installHint") or "").strip(),
    )


def _cluster_info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cluster entry as plug-ins are told it."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
    found = {name: cluster[name] for name in names if cluster.get(name)}
    for extension in cluster.get("extensions") or ():
        if isinstance(extension, dict) and extension.get("name") == "client.authentication.k8s.io/exec":
            found["config"] = extension.get("extension")
    return found


def provider_token(entry: Mapping[str, Any]) -> str:
    """Return the token that an ``auth-provider`` entry holds.

    :raises CredentialsError: there is none, or it has expired; Kubernetes' clients no longer renew it either.
    """
    name, config = str(entry.get("name") or ""), entry.get("config")
    config = config if isinstance(config, dict) else {}
    token = str(config.get("id-token") or config.get("access-token") or "")
    instead = "sign in again with the tool that wrote the kubeconfig, or use an exec plug-in"
    if not token:
        raise CredentialsError(f"auth-provider {name!r} holds no token; {instead}")
    expires = _moment(config.get("expiry"), f"auth-provider {name!r}")
    if expires is not None and datetime.now(UTC) > expires:
        raise CredentialsError(
            f"the token of auth-provider {name!r} expired at {expires:%Y-%m-%d %H:%M} UTC; {instead}"
        )
    return token


def _moment(text: object, whose: str) -> datetime | None:
    if not text:
        return None
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise CredentialsError(f"{whose} gave the expiry {text!r}, which is not a time in RFC 3339") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
