"""The source's side of a migration, over a real API server and with the test in the place of launcher and target.

What matters most: the guest runs on at most one side, whatever is lost at which moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.live import migration_source
from polyvisor.agent.live.migration_source import Progress, Source, options_of
from polyvisor.api.resources import VMIS
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient
from polyvisor.process.handlers import HandlerError
from tests.cluster import running

Obj = dict[str, Any]
NAMESPACE = "default"
POD: Obj = {"metadata": {"name": "old", "uid": "aaaaaaaa-0000"}, "spec": {"nodeName": "n1"}}
STATE: Obj = {
    "migrationUid": "job",
    "sourceNode": "n1",
    "sourcePod": "old",
    "targetNode": "n2",
    "targetPod": "new",
    "migrationConfiguration": {"progressTimeout": 150},
}


class Link:
    """A launcher whose guest runs; ``sends`` is what becomes of the sending."""

    def __init__(self, sends: str = "sent") -> None:
        self.path = Path("/nowhere/launcher.sock")
        self.state: Obj = {"state": "running"}
        self.asked: list[str] = []
        self.sends = sends
        self.closed = False
        self.news = asyncio.Event()
        self.looked = asyncio.Event()

    @property
    def active(self) -> bool:
        return self.state["state"] in ("running", "paused")

    @property
    def ended(self) -> bool:
        return self.state["state"] == "shutoff"

    async def request(self, operation: str, **_: Any) -> Obj:
        self.asked.append(operation)
        if operation == "progress" and self.state.get("moving") == "active":
            self.looked.set()
        if operation == "resume":
            if self.state.get("moving") == "sent":
                raise LauncherError("the guest is being moved")
            self.state["state"] = "running"
        elif operation == "stay":
            self.state["moving"] = "cancelled"
        elif operation == "destroy":
            self.state["state"] = "shutoff"
        elif operation == "cancel" and self.state.get("moving") == "active":
            self.state["moving"] = "cancelled"
        return {"xml": "<domain/>", "progress": {"remaining": 1, "total": 1}}

    async def changed(self) -> None:
        self.news.clear()
        await self.news.wait()

    def tells(self, moving: str) -> None:
        self.state |= {"moving": moving, **({"state": "paused"} if moving == "sent" else {})}
        self.news.set()


class Stream:
    async def read(self) -> bytes:
        await asyncio.get_running_loop().create_future()
        return b""

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


class Peers:
    """The target's agent."""

    def __init__(self, arrived: str = "received") -> None:
        self.asked: list[str] = []
        self.arrived = arrived
        self.before_state: Callable[[], Any] | None = None

    async def address(self, node: str) -> str:
        return "10.0.0.2:8186"

    async def open(self, node: str, path: str, arguments: Obj) -> Stream:
        return Stream()

    async def post(self, node: str, path: str, body: Obj, seconds: float = 0) -> Obj:
        step = path.rpartition("/")[2]
        self.asked.append(step)
        if step == "prepare" and self.arrived == "refused":
            raise HandlerError("no room", 409)
        if step == "state":
            if self.before_state is not None:
                await self.before_state()
            if self.arrived == "gone":
                raise HandlerError("the target's Pod is gone", 503)
        return {"state": "paused", "moving": self.arrived}


class Launchers:
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def quit(self, id_: str) -> None:
        self.ended.append(id_)


class World:
    def __init__(self, client: KubeClient, vmis: Informer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.vmis = vmis
        self.link = Link()
        self.peers = Peers()
        self.launchers = Launchers()
        self.over = asyncio.Event()

        async def sends(path: Path, operation: str, **_: Any) -> socket.socket:
            self.link.asked.append(operation)
            self.link.tells(self.link.sends)
            ours, theirs = socket.socketpair()
            self.other = theirs
            ours.setblocking(False)
            return ours

        monkeypatch.setattr(migration_source, "ask_for_socket", sends)
        launchers: Any = self.launchers
        peers: Any = self.peers
        events = EventRecorder(client, "test")
        self.source = Source(client, events, launchers, vmis, "n1", lambda _: self.over.set(), peers)

    async def vmi(self) -> Obj:
        return await self.client.get(VMIS, "m", NAMESPACE)

    async def write(self, **fields: Any) -> None:
        vmi = await self.vmi()
        vmi["status"]["migrationState"] |= fields
        await self.client.update_status(VMIS, vmi)

    async def lead(self) -> Obj:
        """Have the move led to its end; return what is written of it."""
        link: Any = self.link
        assert await self.source.leads(await self.vmi(), POD, link)
        await asyncio.wait_for(self.over.wait(), 20)
        return dict((await self.vmi())["status"]["migrationState"])


@asynccontextmanager
async def a_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with running(folder) as client:
        vmi = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "m", "namespace": NAMESPACE},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": "Running", "nodeName": "n1", "migrationState": STATE},
        }
        await client.create(VMIS, vmi)
        async with Informer(client, VMIS) as vmis:
            yield World(client, vmis, monkeypatch)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with a_world(tmp_path, monkeypatch) as found:
        yield found


async def test_the_guest_is_ended_here_only_after_the_write_that_gives_it_away(world: World) -> None:
    seen: list[Obj] = []
    ended = world.link.request

    async def request(operation: str, **more: Any) -> Obj:
        if operation == "destroy":
            seen.append((await world.vmi())["status"]["migrationState"])
        return await ended(operation, **more)

    world.link.request = request  # type: ignore[method-assign]
    state = await world.lead()
    assert seen[0]["completed"]
    assert state["completed"]
    assert not state.get("failed")
    assert state["targetNodeAddress"] == "10.0.0.2"
    assert state["startTimestamp"]
    assert state["endTimestamp"]
    assert world.peers.asked == ["prepare", "state", "resume"]
    assert "resume" not in world.link.asked
    assert len(world.launchers.ended) == 1


@pytest.mark.parametrize("lost", ["refused", "gone"])
async def test_a_target_that_is_lost_leaves_the_guest_here(world: World, lost: str) -> None:
    world.peers.arrived = lost
    state = await world.lead()
    assert state["failed"]
    assert state["completed"], "it has ended"
    assert "resume" not in world.peers.asked
    assert world.link.state["state"] == "running"
    assert not world.launchers.ended


@pytest.mark.parametrize("sends", ["failed", "cancelled"])
async def test_a_sending_that_fails_leaves_the_guest_here(world: World, sends: str) -> None:
    world.link.sends = sends
    state = await world.lead()
    assert f"sending {sends}" in state["failureReason"]
    assert world.link.state["state"] == "running"
    assert "destroy" not in world.link.asked


async def test_whoever_writes_failed_first_keeps_the_guest_here(world: World) -> None:
    """All has been sent, and the controller declares the migration failed before the source's agent gives it away."""

    async def first() -> None:
        await world.write(completed=True, failed=True, failureReason="the target Pod is gone")

    world.peers.before_state = first
    state = await world.lead()
    assert state["failureReason"] == "the target Pod is gone"
    assert "resume" not in world.peers.asked
    assert world.link.state["state"] == "running", "it was paused, and goes on"
    assert "destroy" not in world.link.asked


async def test_an_abort_is_heeded_until_the_last_moment(world: World) -> None:
    async def first() -> None:
        await world.write(abortRequested=True)

    world.peers.before_state = first
    state = await world.lead()
    assert state["failed"]
    assert state["abortStatus"] == "Succeeded"
    assert world.link.state["state"] == "running"


async def test_an_abort_stops_the_sending(world: World) -> None:
    world.link.sends = "active"
    link: Any = world.link
    assert await world.source.leads(await world.vmi(), POD, link)
    await asyncio.wait_for(world.link.looked.wait(), 20)
    await world.write(abortRequested=True)
    world.link.news.set()
    await asyncio.wait_for(world.over.wait(), 20)
    state = (await world.vmi())["status"]["migrationState"]
    assert state["abortStatus"] == "Succeeded"
    assert "cancel" in world.link.asked


async def test_a_move_that_a_former_agent_began_is_given_up(world: World) -> None:
    """Its stream went through that agent; what was sent may be all, and the guest stands still."""
    await world.write(startTimestamp="2026-01-01T00:00:00Z")
    world.link.tells("sent")
    state = await world.lead()
    assert state["failed"]
    assert world.link.state["state"] == "running"
    assert "resume" not in world.peers.asked


async def test_a_guest_that_has_gone_is_ended_here_by_the_next_agent(world: World) -> None:
    """Killed between the write and the end of the domain."""
    await world.write(completed=True, endTimestamp="2026-01-01T00:00:00Z")
    world.link.tells("sent")
    link: Any = world.link
    assert await world.source.leads(await world.vmi(), POD, link)
    assert world.link.asked == ["destroy"]
    assert len(world.launchers.ended) == 1


async def test_a_write_that_comes_late_never_has_the_guest_run_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to "completed" is lost, and the API server takes that write only later: it is refused then."""
    update, resumed = world.client.update_status, world.link.request
    late: list[Obj] = []
    outcome: list[bool] = []

    async def update_status(resource: Any, body: Obj) -> Obj:
        state = (body.get("status") or {}).get("migrationState") or {}
        if state.get("completed") and not state.get("failed") and not late:
            late.append(body)
            raise ApiError(504, "Timeout", "no answer")
        return await update(resource, body)

    async def request(operation: str, **more: Any) -> Obj:
        if operation == "resume":
            try:
                await update(VMIS, late[0])
            except ApiError as error:
                outcome.append(error.conflict)
        return await resumed(operation, **more)

    monkeypatch.setattr(world.client, "update_status", update_status)
    world.link.request = request  # type: ignore[method-assign]
    state = await world.lead()
    assert outcome == [True], "the guest runs here, so the write that gives it away must be refused"
    assert state["failed"]
    assert world.link.state["state"] == "running"


async def test_a_guest_that_was_sent_in_vain_goes_on_when_the_agent_that_led_it_has_ended(world: World) -> None:
    """The controller gave the move up while no agent ran here."""
    await world.write(startTimestamp="2026-01-01T00:00:00Z", completed=True, failed=True)
    world.link.tells("sent")
    link: Any = world.link
    assert not await world.source.leads(await world.vmi(), POD, link)
    assert world.link.state == {"state": "running", "moving": "cancelled"}
    world.link.state["state"] = "paused"  # by its user, later
    assert not await world.source.leads(await world.vmi(), POD, link)
    assert world.link.state["state"] == "paused"


async def test_a_guest_that_its_user_had_paused_stays_paused_when_its_move_fails(world: World) -> None:
    vmi = await world.vmi()
    vmi["status"]["conditions"] = [{"type": "Paused", "status": "True"}]
    await world.client.update_status(VMIS, vmi)
    world.peers.arrived = "gone"
    state = await world.lead()
    assert state["failed"]
    assert world.link.state == {"state": "paused", "moving": "cancelled"}


async def test_what_is_not_moving_is_nobodys(world: World) -> None:
    link: Any = world.link
    vmi = await world.vmi()
    vmi["status"]["migrationState"] = {**STATE, "sourceNode": "n2", "targetNode": "n1"}
    assert not await world.source.leads(vmi, POD, link)
    vmi["status"].pop("migrationState")
    assert not await world.source.leads(vmi, POD, link)


def test_sending_that_gets_nowhere_or_takes_too_long_is_given_up() -> None:
    now = [0.0]
    progress = Progress({"progressTimeout": 10, "completionTimeoutPerGiB": 100}, lambda: now[0])
    assert progress.stalled({"remaining": 5 << 30, "total": 2 << 30}) == ""
    now[0] = 9
    assert progress.stalled({"remaining": 4 << 30, "total": 2 << 30}) == ""
    now[0] = 18
    assert progress.stalled({"remaining": 5 << 30, "total": 2 << 30}) == ""
    now[0] = 20
    assert "stuck for 10 seconds" in progress.stalled({"remaining": 4 << 30, "total": 2 << 30})
    assert "stuck" not in progress.stalled({"remaining": 1 << 30, "total": 2 << 30})
    now[0] = 201
    assert "not completed after 200 seconds" in progress.stalled({"remaining": 1, "total": 2 << 30})
    assert Progress({}, lambda: now[0]).stalled({}) == ""


def test_what_a_launcher_is_told_of_the_settings() -> None:
    given = {"bandwidthPerMigration": "64Mi", "allowAutoConverge": True, "maxDowntimeMs": 50}
    assert options_of(given) == {"converge": True, "bandwidth": 64 << 20, "downtime": 50}
    assert options_of({"bandwidthPerMigration": "0"}) == {"converge": False, "bandwidth": 0}
