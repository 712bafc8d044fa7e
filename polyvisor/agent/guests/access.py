"""Access credentials: SSH keys and passwords out of Secrets, brought into guests at their first boot or while they run.

What cloud-init hands over is part of its seed (:func:`seed_keys`). What the guest's agent sets is kept in step by
:class:`AccessKeeper`: set when the agent appears, and again when a Secret has another content. A user's authorized keys
are then those of the Secrets alone, as KubeVirt has it. Secrets are asked for at intervals, not watched: watching would
need the right to read every Secret at any time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from polyvisor.agent.errors import AgentError
from polyvisor.agent.guests.agents import ask
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.api import Obj
from polyvisor.api.names import EventType, Reason
from polyvisor.api.reading import nested
from polyvisor.kube import EventRecorder, Informer, WorkQueue

INTERVAL_SECONDS = 20.0
AGAIN_SECONDS = 5.0
MOST_KEYS = 256
Key = tuple[str, str]
Secrets = Mapping[str, Mapping[str, bytes]]
log = logging.getLogger("polyvisor.access")


def _credentials(spec: Obj, kind: str, way: str) -> Iterator[tuple[str, Obj]]:
    """Yield the Secret's name and the propagation of each credential of a kind that goes one way."""
    for entry in spec.get("accessCredentials") or []:
        given = entry.get(kind) or {}
        propagation = nested(given, "propagationMethod").get(way)
        name = nested(given, "source", "secret").get("secretName")
        if propagation is not None and name:
            yield str(name), propagation


def seed_keys(spec: Obj, way: str, secrets: Secrets) -> list[str]:
    """Return the keys for a seed; ``way`` is ``noCloud`` or ``configDrive``."""
    found: list[str] = []
    for name, _ in _credentials(spec, "sshPublicKey", way):
        found += lines(_known(secrets, name))
    return found[:MOST_KEYS]


def lines(data: Mapping[str, bytes]) -> list[str]:
    """Return the keys that a Secret holds, whatever its entries are called."""
    texts = (data[name].decode(errors="replace") for name in sorted(data))
    rows = (row.strip() for text in texts for row in text.splitlines())
    return [row for row in rows if row and not row.startswith("#")]


@dataclass(slots=True)
class _State:
    uid: str
    applied: str = ""
    outcome: tuple[bool, str] | None = field(default=None)


class AccessKeeper:
    """Reconciles the credentials of one machine at a time; ``told`` is called when there is something new to say."""

    def __init__(
        self,
        vmis: Informer,
        events: EventRecorder,
        link_of: Callable[[Obj], Link | None],
        secrets_of: Callable[[Obj], Awaitable[Secrets]],
        told: Callable[[str], None],
    ) -> None:
        self._vmis = vmis
        self._secrets_of = secrets_of
        self._events = events
        self._link_of = link_of
        self._told = told
        self._known: dict[Key, _State] = {}
        self.queue: WorkQueue[Key] = WorkQueue()

    def look(self, uid: str) -> None:
        """Look at the credentials of the machine with this uid."""
        for vmi in self._vmis.by_index("uid", uid) if uid else []:
            if vmi["spec"].get("accessCredentials"):
                self.queue.add((vmi["metadata"]["namespace"], vmi["metadata"]["name"]))

    def outcome(self, vmi: Obj) -> tuple[bool, str] | None:
        """Return whether a machine's credentials are in the guest and why not, None if nothing is known."""
        known = self._known.get((vmi["metadata"]["namespace"], vmi["metadata"]["name"]))
        return known.outcome if known is not None and known.uid == vmi["metadata"]["uid"] else None

    async def reconcile(self, key: Key) -> float | None:
        """Bring the guest in line with the Secrets; return when to look again."""
        vmi = self._vmis.get(*key)
        link = self._link_of(vmi) if vmi is not None else None
        if vmi is None or link is None or not link.active:
            self._known.pop(key, None)
            return None
        uid = vmi["metadata"]["uid"]
        known = self._known.get(key)
        if known is None or known.uid != uid:
            known = self._known[key] = _State(uid)
        if not link.state.get("agent"):
            known.applied = ""  # a guest that starts anew is given everything anew
            return None
        if link.state.get("state") != "running":
            return None
        try:
            keys, passwords = await self._wanted(vmi)
            if not keys and not passwords:
                return None
            digest = hashlib.sha256(json.dumps([keys, passwords], sort_keys=True).encode()).hexdigest()
            if digest != known.applied:
                known.applied = ""  # should it fail half-way, the guest has neither these nor the ones before
                await _apply(link, keys, passwords)
                known.applied = digest
            elif known.outcome and known.outcome[0]:
                return INTERVAL_SECONDS
            self._say(vmi, known, True, "")
        except LauncherGone:
            return None
        except (AgentError, LauncherError) as error:
            self._say(vmi, known, False, str(error))
            return AGAIN_SECONDS
        return INTERVAL_SECONDS

    def _say(self, vmi: Obj, known: _State, good: bool, message: str) -> None:
        if known.outcome == (good, message) and not good:
            return
        known.outcome = (good, message)
        if good:
            self._events.event(vmi, EventType.NORMAL, Reason.ACCESS_SET, "Access credentials sync successful.")
        else:
            self._events.event(vmi, EventType.WARNING, Reason.ACCESS_FAILED, f"Access credentials: {message}")
        self._told(known.uid)

    async def _wanted(self, vmi: Obj) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return the keys by user and the passwords by user that the guest's agent is to set."""
        keys: dict[str, list[str]] = {}
        passwords: dict[str, str] = {}
        secrets = await self._secrets_of(vmi)
        for name, propagation in _credentials(vmi["spec"], "sshPublicKey", "qemuGuestAgent"):
            found = lines(_known(secrets, name))
            for user in propagation.get("users") or []:
                keys[user] = [*keys.get(user, []), *found][:MOST_KEYS]
        for name, _ in _credentials(vmi["spec"], "userPassword", "qemuGuestAgent"):
            for user, password in _known(secrets, name).items():
                passwords[user] = base64.b64encode(password).decode()
        return keys, passwords


def _known(secrets: Secrets, name: str) -> Mapping[str, bytes]:
    if name not in secrets:
        raise AgentError(f"Secret {name} of the access credentials does not exist yet; waiting for it")
    return secrets[name]


async def _apply(link: Link, keys: Mapping[str, list[str]], passwords: Mapping[str, str]) -> None:
    for user, theirs in keys.items():
        await _told(link, user, "guest-ssh-add-authorized-keys", username=user, keys=theirs, reset=True)
    for user, password in passwords.items():
        await _told(link, user, "guest-set-user-password", username=user, password=password, crypted=False)


async def _told(link: Link, user: str, command: str, **arguments: object) -> None:
    try:
        answer = await ask(link, command, **arguments)
    except LauncherGone:
        raise
    except LauncherError as error:
        raise LauncherError(f"user {user}: {error}") from None
    if answer is None:
        raise LauncherError(f"the guest's agent does not know {command}")
