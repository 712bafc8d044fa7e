"""Where the API server is and who we are: read from a kubeconfig, or from the files that a Pod is given.

Credentials are a token, a token file, a client certificate, a user name and password, or what a program gives
(:mod:`polyvisor.kube.credentials`). What cannot be used is an error with the file's path, because a connection that
silently goes out anonymous is harder to understand.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from polyvisor.kube.credentials import CredentialsError, ExecPlugin, exec_plugin, provider_token

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFETIME = 60.0


class ConfigError(Exception):
    """A kubeconfig cannot be used; the message names the file and the entry."""


@dataclass(slots=True)
class TokenFile:
    """A bearer token kept in a file that somebody else renews: read again once a minute."""

    path: Path
    _value: str = ""
    _read_at: float = field(default=float("-inf"))

    def value(self) -> str:
        """Return the current token."""
        now = time.monotonic()
        if now - self._read_at > TOKEN_LIFETIME:
            self._value = self.path.read_text().strip()
            self._read_at = now
        return self._value


@dataclass(slots=True)
class Connection:
    """All that is needed to talk to one API server."""

    server: str
    ssl_context: ssl.SSLContext | None = None
    token: str = ""
    token_file: TokenFile | None = None
    basic: tuple[str, str] | None = None
    server_name: str = ""
    namespace: str = "default"
    proxy: str | None = None
    plugin: ExecPlugin | None = None

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine, so that no proxy of the environment may stand between."""
        host = urlsplit(self.server).hostname or ""
        if host == "localhost":
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False

    async def prepare(self) -> None:
        """Renew credentials that a plug-in gives, off the event loop, so that :meth:`authorization` does not block."""
        if self.plugin is not None and self.plugin.stale:
            await asyncio.to_thread(self.plugin.renew)

    def authorization(self) -> str:
        """Return the value of the Authorization header, or an empty string. May run a plug-in, and block."""
        if self.token_file is not None:
            return f"Bearer {self.token_file.value()}"
        if self.token:
            return f"Bearer {self.token}"
        if self.plugin is not None and (given := self.plugin.token()):
            return f"Bearer {given}"
        if self.basic is not None:
            return "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        return ""


def default_paths() -> list[Path]:
    """Return the kubeconfigs that apply: the existing ones of $KUBECONFIG, else its first, else ~/.kube/config."""
    listed = [Path(p).expanduser() for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    return [p for p in listed if p.exists()] or listed[:1] or [Path("~/.kube/config").expanduser()]


def from_kubeconfig(path: str | Path | None = None, context: str | None = None) -> Connection:
    """Read the connection of ``context`` (by default the current one) from a kubeconfig.

    Without a path the files of $KUBECONFIG count as one, as with kubectl: the first that has an entry of a name, or a
    current context, says what it is. Relative paths are relative to the file of the entry.
    """
    files = [Path(path).expanduser()] if path else default_paths()
    documents = {file: _read(file) for file in files}
    currents = [str(one["current-context"]) for one in documents.values() if one.get("current-context")]
    wanted = context or next(iter(currents), "")
    if not wanted:
        raise ConfigError(f"{_named(files)}: has no current-context")
    file, chosen = _entry(documents, "contexts", "context", wanted)
    file, cluster = _entry(documents, "clusters", "cluster", chosen.get("cluster") or "")
    home, user = _entry(documents, "users", "user", chosen["user"]) if chosen.get("user") else (file, {})
    server = str(cluster.get("server") or "")
    if urlsplit(server).scheme not in ("http", "https"):
        raise ConfigError(f"{file}: cluster {chosen.get('cluster')!r} has no http(s) server address")
    base = home.parent
    token_file = user.get("tokenFile")
    tls = _ssl_context(file, home, cluster, user) if server.startswith("https") else None
    try:
        plugin = exec_plugin(user["exec"], base, cluster) if isinstance(user.get("exec"), dict) else None
        provided = provider_token(user["auth-provider"]) if isinstance(user.get("auth-provider"), dict) else ""
        if plugin is not None:
            if tls is not None:
                plugin.on_certificate = partial(_load_chain, tls)
            plugin.renew()
    except CredentialsError as error:
        raise ConfigError(f"{home}: user {chosen['user']!r}: {error}") from error
    return Connection(
        server=server.rstrip("/"),
        ssl_context=tls,
        plugin=plugin,
        token=str(user.get("token") or provided),
        token_file=TokenFile(base / token_file) if token_file and not user.get("token") else None,
        basic=(str(user["username"]), str(user.get("password") or "")) if user.get("username") else None,
        server_name=str(cluster.get("tls-server-name") or ""),
        namespace=str(chosen.get("namespace") or "default"),
        proxy=cluster.get("proxy-url"),
    )


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Connection:
    """Return the connection that Kubernetes gives to a Pod's service account."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise ConfigError("not inside a cluster: KUBERNETES_SERVICE_HOST or the service account's token is missing")
    namespace = folder / "namespace"
    return Connection(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ssl_context=ssl.create_default_context(cafile=str(folder / "ca.crt")),
        token_file=TokenFile(folder / "token"),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )


def discover() -> Connection:
    """Return the in-cluster connection inside a Pod, else that of the default kubeconfig."""
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        return in_cluster()
    return from_kubeconfig()


def _read(file: Path) -> dict[str, Any]:
    import yaml  # a Pod has no kubeconfig, and does without

    try:
        document = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: is not a kubeconfig")
    return document


def _named(files: Iterable[Path]) -> str:
    return os.pathsep.join(map(str, files))


def _entry(documents: Mapping[Path, Mapping[str, Any]], part: str, key: str, name: str) -> tuple[Path, dict[str, Any]]:
    """Return the first entry of a name, and the file that has it."""
    for file, document in documents.items():
        items = document.get(part)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and item.get("name") == name:
                value = item.get(key)
                return file, value if isinstance(value, dict) else {}
    raise ConfigError(f"{_named(documents)}: {part} has no entry {name!r}")


def _material(file: Path, base: Path, entry: Mapping[str, Any], key: str) -> bytes | None:
    if data := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError) as error:
            raise ConfigError(f"{file}: {key}-data is not base64") from error
    if not entry.get(key):
        return None
    try:
        return (base / str(entry[key])).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {key} {entry[key]!r} cannot be read: {error.strerror}") from error


def _ssl_context(file: Path, home: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the context; ``file`` has the cluster's entry, ``home`` the user's."""
    ca = _material(file, file.parent, cluster, "certificate-authority")
    certificate = _material(home, home.parent, user, "client-certificate")
    key = _material(home, home.parent, user, "client-key")
    try:
        context = ssl.create_default_context(cadata=ca.decode() if ca else None)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate and key:
            _load_chain(context, certificate.rstrip() + b"\n" + key)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{file}: certificates cannot be used: {error}") from error
    return context


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Present a client certificate; ``pem`` has the certificate and its key."""
    # OpenSSL's binding loads a chain from a file only; the file is private and gone at once.
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
