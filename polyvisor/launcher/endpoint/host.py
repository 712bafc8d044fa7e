"""All that is asked of the host: the connection, its domains, pools, volumes and networks, and what changes.

Domains are read once and then only those that libvirt says have changed; where its driver has no events, all of them
each time that somebody asks. A domain is ours if its metadata has the mark of an installation; reading the mark is no
reason to fail where a driver has no metadata.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from polyvisor.launcher.capabilities import capabilities
from polyvisor.launcher.endpoint.consoles import Consoles
from polyvisor.launcher.endpoint.domains import Domains
from polyvisor.launcher.endpoint.files import PrivateFiles
from polyvisor.launcher.endpoint.guests import Guests
from polyvisor.launcher.endpoint.https import Access, check
from polyvisor.launcher.endpoint.networks import about
from polyvisor.launcher.endpoint.owned import UNSUPPORTED, Refused, mark_of, owned
from polyvisor.launcher.endpoint.owned import text_of as _text
from polyvisor.launcher.endpoint.told import MAX_MARK, found_in, page, short
from polyvisor.launcher.endpoint.volumes import Volumes

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
"""How often a remote daemon is asked whether it is there, and after how many unanswered questions it is not."""
STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: "unknown",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}
ENDS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "failed",
}
CLOSED = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "an input or output error",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "the host closed it",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "the host did not answer",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "it was asked for",
}
Answer = dict[str, Any]


class Host:
    """The host behind the connection. Operations come from one thread, events from libvirt's."""

    def __init__(self, files: PrivateFiles, tell: Callable[[Answer], None], logs: Path) -> None:
        self._files = files
        self._tell = tell
        self._connection: Any = None
        self._events = False
        self._mutex = threading.Lock()
        self._changed: set[str] = set()
        self._domains: dict[str, Answer] = {}
        self._complete = False
        self._consoles = Consoles(logs, lambda: self._there().newStream(libvirt.VIR_STREAM_NONBLOCK))
        self._access = Access()
        self._storage = Volumes(self._there, lambda: self._access)
        self._guests = Guests(self._there, lambda: self._access.uri)
        self.operations: Mapping[str, Callable[[Answer], Answer]] = {
            "connect": self._connect,
            "domains": self._list,
            "describe": self._describe,
            "networks": self._networks,
            "capabilities": self._capabilities,
            "stats": self._guests.stats,
            **Domains(self._there, _record, self._consoles).operations,
            **self._storage.operations,
        }

    def _connect(self, asked: Answer) -> Answer:
        """Open the connection with the secrets that are given and say what is there.

        ``uri``; ``files`` (name -> text) are written before; ``username`` and ``password`` answer libvirt's questions.
        """
        uri = _text(asked, "uri")
        self._files.write(asked.get("files", {}))
        questions = Questions(asked.get("username"), asked.get("password"))
        access = Access(uri, *questions.given, str(asked.get("fingerprint") or ""))
        if access.fingerprint:  # libvirt cannot be told what to trust: it is compared before each connection
            check(access)
        try:
            connection = libvirt.openAuth(uri, [questions.kinds, questions.answer, None], 0)
        finally:
            self._files.remove()  # keys and certificates were read
        self._connection, self._complete = connection, False
        self._access = access
        connection.registerCloseCallback(self._closed, None)
        with suppress(libvirt.libvirtError):  # a connection without a daemon has nobody to ask
            connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        self._events = self._subscribe(connection)
        return {**self._about(connection), "events": self._events}

    def _subscribe(self, connection: Any) -> bool:
        try:
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._event, None)
        except libvirt.libvirtError as error:
            if error.get_error_code() in UNSUPPORTED:
                return False
            raise
        with suppress(libvirt.libvirtError):  # few drivers have it
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._event, None)
        return True

    def _about(self, connection: Any) -> Answer:
        capabilities = connection.getCapabilities()
        about: Answer = {
            "type": connection.getType(),
            "uri": connection.getURI(),
            "libvirtVersion": _dotted(connection.getLibVersion()),
            "hypervisorVersion": "",
            "hostName": "",
            "hostUUID": found_in(capabilities, "host/uuid"),
            "encrypted": False,
            "capabilities": capabilities,
            "cpus": 0,
            "memoryBytes": 0,
        }
        with suppress(libvirt.libvirtError):
            about["hypervisorVersion"] = _dotted(connection.getVersion())
        with suppress(libvirt.libvirtError):
            about["hostName"] = short(connection.getHostname())
        with suppress(libvirt.libvirtError):
            about["encrypted"] = bool(connection.isEncrypted())
        with suppress(libvirt.libvirtError):
            about["cpus"], about["memoryBytes"] = _resources(connection)
        return about

    def _list(self, asked: Answer) -> Answer:
        """Return domains from ``offset`` on, at most a page of them; the first page looks at the host again."""
        if asked.get("offset", 0) == 0:
            self._refresh(everything=asked.get("everything") is True or not self._events or not self._complete)
        domains, following = page(sorted(self._domains), asked, self._domains.get)
        return {"domains": domains, "next": following}

    def _refresh(self, everything: bool) -> None:
        connection = self._there()
        with self._mutex:
            changed, self._changed = self._changed, set()
        try:
            if everything:
                domains = {domain.UUIDString(): domain for domain in connection.listAllDomains(0)}
                self._domains = {
                    uuid: found for uuid, domain in domains.items() if (found := _record(domain, uuid)) is not None
                }
                self._complete = True
                return
            for uuid in changed:
                found = self._look_up(connection, uuid)
                if found is None:
                    self._domains.pop(uuid, None)
                else:
                    self._domains[uuid] = found
        except BaseException:
            self._complete = False
            raise

    def _look_up(self, connection: Any, uuid: str) -> Answer | None:
        try:
            return _record(connection.lookupByUUIDString(uuid), uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _describe(self, asked: Answer) -> Answer:
        """Return a domain's XML, as it runs and as it is defined, without passwords; the number of its snapshots."""
        domain = self._there().lookupByUUIDString(_text(asked, "uuid"))
        answer: Answer = {"xml": domain.XMLDesc(0), "defined": "", "snapshots": 0}
        with suppress(libvirt.libvirtError):  # few drivers have any
            answer["snapshots"] = domain.snapshotNum(0)
        if domain.isPersistent():
            answer["defined"] = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return answer

    def _networks(self, asked: Answer) -> Answer:
        networks, following = page(_listed(self._there().listAllNetworks), asked, about)
        return {"networks": networks, "next": following}

    def _capabilities(self, asked: Answer) -> Answer:
        """Return what guests of a virt type can have, in libvirt's XML; nothing where its driver does not tell."""
        try:
            return dict(capabilities(self._there(), _text(asked, "virtType")))
        except libvirt.libvirtError as error:
            if error.get_error_code() in UNSUPPORTED:
                return {}
            raise

    def _there(self) -> Any:
        if self._connection is None:
            raise Refused("not-connected", "there is no connection to the host")
        return self._connection

    def _event(self, _connection: Any, domain: Any, *_: Any) -> None:
        uuid = domain.UUIDString()
        with self._mutex:
            self._changed.add(uuid)
        self._tell({"type": "domain", "uuid": uuid})

    def serve(self, asked: Answer, connection: socket.socket, first: bytes, answer: Callable[[Answer], None]) -> None:
        """Serve one stream: ``console`` and others of an owned domain, ``upload`` into a volume, ``download``."""
        if asked.get("op") == "console":
            console = self._consoles.follow(owned(self._there(), asked), _text(asked, "machine"))
            answer({"result": {}})
            console.serve(connection)
        elif asked.get("op") == "upload":
            answer({"result": self._storage.upload(asked, connection, first)})
        elif asked.get("op") == "download":
            self._storage.download(asked, connection, answer)
        elif (stream := self._guests.streams.get(str(asked.get("op")))) is not None:
            stream(asked, connection, first, answer)
        else:
            raise Refused("unknown-op", f"unknown stream {asked.get('op')!r}")

    def _closed(self, _connection: Any, reason: int, _opaque: Any) -> None:
        self._connection = None
        self._consoles.close()
        self._tell({"type": "closed", "reason": CLOSED.get(reason, f"reason {reason}")})


class Questions:
    """libvirt's questions for credentials, answered with what was given."""

    NAMES = (libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_USERNAME)
    SECRETS = (libvirt.VIR_CRED_PASSPHRASE, libvirt.VIR_CRED_NOECHOPROMPT)

    def __init__(self, username: Any, password: Any) -> None:
        self._username = username if isinstance(username, str) else ""
        self._password = password if isinstance(password, str) else ""
        self.kinds = [*self.NAMES, *self.SECRETS]

    @property
    def given(self) -> tuple[str, str]:
        """User name and password."""
        return self._username, self._password

    def answer(self, questions: list[list[Any]], _: Any) -> int:
        """Fill the answers in, as libvirt's callback wants it; -1 if there is none."""
        for question in questions:
            name = question[0] in self.NAMES
            given = self._username if name else self._password
            if not given and not question[3]:
                return -1
            question[4] = given or question[3]
        return 0


def _record(domain: Any, uuid: str) -> Answer | None:
    """Return what is listed of a domain, None if it is gone meanwhile."""
    try:
        state, _, memory, vcpus, _ = domain.info()
        reason = domain.state()[1] if state == libvirt.VIR_DOMAIN_SHUTOFF else 0
        return {
            "uuid": uuid,
            "name": short(domain.name()),
            "id": domain.ID(),
            "state": STATES.get(state, "unknown"),
            "reason": ENDS.get(reason, ""),
            "vcpus": vcpus,
            "memoryBytes": memory * 1024,
            "persistent": bool(domain.isPersistent()),
            "mark": mark if len(mark := mark_of(domain)) <= MAX_MARK else "",
        }
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _listed(find: Callable[[int], list[Any]]) -> list[Any]:
    """Return what a host lists; nothing where its driver has no such thing."""
    try:
        return find(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNSUPPORTED:
            return []
        raise


def _resources(connection: Any) -> tuple[int, int]:
    """Return the host's CPUs and its memory in bytes; libvirt tells the memory in mebibytes."""
    _, mebibytes, cpus, *_ = connection.getInfo()
    return cpus, mebibytes * 1024 * 1024


def _dotted(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
