"""The target's side of a migration: what another node's agent may ask, and when a guest goes on here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live.migration_target import Target
from polyvisor.agent.serving import MAX_BODY, application
from polyvisor.api.migrations import HANDLER_CLIENT_NAME
from polyvisor.api.names import API_CLIENT_NAME
from polyvisor.api.resources import VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.kube import KubeClient
from tests.cluster import running

Obj = dict[str, Any]
STATE: Obj = {"migrationUid": "job", "sourceNode": "n1", "targetNode": "n2"}


class Link:
    path = Path("/nowhere")

    def __init__(self) -> None:
        self.state: Obj = {"state": "none"}
        self.asked: list[tuple[str, Obj]] = []

    @property
    def active(self) -> bool:
        return self.state["state"] in ("running", "paused")

    async def request(self, operation: str, *, seconds: float = 0, **more: Any) -> Obj:
        self.asked.append((operation, more))
        if operation == "receive":
            self.state |= {"state": "paused", "moving": "waiting"}
        elif operation in ("resume", "destroy"):
            self.state["state"] = {"resume": "running", "destroy": "shutoff"}[operation]
        return self.state

    def asked_for(self) -> list[str]:
        return [operation for operation, _ in self.asked]


class World:
    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.link = Link()
        self.linked = True
        self.pods: list[Obj] = []
        launchers: Any = SimpleNamespace(
            get=lambda _: self.link if self.linked else None, lock=lambda _: asyncio.Lock()
        )
        pods: Any = SimpleNamespace(by_index=lambda _, uid: self.pods)

        async def rendered(vmi: Obj, *_: Any) -> str:
            from tests.domain.test_moved import rendered as render

            return render("b", self.typed)

        drivers = DriverRegistry([QemuDriver()])
        self.target = Target(client, drivers, launchers, pods, "n2", rendered)
        self.typed: Any = None

    async def make(self, **state: Any) -> Obj:
        from tests.domain.test_moved import vmi as typed

        self.typed = typed()
        made = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "m", "namespace": "default"},
            "spec": self.typed.spec.model_dump(by_alias=True, exclude_none=True),
            "status": {
                "phase": "Running",
                "nodeName": "n1",
                "migrationState": {**STATE, **state},
                "activePods": {"p": "n2"},
            },
        }
        vmi = await self.client.create(VMIS, made)
        owner = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "uid": vmi["metadata"]["uid"], "controller": True}
        labels = {
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": vmi["metadata"]["uid"],
            "kubevirt.io/migrationJobUID": "job",
        }
        annotations = {"hypervisor.kubevirt.io/driver": "qemu"}
        metadata = {"name": "t", "namespace": "default", "uid": "p", "labels": labels, "annotations": annotations}
        self.pods = [{"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {"nodeName": "n2"}}]
        self.typed.metadata.uid = vmi["metadata"]["uid"]
        return vmi

    async def write(self, vmi: Obj, **fields: Any) -> Obj:
        vmi["status"]["migrationState"] |= fields
        return await self.client.update_status(VMIS, vmi)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as client:
        yield World(client)


async def ask(world: World, step: str, uid: str = "job", **more: Any) -> Obj:
    return await world.target.ask("default", "m", uid, step, **more)


async def test_the_guest_goes_on_here_only_when_the_object_says_so(world: World) -> None:
    from tests.domain.test_moved import rendered

    vmi = await world.make()
    live = rendered("a", world.typed)
    assert await ask(world, "prepare", xml=live) == {"state": "paused", "moving": "waiting"}
    assert await ask(world, "prepare", xml=live) == {"state": "paused", "moving": "waiting"}
    assert world.link.asked_for() == ["receive"], "repeated, it changes nothing"
    assert "/b/data.img" in world.link.asked[0][1]["xml"]
    world.link.state["moving"] = "received"
    assert (await ask(world, "resume"))["state"] == "paused", "nobody has written that it is complete"
    vmi = await world.write(vmi, completed=True)
    assert (await ask(world, "resume"))["state"] == "running"


async def test_a_guest_that_its_user_has_paused_stays_paused(world: World) -> None:
    vmi = await world.make(completed=True)
    vmi["status"]["conditions"] = [{"type": "Paused", "status": "True"}]
    await world.client.update_status(VMIS, vmi)
    world.link.state = {"state": "paused", "moving": "received"}
    assert (await ask(world, "resume"))["state"] == "paused"


async def test_a_target_whose_migration_failed_is_destroyed(world: World) -> None:
    vmi = await world.make()
    link: Any = world.link
    world.link.state = {"state": "paused", "moving": "received"}
    assert not await world.target.settle(vmi, world.pods[0], link)
    assert world.link.asked_for() == []
    vmi = await world.write(vmi, completed=True, failed=True)
    assert await world.target.settle(vmi, world.pods[0], link)
    assert world.link.asked_for() == ["destroy"]


async def test_a_target_of_a_former_migration_is_destroyed(world: World) -> None:
    vmi = await world.make(migrationUid="another")
    world.link.state = {"state": "paused", "moving": "received"}
    link: Any = world.link
    assert await world.target.settle(vmi, world.pods[0], link)


@pytest.mark.parametrize(
    ("state", "uid"),
    [({}, ""), ({}, "other"), ({"targetNode": "n3"}, "job"), ({"migrationUid": "x"}, "job")],
)
async def test_what_the_object_does_not_say_is_refused(world: World, state: Obj, uid: str) -> None:
    await world.make(**state)
    with pytest.raises(LauncherError, match="not the target"):
        await ask(world, "state", uid)


async def test_a_pod_that_was_not_recorded_takes_nothing(world: World) -> None:
    await world.make()
    world.pods[0]["metadata"]["uid"] = "another"
    with pytest.raises(LauncherGone, match="not seen on this node yet"):
        await ask(world, "prepare", xml="<domain/>")


async def test_a_launcher_that_is_still_starting_is_waited_for(world: World) -> None:
    await world.make()
    world.linked = False
    with pytest.raises(LauncherGone, match="not connected yet"):
        await ask(world, "prepare", xml="<domain/>")


async def test_nothing_is_made_ready_for_a_migration_that_has_ended(world: World) -> None:
    await world.make(completed=True, failed=True)
    with pytest.raises(LauncherError, match="has ended"):
        await ask(world, "prepare", xml="<domain/>")
    with pytest.raises(LauncherError, match="takes no state"):
        await world.target.open("default", "m", "job", "state")


async def test_a_disk_whose_image_is_another_one_here_is_not_taken(world: World) -> None:
    from tests.domain.test_moved import rendered

    await world.make()
    world.pods[0]["status"] = {"containerStatuses": [{"name": "volumeroot", "imageID": "sha256:b"}]}
    with pytest.raises(LauncherError, match="image of volumeroot is another one on this node"):
        await ask(world, "prepare", xml=rendered("a", world.typed), images={"volumeroot": "sha256:a"})
    assert world.link.asked_for() == []
    await ask(
        world, "prepare", xml=rendered("a", world.typed), images={"volumeroot": "sha256:b", "compute": "sha256:c"}
    )
    assert world.link.asked_for() == ["receive"]


async def test_what_the_source_sends_is_said_to_be_wrong(world: World) -> None:
    await world.make()
    with pytest.raises(LauncherError, match="cannot be made ready: the running domain"):
        await ask(world, "prepare", xml="<domain><uuid>0</uuid></domain>")
    assert world.link.asked_for() == []


@pytest.mark.parametrize(
    ("peer", "path", "code"),
    [
        (HANDLER_CLIENT_NAME, "migrations/job/state", 200),
        (API_CLIENT_NAME, "migrations/job/state", 403),
        ("", "migrations/job/state", 403),
        (HANDLER_CLIENT_NAME, "ask/pause", 403),
        (API_CLIENT_NAME, "ask/pause", 200),
        ("somebody", "ask/pause", 403),
    ],
)
async def test_agents_ask_for_migrations_and_virt_api_for_all_else(peer: str, path: str, code: int) -> None:
    async def answers(*_: Any, **__: Any) -> Obj:
        return {}

    both: Any = SimpleNamespace(ask=answers)
    app = application(both, moves=both)

    async def shown(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"peer": peer}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shown), base_url="http://a") as client:
        answer = await client.post(f"/v1/namespaces/n/virtualmachineinstances/migrations/{path}", json={})
    assert answer.status_code == code


async def test_a_request_of_another_nodes_agent_is_bounded() -> None:
    """That node may be somebody else's by now."""

    async def answers(*_: Any, **__: Any) -> Obj:
        raise AssertionError("it was read")

    both: Any = SimpleNamespace(ask=answers)
    app = application(both, moves=both)

    async def shown(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"peer": HANDLER_CLIENT_NAME}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=shown), base_url="http://a") as client:
        path = "/v1/namespaces/n/virtualmachineinstances/m/migrations/job/prepare"
        answer = await client.post(path, json={"xml": "x" * MAX_BODY})
    assert answer.status_code == 413
