"""The source's side of a live migration: the agent of the node on which the guest runs leads it.

It has the target made ready, joins the two launchers' sockets over TLS, and follows the sending. When the target has
everything and waits, one write decides: with ``completed`` in the instance's object the guest is the target's and is
ended here; if that write is refused because somebody wrote ``failed`` first, the guest goes on here. Nobody else writes
``completed``. An agent that finds a move which a former one began gives it up: what went through that one is lost.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from polyvisor.agent.launchers.launcher_pods import pod_id
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.link.descriptors import ask_for_socket
from polyvisor.agent.link.streams import Stream
from polyvisor.agent.live.migration_target import images_of
from polyvisor.agent.live.movable import copied
from polyvisor.api import Obj
from polyvisor.api.conditions import has_condition
from polyvisor.api.migrations import ABORTED, PRE_COPY, is_committed, is_moving, state_of
from polyvisor.api.names import EventType, VmiCondition
from polyvisor.api.quantity import whole
from polyvisor.api.resources import VMIS
from polyvisor.api.times import stamp
from polyvisor.drivers.pace import Deadline, has_passed
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.process.handlers import HandlerError, Handlers, RemoteStream

PREPARE_SECONDS = 180.0
SETTLE_SECONDS = 30.0
SWITCH_SECONDS = 90.0
PAUSE_SECONDS = 0.2
"""Between two questions to a target that is still starting; nothing tells of it."""
PROGRESS_SECONDS = 1.0
WRITES = 50
GIB = 1 << 30
log = logging.getLogger("polyvisor.migration")


class Failed(Exception):
    """The migration cannot go on; the text says why. The guest stays where it is."""


class Over(Failed):
    """The migration has ended already; ``committed``: with the guest on its target."""

    def __init__(self, why: str, *, committed: bool) -> None:
        super().__init__(why)
        self.committed = committed


class Source:
    """The moves of this node's guests; ``look`` has a machine looked at again when its move has ended."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        launchers: Launchers,
        vmis: Informer,
        node_name: str,
        look: Callable[[str], None],
        peers: Handlers,
    ) -> None:
        self._client = client
        self._events = events
        self._launchers = launchers
        self._vmis = vmis
        self._node_name = node_name
        self._look = look
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._peers = peers

    def concerns(self, vmi: Obj) -> bool:
        """Whether an instance is being moved away from this node."""
        return is_moving(vmi) and state_of(vmi).get("sourceNode") == self._node_name

    def has_left(self, vmi: Obj, pod: Obj) -> bool:
        """Whether the guest of a launcher Pod of this node goes on elsewhere."""
        state = state_of(vmi)
        here = state.get("sourceNode") == self._node_name != state.get("targetNode")
        return here and is_committed(vmi) and state.get("sourcePod") == pod["metadata"]["name"]

    async def leads(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """Lead a machine's move, or end what is left here of one that has gone; return whether it is either."""
        if self.has_left(vmi, pod):
            await self.leave(pod, link)
            return True
        if self.concerns(vmi):
            self.begin(vmi, pod, link)
            return True
        if self._was_kept(vmi, pod):
            await self._stay(vmi, link)
        return False

    def _was_kept(self, vmi: Obj, pod: Obj) -> bool:
        """Whether the last move of a launcher Pod's guest has failed, and nobody sees to it any more."""
        state = state_of(vmi)
        here = state.get("sourceNode") == self._node_name and state.get("sourcePod") == pod["metadata"]["name"]
        return here and bool(state.get("failed")) and state.get("migrationUid") not in self._tasks

    def begin(self, vmi: Obj, pod: Obj, link: Link) -> None:
        """Have a move under way that the controller asked for."""
        uid = str(state_of(vmi)["migrationUid"])
        if uid not in self._tasks:
            task = asyncio.create_task(self._led(vmi, pod, link), name=f"migration-{uid}")
            self._tasks[uid] = task
            task.add_done_callback(lambda _: self._tasks.pop(uid, None))

    async def leave(self, pod: Obj, link: Link) -> None:
        """End the domain of a guest that goes on elsewhere, and its launcher."""
        if link.active:
            await link.request("destroy")
        await self._launchers.quit(pod_id(pod))

    async def stop(self) -> None:
        """Let go of what is under way; the next agent gives it up."""
        for task in list(self._tasks.values()):
            await end_task(task)

    async def _led(self, vmi: Obj, pod: Obj, link: Link) -> None:
        try:
            await self._move(vmi, pod, link)
        except (Failed, LauncherError, HandlerError, ApiError, OSError) as error:
            await self._fail(vmi, link, str(error) or type(error).__name__)
        except Exception as error:
            log.exception("a migration failed")
            await self._fail(vmi, link, f"{type(error).__name__}: {error}")
        finally:
            self._look(vmi["metadata"]["uid"])

    async def _move(self, vmi: Obj, pod: Obj, link: Link) -> None:
        state = state_of(vmi)
        if state.get("startTimestamp") or link.state.get("moving") in ("setup", "active", "device"):
            raise Failed("the agent that led the migration has ended")
        node = str(state["targetNode"])
        xml = str((await link.request("portable")).get("xml") or "")
        await self._prepared(vmi, node, {"xml": xml, "images": images_of(pod)})
        address = (await self._peers.address(node)).rpartition(":")[0].strip("[]")
        vmi = await self._write(vmi, targetNodeAddress=address)
        vmi = await self._write(vmi, startTimestamp=stamp(), mode=PRE_COPY)
        config: Obj = state.get("migrationConfiguration") or {}
        async with AsyncExitStack() as stack:
            for name in copied(vmi):
                await self._joined(stack, vmi, link, "disk", "copy", disk=f"ua-{name}")
            await self._copied(vmi, link)
            await self._joined(stack, vmi, link, "state", "send", options=options_of(config))
            await link.request("progress")
            await self._sent(vmi, link, config)
            await self._arrived(vmi, node)
        vmi = await self._write(vmi, completed=True, endTimestamp=stamp(), targetNodeDomainReadyTimestamp=stamp())
        with suppress(HandlerError):  # the target's agent sees the object by itself, too
            await self._peers.post(node, _path(vmi, "resume"), {})
        self._events.event(vmi, EventType.NORMAL, "Migrated", f"The VirtualMachineInstance migrated to node {node}.")
        with suppress(LauncherGone):
            await self.leave(pod, link)

    async def _joined(self, stack: AsyncExitStack, vmi: Obj, link: Link, stream: str, word: str, **more: Any) -> None:
        """Join a connection that the launcher gives for a word to a stream of the target's, while ``stack`` is open."""
        remote = await self._peers.open(str(state_of(vmi)["targetNode"]), _path(vmi, f"streams/{stream}"), {})
        stack.push_async_callback(remote.close)
        connection = await ask_for_socket(link.path, word, **more)
        local = Stream(*await asyncio.open_connection(sock=connection))
        stack.push_async_callback(local.close)
        copying = asyncio.create_task(both_ways(local, remote), name=f"migration-{stream}")
        stack.push_async_callback(end_task, copying)

    async def _copied(self, vmi: Obj, link: Link) -> None:
        """Wait until the disks that are on this node are on the target's, too, and what is written comes there."""
        while True:
            said = (await link.request("progress")).get("progress") or {}
            disks: Obj = said.get("disks") or {}
            if failed := next((f"disk {name} {how}" for name, how in disks.items() if how.startswith("failed")), ""):
                raise Failed(failed)
            if all(how == "ready" for how in disks.values()):
                return
            if link.closed or link.ended:
                raise Failed("the guest ended while it was moved")
            self._wanted(vmi)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _prepared(self, vmi: Obj, node: str, body: Obj) -> None:
        """Have the target made ready; one whose launcher is still coming up is asked again."""
        deadline = Deadline(PREPARE_SECONDS)
        while True:
            self._wanted(vmi)
            try:
                await self._peers.post(node, _path(vmi, "prepare"), body, PREPARE_SECONDS)
            except HandlerError as error:
                if error.code != 503 or await asyncio.to_thread(has_passed, deadline):
                    raise Failed(f"preparing the target: {error}") from error
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _sent(self, vmi: Obj, link: Link, config: Obj) -> None:
        """Wait until all is sent; give up where it takes too long, or is not wanted any more."""
        progress, switched = Progress(config), False
        while (status := link.state.get("moving")) != "sent":
            if link.closed or link.ended:
                raise Failed("the guest ended while it was moved")
            if status in ("failed", "cancelled"):
                said = (await link.request("progress")).get("progress") or {}
                raise Failed(f"sending {status}: {said.get('error') or 'the connection to the target broke'}")
            self._wanted(vmi)
            if status == "pre-switchover" and not switched:
                switched = True
                await link.request("switch", seconds=SWITCH_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_SECONDS):
                    await link.changed()
                    continue
            said = (await link.request("progress")).get("progress") or {}
            if why := progress.stalled(said):
                raise Failed(why)

    async def _arrived(self, vmi: Obj, node: str) -> None:
        """Wait until the target has everything and its guest waits."""
        deadline = Deadline(SETTLE_SECONDS)
        while True:
            found = await self._peers.post(node, _path(vmi, "state"), {})
            if found.get("moving") == "received" and found.get("state") == "paused":
                return
            if found.get("state") not in ("paused", "running") or await asyncio.to_thread(has_passed, deadline):
                raise Failed(f"the target did not take the guest's state ({found})")
            await asyncio.sleep(0.01)

    def _wanted(self, vmi: Obj) -> None:
        """Raise :class:`Failed` if the migration is not wanted any more."""
        now = self._vmis.get(vmi["metadata"]["namespace"], vmi["metadata"]["name"])
        if now is None or now["metadata"]["uid"] != vmi["metadata"]["uid"]:
            raise Failed("the instance is gone")
        if now["metadata"].get("deletionTimestamp"):
            raise Failed("the instance is being deleted")
        state = state_of(now)
        if state.get("migrationUid") == state_of(vmi).get("migrationUid"):
            if state.get("abortRequested"):
                raise Failed("the migration was given up")
            if state.get("failed"):
                raise Failed(str(state.get("failureReason") or "the migration failed"))

    async def _fail(self, vmi: Obj, link: Link, why: str) -> None:
        """Say that the migration failed, and then have the guest go on here. What is complete is left alone.

        A write of "completed" whose answer was lost may still be on its way; it is refused once "failed" is there, and
        not before. So a guest that was sent stands still until one of the two is known to be in the object.
        """
        log.warning("%s/%s: migration: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], why)
        with suppress(LauncherError):
            await link.request("cancel")
        left = WRITES
        while left or was_sent(link):
            left = max(0, left - 1)
            try:
                await self._write(
                    vmi, "abortStatus", completed=True, failed=True, failureReason=why, endTimestamp=stamp()
                )
            except Over as over:
                if not over.committed:
                    await self._stay(vmi, link)
                return
            except (ApiError, Failed) as error:
                if isinstance(error, ApiError) and error.not_found:
                    await self._stay(vmi, link)  # without an instance nobody lets it go on elsewhere
                    return
                log.warning("the failed migration cannot be recorded: %s", error)
                await asyncio.sleep(PROGRESS_SECONDS)
            else:
                what = f"VirtualMachineInstance migration failed: {why}"
                self._events.event(vmi, EventType.WARNING, "Migrated", what)
                await self._stay(vmi, link)
                return

    async def _stay(self, vmi: Obj, link: Link) -> None:
        """Have a guest go on here that was sent in vain; one that was paused by its user stays paused."""
        if not was_sent(link):
            return
        with suppress(LauncherError):
            await link.request("stay")
            if not has_condition(vmi.get("status") or {}, VmiCondition.PAUSED):
                await link.request("resume")

    async def _write(self, vmi: Obj, *marks: str, **fields: Any) -> Obj:
        """Write fields of ``status.migrationState``; raises :class:`Over` if the migration has ended meanwhile."""
        name, namespace = vmi["metadata"]["name"], vmi["metadata"]["namespace"]
        for _ in range(WRITES):
            now = await self._client.get(VMIS, name, namespace)
            state = state_of(now)
            same = state.get("migrationUid") == state_of(vmi).get("migrationUid")
            if not same or not is_moving(now):
                why = str(state.get("failureReason") or "the migration has ended")
                raise Over(why, committed=same and is_committed(now))
            if state.get("abortRequested") and "failed" not in fields:
                raise Failed("the migration was given up")
            changed = copy.deepcopy(now)
            changed["status"]["migrationState"] |= fields
            if marks and state.get("abortRequested"):
                changed["status"]["migrationState"]["abortStatus"] = ABORTED
            try:
                written = await self._client.update_status(VMIS, changed)
            except ApiError as error:
                if not error.conflict:
                    raise
                continue
            self._vmis.learn(written)
            return written
        raise Failed("the instance changes too often to be written")


class Progress:
    """Whether the sending of a guest's memory comes to an end, by the settings of its migration."""

    def __init__(self, config: Obj, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._moved = clock()
        self._least: int | None = None
        self._progress = float(config.get("progressTimeout") or 0)
        self._each_gib = float(config.get("completionTimeoutPerGiB") or 0)

    def stalled(self, said: Obj) -> str:
        """Take in what is left to be sent; return why to give up, empty to go on."""
        now = self._clock()
        remaining, total = said.get("remaining"), said.get("total")
        if isinstance(remaining, int) and (self._least is None or remaining < self._least):
            self._least, self._moved = remaining, now
        if self._progress and now - self._moved > self._progress:
            return f"live migration stuck for {self._progress:.0f} seconds and has been aborted"
        size = total if isinstance(total, int) else 0
        limit = self._each_gib * max(1, -(-size // GIB))
        if limit and size and now - self._begun > limit:
            return f"live migration is not completed after {limit:.0f} seconds and has been aborted"
        return ""


def options_of(config: Obj) -> Obj:
    """Return what the source's launcher is told of a migration's settings."""
    found: Obj = {"converge": config.get("allowAutoConverge") is True}
    if bandwidth := config.get("bandwidthPerMigration"):
        found["bandwidth"] = whole(str(bandwidth))
    if downtime := config.get("maxDowntimeMs"):
        found["downtime"] = downtime
    return found


async def both_ways(local: Stream, remote: RemoteStream) -> None:
    """Copy both ways until each side has ended."""

    async def outward() -> None:
        with suppress(ConnectionError):
            while data := await local.read():
                await remote.write(data)
        await remote.close()

    async def inward() -> None:
        with suppress(ConnectionError):
            while data := await remote.read():
                await local.write(data)
        await local.close()  # a target that is lost ends the sending, which would wait for it else

    async with asyncio.TaskGroup() as group:
        group.create_task(outward())
        group.create_task(inward())


def was_sent(link: Link) -> bool:
    """Whether a guest stands still here because all of it was sent to a target."""
    return link.state.get("moving") == "sent" and link.state.get("state") == "paused"


def _path(vmi: Obj, step: str) -> str:
    metadata, uid = vmi["metadata"], state_of(vmi)["migrationUid"]
    where = f"/v1/namespaces/{metadata['namespace']}/virtualmachineinstances/{metadata['name']}"
    return f"{where}/migrations/{uid}/{step}"
