"""One endpoint: its connection, kept up as long as the object is there, and its status.

The task wakes up when the object or its Secret changes, when the host tells of a change, when the connection ends, and
when it is time to try or to look again. A failed connection is tried again after a delay that grows, but credentials
that the host refused only once they have changed, since accounts get locked. While new credentials fail, the connection
that older ones opened stays as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyvisor.agent.platform.endpoint import failures
from polyvisor.agent.platform.endpoint.failures import Failure
from polyvisor.agent.platform.endpoint.guest_cpus import guest_cpus
from polyvisor.agent.platform.endpoint.inventory import HostInfo, domains_of, host_of
from polyvisor.agent.platform.endpoint.link import HostError, HostLink, NoAnswer
from polyvisor.agent.platform.endpoint.login import Login, Secret, prepare, read_secret
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.uris import ConnectionUri, UriScheme, driver_of, insecure_part, parse
from polyvisor.kube.backoff import Backoff
from polyvisor.kube.tasks import end_task

CONNECT_SECONDS = 60.0
REQUEST_SECONDS = 60.0
POLL_SECONDS = 10.0
"""How often the domains are listed where libvirt tells of no changes."""
RESYNC_SECONDS = 300.0
"""How often all domains are read again where it does."""
AGAIN = Backoff(1.0, 60.0)
MAX_DOMAINS = 20_000
"""Domains of a host that are looked at; libvirt's own limit for one list is 16,384."""
REST, MAX_REST_SECONDS = 4.0, 20.0
"""A look at a host is followed by a rest of so many times its length, but of no more seconds than that."""
MAX_LISTED = 50_000
"""Pools, volumes or networks that are looked at."""
LOOKING = frozenset(
    (
        *("addresses", "capabilities", "describe", "domains", "follow", "networks"),
        *("pool", "pools", "state", "stats", "volume", "volume-names", "volumes"),
    )
)
"""What can be asked of a host that changes nothing there."""
log = logging.getLogger("polyvisor.endpoints")


class Keeper:
    """Keeps one endpoint. ``save`` writes what was observed; ``folder`` is for the launcher's log and files."""

    def __init__(
        self,
        folder: Path,
        drivers: DriverRegistry,
        save: Callable[[Observed], Awaitable[None]],
        cluster: str = "",
        again: Backoff = AGAIN,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_write`` tells whether this agent alone looks after the host now, so that it may change something."""
        self._may_write = may_write
        self.folder = folder
        self._drivers = drivers
        self._save = save
        self._again = again
        self._endpoint: Obj = {}
        self._found: Obj | None = None
        self._wake = asyncio.Event()
        self._link: HostLink | None = None
        self._used: tuple[Any, ...] = ()
        self._good: Secret | None = None
        self._refused: dict[tuple[Any, ...], Failure] = {}
        self._closed = ""
        self._failed = 0
        self._next = 0.0
        self._listed = 0.0
        self.seen = Observed("", cluster)
        self._links = 0
        self._busy = 0.0
        self.told_beside: tuple[str, ...] = ()
        """Other endpoints of the same host that the status tells of."""
        self._task: asyncio.Task[None] | None = None

    def update(self, endpoint: Obj, secret: Obj | None) -> None:
        """Take in the object and the Secret that it names, as they are now."""
        spec, version = self._endpoint.get("spec"), (self._found or {}).get("metadata", {}).get("resourceVersion")
        self._endpoint, self._found = endpoint, secret
        new = (secret or {}).get("metadata", {}).get("resourceVersion")
        if spec != endpoint["spec"] or version != new:
            self._failed, self._next = 0, 0.0
            self._wake.set()

    @property
    def endpoint(self) -> Obj:
        """The object as it was last seen."""
        return self._endpoint

    @property
    def launcher_pid(self) -> int:
        """Process id of the launcher that holds the connection, 0 if there is none."""
        return self._link.pid if self._link is not None and not self._link.closed else 0

    def look(self) -> None:
        """Have the status written again, soon."""
        self._wake.set()

    def start(self) -> None:
        """Begin; the object must be there already."""
        self._task = asyncio.create_task(self._run(), name=f"endpoint-{self._endpoint['metadata']['name']}")

    async def stop(self) -> None:
        """End the connection; nothing changes on the host."""
        if self._task is not None:
            await end_task(self._task)
        await self._drop()

    def _connected(self) -> HostLink:
        link, failure = self._link, self.seen.failure
        if link is None or link.closed or failure is not None:
            raise HostError(failure.message if failure else "the host is not connected yet", "not-connected")
        return link

    async def ask(self, operation: str, seconds: float = REQUEST_SECONDS, /, **arguments: Any) -> dict[str, Any]:
        """Ask the host for something. Raises :class:`HostError`, also where there is no connection."""
        link = self._connected()
        if operation not in LOOKING and not self._may_write():
            raise HostError(f"{operation}: another agent may look after the host, so nothing is changed", "not-ours")
        return await link.request(operation, seconds, **arguments)

    async def every(self, operation: str, key: str, /, most: int = MAX_LISTED, **arguments: Any) -> list[Obj]:
        """Ask the host for a list, page by page; what is ``most`` and more is left out. Raises :class:`HostError`."""
        return await self._connected().every(operation, key, REQUEST_SECONDS, most, **arguments)

    async def stream(self, **asked: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for bytes to what ``asked`` names. Raises :class:`HostError`."""
        if not self._may_write():
            raise HostError("another agent may look after the host now, so nothing is opened", "not-ours")
        return await self._connected().stream(REQUEST_SECONDS, **asked)

    def files(self, folder: Path) -> dict[str, str]:
        """Return the files that a client of the connection's transport needs in a folder of its own.

        They are those of the credentials that the connection was opened with.
        """
        uri, _ = parse(self._endpoint["spec"]["uri"], self._drivers)
        pair = driver_of(uri.scheme, self._drivers) if uri else None
        if uri is None or pair is None or self._good is None:
            return {}
        login = prepare(uri, pair[1], self._endpoint["spec"], self._good, folder)
        return dict(login.files) if isinstance(login, Login) else {}

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._busy = 0.0
            try:
                delay = await self._step()
                await self._save(self.seen)
            except Exception:
                self._failed += 1
                delay = self._again.delay(self._failed)
                log.exception("%s: failed; again in %.1f s", self._endpoint["metadata"]["name"], delay)
            await asyncio.sleep(rest_after(self._busy))
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _step(self) -> float:
        """Bring the connection in line with the object; return the seconds until the next look."""
        spec = self._endpoint["spec"]
        uri, _ = parse(spec["uri"], self._drivers)
        pair = driver_of(uri.scheme, self._drivers) if uri else None
        if uri is None or pair is None:  # admission had it; the driver's package may be gone
            await self._drop()
            what = f"no driver is installed for {spec['uri']}"
            self._fail(Failure("Supported", "DriverMissing", what, "Install the package that has the driver."))
            return RESYNC_SECONDS
        driver, scheme = pair
        insecure = _insecure(uri, scheme, spec)
        self.seen = replace(self.seen, driver=driver.name, insecure=insecure, itself=driver.own_domain)
        secret = read_secret(self._endpoint, self._found)
        if isinstance(secret, Secret):
            self.seen = replace(self.seen, tried=secret)
        wanted = (uri.text(), str(spec.get("tls")), secret.version if isinstance(secret, Secret) else secret.reason)
        if self._link is not None and self._link.closed:
            await self._lost()
        if self._link is None or self._used != wanted:
            await self._connect(uri, scheme, secret, wanted)
        if self._link is None:
            return max(self._next - _now(), 0.0) if self._next else RESYNC_SECONDS
        delay = await self._list()
        return min(delay, max(self._next - _now(), 0.0)) if self._next else delay

    async def _connect(
        self, uri: ConnectionUri, scheme: UriScheme, secret: Secret | Failure, wanted: tuple[Any, ...]
    ) -> None:
        """Open a connection with what is wanted now; the one that there is stays if that fails for its credentials."""
        if self._link is not None and self._used[0] != wanted[0]:
            await self._drop()
            self.seen = replace(self.seen, host=None, domains=None, good=None)
            self._good = None
        if _now() < self._next:
            return
        failure = self._refused.get(wanted) or await self._try(uri, scheme, secret, wanted)
        if failure is None:
            self._refused.clear()
            return
        if not failure.again:
            self._refused[wanted] = failure
            self._next = 0.0
        else:
            self._next = _now() + self._again.delay(self._failed)
            self._failed += 1
        good, due = self._good, self._next
        if self._link is None and failure.aspect == "Authenticated" and good is not None and good != secret:
            # The host may still take the credentials before; they are known as long as this process lives.
            await self._try(uri, scheme, good, wanted)
        if self._link is None:
            self._fail(self._remembering(failure, secret))
            return
        self._next = due
        self._used = self._used if failure.again else wanted
        self.seen = replace(self.seen, refused=failure)

    def _remembering(self, failure: Failure, secret: Secret | Failure) -> Failure:
        """Say of refused credentials that others were good, which only a former process knew."""
        good = ((self._endpoint.get("status") or {}).get("credentials") or {}).get("good") or {}
        known = self._good is None and good and failure.reason == "CredentialsRefused"
        if not known or not isinstance(secret, Secret) or good.get("resourceVersion") == secret.version:
            return failure
        message = f"{failure.message}; version {good.get('resourceVersion')} of the Secret was accepted before"
        return replace(failure, reason="LastGoodLost", message=message)

    async def _try(
        self, uri: ConnectionUri, scheme: UriScheme, secret: Secret | Failure, wanted: tuple[Any, ...]
    ) -> Failure | None:
        """Connect, and take the place of the connection before; return why that failed."""
        if isinstance(secret, Failure):
            return secret
        self._links += 1
        private = self.folder / f"private-{self._links % 2}"
        login = prepare(uri, scheme, self._endpoint["spec"], secret, private)
        if isinstance(login, Failure):
            return login
        found = await self._open(login, private)
        if isinstance(found, Failure):
            return found
        link, host = found
        await self._drop()
        self._link, self._used, self._good, self._failed, self._next = link, wanted, secret, 0, 0.0
        self._closed, self._listed = "", 0.0
        self.seen = replace(self.seen, host=host, failure=None, refused=None, good=secret)
        log.info("%s: connected to %s", self._endpoint["metadata"]["name"], host.host_name)
        return None

    async def _open(self, login: Login, private: Path) -> tuple[HostLink, HostInfo] | Failure:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            link = await HostLink.start(private, self.folder / "launcher.log", self._told)
        except HostError as error:
            return Failure("Reachable", "LauncherFailed", str(error), f"See {self.folder}/launcher.log.")
        try:
            told = await link.request(
                "connect",
                CONNECT_SECONDS,
                uri=login.uri,
                files=dict(login.files),
                username=login.username,
                password=login.password,
                fingerprint=login.fingerprint,
            )
        except NoAnswer as error:
            await link.close()
            return failures.no_answer(error.seconds, "the connection")
        except HostError as error:
            await link.close()
            return failures.of_error(str(error), error.libvirt_code)
        except BaseException:
            await link.close()
            raise
        try:
            return link, await self._with_cpus(link, host_of(told))
        except BaseException:
            await link.close()
            raise

    async def _with_cpus(self, link: HostLink, host: HostInfo) -> HostInfo:
        driver = self._drivers.get(self.seen.driver)
        return replace(host, guest_cpus=await guest_cpus(link, driver, host)) if driver is not None else host

    async def _list(self) -> float:
        """Read the domains; return the seconds until they are read again."""
        assert self._link is not None
        events = self.seen.host is not None and self.seen.host.events
        begin = _now()
        everything = begin - self._listed >= RESYNC_SECONDS or not self._listed
        try:
            listed = await self._link.every("domains", "domains", REQUEST_SECONDS, MAX_DOMAINS, everything=everything)
        except HostError as error:
            await self._drop()
            reason = f"it did not answer within {error.seconds:.0f} s" if isinstance(error, NoAnswer) else str(error)
            self._fail(failures.lost(self._closed or reason))
            delay = self._again.delay(self._failed)
            self._next = _now() + delay
            self._failed += 1
            return delay
        if everything:
            self._listed = _now()
        found = {one.uuid: one for one in domains_of(listed)}
        self.seen = replace(self.seen, domains=tuple(found.values()), failure=None)
        self._busy = _now() - begin
        return RESYNC_SECONDS if events else POLL_SECONDS

    async def _lost(self) -> None:
        await self._drop()
        self._fail(failures.lost(self._closed or "its launcher ended"))

    def _fail(self, failure: Failure) -> None:
        if self.seen.failure != failure:
            log.warning("%s: %s: %s", self._endpoint["metadata"]["name"], failure.reason, failure.message)
        self.seen = replace(self.seen, failure=failure, refused=None)

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _told(self, event: dict[str, Any] | None) -> None:
        """Take in what a launcher tells: that a domain changed, that the connection or the launcher itself ended."""
        if event is not None and event.get("type") == "closed":
            reason = event.get("reason")
            self._closed = reason[:200] if isinstance(reason, str) else "unknown"
        self._wake.set()


def rest_after(seconds: float) -> float:
    """Return how long nothing wakes a keeper whose last look took so long.

    Each event of a host has its domains listed, and a host may tell of as many as it likes; the other endpoints, and in
    standalone mode the API server, are served by the same process.
    """
    return min(seconds * REST, MAX_REST_SECONDS)


def folder_name(endpoint: Obj) -> str:
    """Return a short name for an endpoint's folder, since sockets of SSH may stand below it."""
    return hashlib.sha256(str(endpoint["metadata"]["uid"]).encode()).hexdigest()[:12]


def _insecure(uri: ConnectionUri, scheme: UriScheme, spec: Obj) -> str:
    if part := insecure_part(uri, scheme):
        return f"the connection is not encrypted ({part})"
    if (spec.get("tls") or {}).get("insecure") == "Allow":
        return "the host is not verified (spec.tls.insecure is Allow)"
    return ""


def _now() -> float:
    return asyncio.get_running_loop().time()
