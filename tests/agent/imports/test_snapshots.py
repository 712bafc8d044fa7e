"""VolumeSnapshots as the agent makes them: real files, an API server, and launchers that note what they are asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.imports import snapshots as subject
from polyvisor.agent.imports.snapshots import FINALIZER, SnapshotKeeper
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.api.resources import PVCS, SNAPSHOT_CONTENTS, VMIS
from polyvisor.kube import EventRecorder, Informer, KubeClient
from polyvisor.standalone.apiserver.kinds import VOLUME_SNAPSHOTS
from tests.cluster import running

Obj = dict[str, Any]
SPACE = "default"


@dataclass
class Launcher:
    """The link to a launcher whose guest writes to its disk whenever it is let go on."""

    disk: Path
    state: Obj = field(default_factory=lambda: {"state": "running"})
    asked: list[str] = field(default_factory=list)
    active = True

    async def request(self, operation: str, **_: Any) -> Obj:
        self.asked.append(operation)
        self.state = {"state": "paused" if operation == "pause" else "running"}
        if operation == "resume":
            self.disk.write_bytes(b"written later")
        return self.state


@dataclass
class Home:
    client: KubeClient
    keeper: SnapshotKeeper
    claims: Informer
    vmis: Informer
    snapshots: Informer
    state: Path
    links: dict[str, Launcher]

    def disk(self, name: str) -> Path:
        return self.state / "volumes" / SPACE / name / "disk.img"

    async def claim(self, name: str, content: bytes = b"", **spec: Any) -> Obj:
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": SPACE},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **spec},
        }
        made = await self.client.create(PVCS, body)
        if content:
            self.disk(name).parent.mkdir(parents=True)
            self.disk(name).write_bytes(content)
            status = {"status": {"phase": "Bound"}}
            made = await self.client.patch(PVCS, name, status, SPACE, subresource="status")
        await self.claims.wait_until(lambda i: _is(i.get(SPACE, name), made), 10)
        return made

    async def guest(self, name: str, *claims: str, phase: str = "Running") -> Launcher:
        volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
        body = {
            "apiVersion": VMIS.api_version,
            "kind": VMIS.kind,
            "metadata": {"name": name, "namespace": SPACE},
            "spec": {"domain": {"devices": {}}, "volumes": volumes},
            "status": {"phase": phase},
        }
        made = await self.client.create(VMIS, body)
        await self.vmis.wait_until(lambda i: _is(i.get(SPACE, name), made), 10)
        self.links[name] = Launcher(self.disk(claims[0]))
        return self.links[name]

    async def snapshot(self, name: str, claim: str, **metadata: Any) -> Obj:
        spec = {"source": {"persistentVolumeClaimName": claim}, "volumeSnapshotClassName": "local"}
        body = {
            "apiVersion": VOLUME_SNAPSHOTS.api_version,
            "kind": VOLUME_SNAPSHOTS.kind,
            "metadata": {"name": name, "namespace": SPACE, **metadata},
            "spec": spec,
        }
        made = await self.client.create(VOLUME_SNAPSHOTS, body)
        await self.snapshots.wait_until(lambda i: i.get(SPACE, name), 10)
        return made

    async def status(self, name: str) -> Obj:
        found: Obj = (await self.client.get(VOLUME_SNAPSHOTS, name, SPACE)).get("status") or {}
        return found

    def kept(self, snapshot: Obj) -> Path:
        return self.state / "snapshots" / SPACE / str(snapshot["metadata"]["uid"])


def _is(found: Obj | None, made: Obj) -> bool:
    return found is not None and found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(running(tmp_path))
        events = EventRecorder(client, "test")
        claims, pods, vmis, taken = (Informer(client, one) for one in (PVCS, PVCS, VMIS, VOLUME_SNAPSHOTS))
        for informer in (claims, vmis, taken):
            await stack.enter_async_context(informer)
        links: dict[str, Launcher] = {}
        state = tmp_path / "state"
        state.mkdir()
        claim_keeper = ClaimKeeper(client, claims, pods, vmis, state / "volumes")
        link_of: Callable[[Obj], Any] = lambda vmi: links.get(vmi["metadata"]["name"])  # noqa: E731
        keeper = SnapshotKeeper(client, events, taken, claims, vmis, claim_keeper, state, link_of)
        yield Home(client, keeper, claims, vmis, taken, state, links)


async def test_a_claim_that_nobody_uses_is_copied(home: Home) -> None:
    await home.claim("c", b"data")
    made = await home.snapshot("s", "c")
    assert await home.keeper.reconcile((SPACE, "s")) is None
    status = await home.status("s")
    assert (status["readyToUse"], status["restoreSize"]) == (True, "1Mi")
    assert status["creationTime"]
    assert (home.kept(made) / "disk.img").read_bytes() == b"data"
    found = await home.client.get(VOLUME_SNAPSHOTS, "s", SPACE)
    assert found["metadata"]["finalizers"] == [FINALIZER]


async def test_a_folder_is_copied_as_a_tree(home: Home) -> None:
    await home.claim("c", b"data")
    home.disk("c").rename(home.disk("c").with_name("readme"))
    made = await home.snapshot("s", "c")
    await home.keeper.reconcile((SPACE, "s"))
    assert (home.kept(made) / "root" / "readme").read_bytes() == b"data"


async def test_guests_stand_still_while_their_claims_are_copied(home: Home) -> None:
    await home.claim("a", b"of then")
    await home.claim("b", b"of then, too")
    launcher = await home.guest("m", "a", "b")
    other = await home.guest("n", "elsewhere")
    content = {
        "apiVersion": SNAPSHOT_CONTENTS.api_version,
        "kind": SNAPSHOT_CONTENTS.kind,
        "metadata": {"name": "both", "namespace": SPACE},
        "spec": {
            "source": {},
            "volumeBackups": [
                {
                    "volumeName": name,
                    "volumeSnapshotName": f"s-{name}",
                    "persistentVolumeClaim": {"metadata": {"name": name}},
                }
                for name in ("a", "b")
            ],
        },
    }
    owner = await home.client.create(SNAPSHOT_CONTENTS, content)
    reference = {"apiVersion": SNAPSHOT_CONTENTS.api_version, "kind": SNAPSHOT_CONTENTS.kind, "name": "both"}
    owners = {"ownerReferences": [{**reference, "uid": owner["metadata"]["uid"], "controller": True}]}
    first = await home.snapshot("s-a", "a", **owners)
    assert await home.keeper.reconcile((SPACE, "s-a")) == subject.LOOK_SECONDS  # the other is not there yet
    assert launcher.asked == []
    second = await home.snapshot("s-b", "b", **owners)
    assert await home.keeper.reconcile((SPACE, "s-a")) is None
    assert launcher.asked == ["pause", "resume"]
    assert other.asked == []
    assert (home.kept(first) / "disk.img").read_bytes() == b"of then"
    assert (home.kept(second) / "disk.img").read_bytes() == b"of then, too"
    assert home.disk("a").read_bytes() == b"written later"
    assert (await home.status("s-a"))["creationTime"] == (await home.status("s-b"))["creationTime"]
    assert not (home.state / subject.STANDING).exists()


async def test_a_guest_that_was_paused_stays_so(home: Home) -> None:
    await home.claim("c", b"data")
    launcher = await home.guest("m", "c")
    launcher.state = {"state": "paused"}
    await home.snapshot("s", "c")
    await home.keeper.reconcile((SPACE, "s"))
    assert (await home.status("s"))["readyToUse"] is True
    assert launcher.asked == []


async def test_a_guest_that_is_being_started_is_waited_for(home: Home) -> None:
    await home.claim("c", b"data")
    launcher = await home.guest("m", "c", phase="Scheduled")
    await home.snapshot("s", "c")
    assert await home.keeper.reconcile((SPACE, "s"))
    assert await home.status("s") == {}
    assert launcher.asked == []


async def test_a_full_disk_is_told_and_the_guest_goes_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.claim("c", b"data")
    launcher = await home.guest("m", "c")
    made = await home.snapshot("s", "c")

    def full(source: int, target: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subject, "copy_sparse", full)
    assert await home.keeper.reconcile((SPACE, "s"))
    status = await home.status("s")
    assert status["readyToUse"] is False
    assert "making a snapshot of claim default/c" in status["error"]["message"]
    assert launcher.asked == ["pause", "resume"]
    assert list(home.kept(made).parent.iterdir()) == []


async def test_a_guest_goes_on_after_its_agent_was_killed(home: Home) -> None:
    launcher = await home.guest("m", "c")
    launcher.disk.parent.mkdir(parents=True)
    launcher.state = {"state": "paused"}
    standing = home.state / subject.STANDING
    standing.write_text(json.dumps([[SPACE, "m"], [SPACE, "gone"]]))
    del home.links["m"]
    waiting = asyncio.create_task(home.keeper.recover())
    await asyncio.sleep(0)
    home.links["m"] = launcher  # its launcher is back
    await asyncio.wait_for(waiting, 10)
    assert launcher.asked == ["resume"]
    assert not standing.exists()


async def test_a_claim_is_filled_from_a_snapshot_once(home: Home) -> None:
    await home.claim("c", b"data")
    await home.snapshot("s", "c")
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    claim = await home.claim("d", dataSource=source)
    home.disk("d").parent.mkdir()
    with pytest.raises(AgentError, match="not ready yet"):
        await home.keeper.fill(claim)
    await home.keeper.reconcile((SPACE, "s"))
    await home.keeper.fill(claim)
    assert home.disk("d").read_bytes().rstrip(b"\0") == b"data"
    assert home.disk("d").stat().st_size == 1 << 20
    home.disk("d").write_bytes(b"the guest's")
    await home.client.patch(PVCS, "d", {"status": {"phase": "Bound"}}, SPACE, subresource="status")
    await home.keeper.fill(claim)
    assert home.disk("d").read_bytes() == b"the guest's"


async def test_a_claim_of_nothing_is_left_alone_and_one_of_a_missing_snapshot_told(home: Home) -> None:
    await home.keeper.fill(await home.claim("c"))
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "gone"}
    with pytest.raises(AgentError, match="VolumeSnapshot default/gone does not exist"):
        await home.keeper.fill(await home.claim("d", dataSource=source))


async def test_a_link_in_the_place_of_a_disk_is_not_followed(home: Home) -> None:
    await home.claim("c", b"data")
    secret = home.state / "secret"
    secret.write_bytes(b"not the guest's")
    home.disk("c").unlink()
    home.disk("c").symlink_to(secret)
    made = await home.snapshot("s", "c")
    await home.keeper.reconcile((SPACE, "s"))
    assert "error" in await home.status("s")
    assert not home.kept(made).exists()


async def test_what_a_snapshot_holds_goes_with_it(home: Home) -> None:
    await home.claim("c", b"data")
    made = await home.snapshot("s", "c")
    await home.keeper.reconcile((SPACE, "s"))
    await home.client.delete(VOLUME_SNAPSHOTS, "s", SPACE)
    await home.snapshots.wait_until(
        lambda i: (i.get(SPACE, "s") or {"metadata": {}})["metadata"].get("deletionTimestamp"), 10
    )
    await home.keeper.reconcile((SPACE, "s"))
    await home.snapshots.wait_until(lambda i: i.get(SPACE, "s") is None, 10)
    assert not home.kept(made).exists()
