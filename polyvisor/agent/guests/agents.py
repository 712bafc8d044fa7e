"""Asks the agents inside the guests of this node, at intervals, and keeps what they said for the machines' status.

It has a queue and workers of its own: an agent that never answers costs its question's time limit, and no machine
waits for that to be started or stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from polyvisor.agent.guests import guestinfo
from polyvisor.agent.guests.agent_support import unsupported
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.api import Obj
from polyvisor.kube import Informer, WorkQueue

ANSWER_SECONDS = 5
LAUNCHER_SECONDS = 15.0
"""How long a launcher may take over a question: its guest's answer, and others before it. A worker waits for that."""
EARLY_SECONDS = 5.0
"""How soon to ask again while a guest has no address yet, or holds its file systems still."""
INTERVAL_SECONDS = 60.0
Key = tuple[str, str]
log = logging.getLogger("polyvisor.guests")


class GuestKeeper:
    """Reconciles one guest's agent at a time; ``told`` is called with a machine's uid when its report has changed."""

    def __init__(self, vmis: Informer, link_of: Callable[[Obj], Link | None], told: Callable[[str], None]) -> None:
        self._vmis = vmis
        self._link_of = link_of
        self._told = told
        self._reports: dict[Key, tuple[str, Obj]] = {}
        self.queue: WorkQueue[Key] = WorkQueue()

    def report(self, vmi: Obj) -> Obj:
        """Return what a machine's guest has said, empty if nothing."""
        uid, said = self._reports.get(_key(vmi), ("", {}))
        return said if uid == vmi["metadata"]["uid"] else {}

    def look(self, uid: str) -> None:
        """Ask the guest of the machine with this uid soon, if it has an agent."""
        for vmi in self._vmis.by_index("uid", uid) if uid else []:
            self.queue.add(_key(vmi))

    async def reconcile(self, key: Key) -> float | None:
        """Ask one guest; return when to ask again, None while there is no agent to ask."""
        vmi = self._vmis.get(*key)
        link = self._link_of(vmi) if vmi is not None else None
        if vmi is None or link is None or not link.state.get("agent"):
            self._keep(key, vmi, {})
            return None
        if link.state.get("state") != "running":
            return None  # a held guest says nothing; the next change of its state brings us back
        try:
            said: Obj = {"freeze": str(await ask(link, "guest-fsfreeze-status") or "thawed")[:16]}
            if said["freeze"] == "frozen":  # then it answers nothing else
                said = {**self.report(vmi), **said}
            else:
                commands = guestinfo.agent_info(await ask(link, "guest-info")).get("supportedCommands")
                said["unsupported"] = unsupported(vmi, commands) if commands else None
                said["os"] = guestinfo.os_info(await ask(link, "guest-get-osinfo"))
                said["interfaces"] = guestinfo.interfaces(await ask(link, "guest-network-get-interfaces"))
        except LauncherGone:
            return None
        except LauncherError as error:
            log.info("%s/%s: the guest's agent: %s", *key, error)
            return INTERVAL_SECONDS
        self._keep(key, vmi, said)
        if said["freeze"] == "frozen":
            return EARLY_SECONDS  # it may be let go by its launcher's clock, of which nobody tells
        cards: list[Obj] = said.get("interfaces") or []
        return INTERVAL_SECONDS if any(card.get("ipAddresses") for card in cards) else EARLY_SECONDS

    def _keep(self, key: Key, vmi: Obj | None, said: Obj) -> None:
        _, before = self._reports.pop(key, ("", {}))
        if vmi is not None and said:
            self._reports[key] = (vmi["metadata"]["uid"], said)
        if vmi is not None and said != before:
            self._told(vmi["metadata"]["uid"])


def _key(vmi: Obj) -> Key:
    return vmi["metadata"]["namespace"], vmi["metadata"]["name"]


class Asked(Protocol):
    """What puts a command to the agent inside a guest."""

    async def request(self, operation: str, *, seconds: float = 0, **arguments: Any) -> Obj:
        """Put one command and return its answer. Raises :class:`LauncherError`."""
        ...


async def ask(link: Asked, command: str, **arguments: Any) -> Any:
    """Put one command to a guest's agent. One that it does not know is answered with None."""
    words: Obj = {"execute": command, **({"arguments": arguments} if arguments else {})}
    try:
        answer = await link.request("agent", seconds=LAUNCHER_SECONDS, command=words, timeout=ANSWER_SECONDS)
        return answer.get("answer")
    except LauncherError as error:
        if "has not been found" in str(error) or "not supported" in str(error) or "has been disabled" in str(error):
            return None
        raise


async def everything(link: Asked) -> Obj:
    """Return KubeVirt's ``VirtualMachineInstanceGuestAgentInfo``, asked now."""
    info = guestinfo.agent_info(await ask(link, "guest-info"))
    info["hostname"] = guestinfo.hostname(await ask(link, "guest-get-host-name"))
    info["os"] = guestinfo.os_info(await ask(link, "guest-get-osinfo"))
    info["timezone"] = guestinfo.timezone(await ask(link, "guest-get-timezone"))
    info["userList"] = await users(link)
    info["fsInfo"] = {"disks": await filesystems(link)}
    info["fsFreezeStatus"] = str(await ask(link, "guest-fsfreeze-status") or "")[:16]
    return {key: value for key, value in info.items() if value}


async def users(link: Asked) -> list[Obj]:
    """Return who is logged in to the guest."""
    return guestinfo.users(await ask(link, "guest-get-users"))


async def filesystems(link: Asked) -> list[Obj]:
    """Return the guest's mounted file systems."""
    return guestinfo.filesystems(await ask(link, "guest-get-fsinfo"))
