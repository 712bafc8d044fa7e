"""The certificates of Polyvisor's own processes: made, kept in Secrets, renewed long before they end, made known.

Nothing stops while they change. A new authority is first told to everybody (webhook configurations, APIService, the
Secrets of clients) beside the old one; only then, some time later, do servers get certificates of it, and the old one
is believed until it ends. All of it is decided from what the Secrets hold, so any step may be repeated.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from polyvisor.api import Obj, names
from polyvisor.api.cluster_resources import API_SERVICES, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from polyvisor.api.endpoint_names import ENDPOINT_APP, ENDPOINT_SECRET
from polyvisor.api.migrations import HANDLER_CLIENT_NAME, HANDLER_CLIENT_SECRET
from polyvisor.api.resources import SECRETS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS, Resource
from polyvisor.kube import ApiError, KubeClient
from polyvisor.process.certificates import (
    SKEW,
    issue_client,
    issue_server,
    make_authority,
    now,
    parsed,
    signed_by,
)
from polyvisor.process.kept import AUTHORITIES, CERTIFICATE, KEY, named, value
from polyvisor.process.pairs import Pair, split, valid_until
from polyvisor.process.webhook_paths import TOKENS, path_of, tokens_of, with_new

PREVIOUS = "previous.crt"
CHECK_SECONDS = 30.0
FAILED_SECONDS = 2.0
RENEW_AT = 0.8
"""The share of its life after which a certificate is made anew."""
log = logging.getLogger("polyvisor.certificates")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long certificates hold, and how long a new authority is only believed before it is used."""

    authority: timedelta = timedelta(days=365)
    leaf: timedelta = timedelta(days=30)
    overlap: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Role:
    """One process's role: the Secret with its pair, and its names (a server's) or name (a client's)."""

    secret: str
    names: tuple[str, ...]
    server: bool

    def issue(self, authority: Pair, lifetime: timedelta, at: datetime) -> Pair:
        """Make a pair for the role."""
        if self.server:
            return issue_server(authority, self.names, lifetime, at)
        return issue_client(authority, self.names[0], lifetime, at)


def roles(namespace: str) -> tuple[Role, ...]:
    """Return the roles of an installation in a namespace."""
    service = f"{names.API_SERVICE}.{namespace}.svc"
    return (
        Role(names.API_SECRET, (service, f"{service}.cluster.local", names.API_SERVICE), True),
        Role(names.API_CLIENT_SECRET, (names.API_CLIENT_NAME,), False),
        Role(names.HANDLER_SECRET, (names.HANDLER_APP,), True),
        Role(ENDPOINT_SECRET, (ENDPOINT_APP,), True),
        Role(HANDLER_CLIENT_SECRET, (HANDLER_CLIENT_NAME,), False),
    )


class CertificateKeeper:
    """Keeps the Secrets, and the authority wherever it has to be known."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        lifetimes: Lifetimes | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._lifetimes = lifetimes or Lifetimes()
        self._clock = clock
        self._roles = roles(namespace)

    async def run(self) -> None:
        """Keep everything until cancelled; a Secret that changes is looked at at once."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name in (names.CA_SECRET, *(role.secret for role in self._roles)):
                informer = named(self._client, SECRETS, self._namespace, name)
                informer.on_change(lambda *_: changed.set())
                group.create_task(informer.run(), name=f"certificates-{name}")
            while True:
                changed.clear()
                pause = CHECK_SECONDS
                try:
                    pause = min(await self.reconcile(), CHECK_SECONDS)
                except ApiError as error:
                    pause = FAILED_SECONDS
                    log.log(logging.DEBUG if error.conflict else logging.WARNING, "certificates: %s", error)
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait([waiting], timeout=pause)
                waiting.cancel()

    async def reconcile(self) -> float:
        """Bring everything in line; return the seconds after which there is something to do."""
        at = self._clock()
        authority, bundle = await self._authority(at)
        tokens = tokens_of(await self._secret(names.API_SECRET))
        await self._tell(bundle, tokens[0] if tokens else "")
        due = [self._due(authority)]
        for role in self._roles:
            due.append(self._due(await self._pair(role, authority, bundle, at)))
        created = parsed(authority).not_valid_before_utc + SKEW + self._lifetimes.overlap
        due += [created] if created > at else []
        return max(1.0, (min(due) - self._clock()).total_seconds())

    async def _authority(self, at: datetime) -> tuple[Pair, bytes]:
        secret = await self._secret(names.CA_SECRET)
        found = _pair(secret)
        previous = _valid(value(secret or {}, PREVIOUS), at)
        if found is None or at >= self._due(found):
            previous = (found.certificate if found and valid_until(found.certificate) > at else b"") + previous
            found = make_authority("polyvisor", self._lifetimes.authority, at)
            data = {CERTIFICATE: found.certificate, KEY: found.key, PREVIOUS: previous}
            await self._write(names.CA_SECRET, secret, data)
            log.info("a new authority, valid until %s", valid_until(found.certificate).isoformat())
        return found, found.certificate + previous

    async def _pair(self, role: Role, authority: Pair, bundle: bytes, at: datetime) -> Pair:
        secret = await self._secret(role.secret)
        found = _pair(secret)
        if found is None or not self._good(role, found, authority, bundle, at):
            found = role.issue(authority, self._lifetimes.leaf, at)
            log.info("Secret %s: a new pair, valid until %s", role.secret, valid_until(found.certificate).isoformat())
        data = {CERTIFICATE: found.certificate, KEY: found.key, AUTHORITIES: bundle}
        if role.secret == names.API_SECRET:
            tokens = tokens_of(secret)
            fresh = not tokens or found.certificate != value(secret or {}, CERTIFICATE)
            data[TOKENS] = "\n".join(with_new(tokens) if fresh else tokens).encode()
        if any(value(secret or {}, key) != wanted for key, wanted in data.items()):
            await self._write(role.secret, secret, data)
        return found

    def _good(self, role: Role, pair: Pair, authority: Pair, bundle: bytes, at: datetime) -> bool:
        certificate, current = parsed(pair), parsed(authority)
        if at >= self._due(pair) or (role.server and set(role.names) - _names(certificate)):
            return False
        if signed_by(certificate, current):
            return True
        old = any(signed_by(certificate, x509.load_pem_x509_certificate(one)) for one in split(bundle))
        return old and at < current.not_valid_before_utc + SKEW + self._lifetimes.overlap

    def _due(self, pair: Pair) -> datetime:
        certificate = parsed(pair)
        began = certificate.not_valid_before_utc + SKEW
        return began + (certificate.not_valid_after_utc - began) * RENEW_AT

    async def _tell(self, bundle: bytes, token: str) -> None:
        """Write the authorities, and the paths of webhooks, where the API server looks for them."""
        encoded = base64.b64encode(bundle).decode()
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            if (found := await self._found(resource, names.WEBHOOKS)) is None:
                continue
            patch: list[Obj] = []
            for index, hook in enumerate(found.get("webhooks") or []):
                at, config = f"/webhooks/{index}", hook.get("clientConfig") or {}
                wanted = {"caBundle": (config.get("caBundle"), encoded)}
                if token and "service" in config:
                    path = path_of(hook["name"], resource == MUTATING_WEBHOOKS, token)
                    wanted["service/path"] = (config["service"].get("path"), path)
                if any(has != value_ for has, value_ in wanted.values()):
                    patch.append({"op": "test", "path": f"{at}/name", "value": hook["name"]})
                patch += [
                    {"op": "add", "path": f"{at}/clientConfig/{place}", "value": value_}
                    for place, (has, value_) in wanted.items()
                    if has != value_
                ]
            if patch:
                await self._client.patch(resource, names.WEBHOOKS, patch, patch_type="json")
        for version in SUBRESOURCES_VERSIONS:
            name = f"{version}.{SUBRESOURCES_GROUP}"
            if (service := await self._found(API_SERVICES, name)) and service["spec"].get("caBundle") != encoded:
                await self._client.patch(API_SERVICES, name, {"spec": {"caBundle": encoded}})

    async def _found(self, resource: Resource, name: str) -> Obj | None:
        try:
            return await self._client.get(resource, name)
        except ApiError as error:
            if not error.not_found:
                raise
            log.warning("there is no %s %s; re-apply the installation", resource.kind, name)
            return None

    async def _secret(self, name: str) -> Obj | None:
        try:
            return await self._client.get(SECRETS, name, self._namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            return None

    async def _write(self, name: str, old: Obj | None, data: dict[str, bytes]) -> None:
        encoded = {key: base64.b64encode(one).decode() for key, one in data.items()}
        labels = {names.APP_LABEL: "", names.MANAGED_BY_LABEL: names.MANAGER}
        if old is not None:
            await self._client.update(SECRETS, {**old, "data": encoded})
            return
        metadata = {"name": name, "namespace": self._namespace, "labels": labels}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}
        await self._client.create(SECRETS, secret)


def _pair(secret: Obj | None) -> Pair | None:
    pair = Pair(value(secret or {}, CERTIFICATE), value(secret or {}, KEY))
    try:
        return pair if pair.key and parsed(pair) else None
    except ValueError:
        return None


def _valid(bundle: bytes, at: datetime) -> bytes:
    try:
        found = split(bundle) if bundle else []
    except ValueError:
        return b""
    return b"".join(one for one in found if x509.load_pem_x509_certificate(one).not_valid_after_utc > at)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))
