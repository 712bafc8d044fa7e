"""The snapshot controller against an API server; the test plays the CSI driver and the guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polyvisor.api.resources import SNAPSHOT_CONTENTS, SNAPSHOTS, VMS
from polyvisor.api.snapshots import CONTENT_FINALIZER, SOURCE_FINALIZER
from polyvisor.controllers.objects import condition
from polyvisor.controllers.snapshots import snapshots as snapshots_module
from polyvisor.controllers.snapshots.source import Source
from polyvisor.kube import ApiError, Informer
from polyvisor.standalone.apiserver.kinds import VOLUME_SNAPSHOTS
from tests.controllers.conftest import NAMESPACE, World

from .conftest import absent, claim, classes, machine, taken

Obj = dict[str, Any]


async def snapshot(world: World, name: str = "s", of: str = "m", **spec: Any) -> Obj:
    source = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": of}
    body = {
        "apiVersion": SNAPSHOTS.api_version,
        "kind": SNAPSHOTS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"source": source, **spec},
    }
    return await world.client.create(SNAPSHOTS, body)


async def seen(world: World, until: Callable[[Obj], Any], name: str = "s") -> Obj:
    async with Informer(world.client, SNAPSHOTS) as snapshots:

        def look(i: Informer) -> Obj:
            found = i.get(NAMESPACE, name)
            return found if found and until(found.get("status") or {}) else {}

        return await snapshots.wait_until(look, 10)


async def volume_snapshots(world: World, count: int) -> list[Obj]:
    async with Informer(world.client, VOLUME_SNAPSHOTS) as found:
        await found.wait_until(lambda i: len(i.items()) == count, 10)
        return found.items()


async def test_a_stopped_machine_is_snapshotted(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await claim(world, "b", storageClassName="slow")
    vm = await machine(world, "a", "b")
    made = await snapshot(world)
    (volume,) = await volume_snapshots(world, 1)
    assert volume["metadata"]["name"] == f"vmsnapshot-{made['metadata']['uid']}-volume-a"
    assert volume["spec"] == {
        "source": {"persistentVolumeClaimName": "a"},
        "volumeSnapshotClassName": "fast-snapshots",
    }
    held = await world.vm("m", lambda v: v["status"].get("snapshotInProgress") == "s")
    assert SOURCE_FINALIZER in held["metadata"]["finalizers"]
    progress = condition(await seen(world, lambda s: s.get("phase") == "InProgress"), "Progressing") or {}
    assert (progress["status"], progress["reason"]) == ("True", "Source locked and operation in progress")

    await taken(world, volume["metadata"]["name"])
    status = (await seen(world, lambda s: s.get("readyToUse")))["status"]
    assert status["phase"] == "Succeeded"
    assert status["sourceUID"] == vm["metadata"]["uid"]
    assert status["snapshotVolumes"] == {"includedVolumes": ["a"], "excludedVolumes": ["b", "seed"]}
    assert status["indications"] == ["PartialSnapshot"]
    await world.vm("m", lambda v: "snapshotInProgress" not in v["status"])
    content = await world.client.get(SNAPSHOT_CONTENTS, status["virtualMachineSnapshotContentName"], NAMESPACE)
    assert content["metadata"]["finalizers"] == [CONTENT_FINALIZER]
    assert [one["volumeName"] for one in content["spec"]["volumeBackups"]] == ["a"]
    assert content["spec"]["source"]["virtualMachine"]["metadata"]["uid"] == vm["metadata"]["uid"]
    assert content["status"]["readyToUse"] is True


async def test_a_taken_snapshot_is_a_success_before_it_is_ready(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await snapshot(world)
    (volume,) = await volume_snapshots(world, 1)
    name = volume["metadata"]["name"]
    await taken(world, name, readyToUse=False)
    status = (await seen(world, lambda s: s.get("phase") == "Succeeded"))["status"]
    assert status["readyToUse"] is False
    await taken(world, name)
    await seen(world, lambda s: s.get("readyToUse"))
    await world.client.delete(VOLUME_SNAPSHOTS, name, NAMESPACE)
    await world.change(SNAPSHOTS, "s", metadata={"labels": {"look": "again"}})
    gone = await seen(world, lambda s: s.get("readyToUse") is False and s.get("error"))
    assert gone["status"]["error"]["message"] == f"VolumeSnapshots ({name}) missing"


async def test_a_deadline_that_passes_leaves_nothing(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await snapshot(world, failureDeadline="2s")
    await volume_snapshots(world, 1)
    failed = await seen(world, lambda s: s.get("phase") == "Failed")
    failure = condition(failed, "Failure") or {}
    assert failure["reason"] == "snapshot deadline exceeded"
    await volume_snapshots(world, 0)
    await world.vm("m", lambda v: "snapshotInProgress" not in v["status"])
    assert await world.client.list(SNAPSHOT_CONTENTS, NAMESPACE) == []


async def test_a_machine_that_is_not_there_is_waited_for(world: World) -> None:
    await classes(world)
    await snapshot(world)
    waiting = await seen(world, lambda s: s.get("phase") == "InProgress")
    assert (condition(waiting, "Progressing") or {})["reason"] == "Source does not exist"
    await claim(world, "a")
    await machine(world, "a")
    await volume_snapshots(world, 1)


async def test_what_becomes_of_the_content(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    for name, policy in (("keep", "Retain"), ("drop", "Delete")):
        await snapshot(world, name, deletionPolicy=policy)
        before = len(await world.client.list(SNAPSHOT_CONTENTS, NAMESPACE))
        status = (await seen(world, lambda s: s.get("virtualMachineSnapshotContentName"), name))["status"]
        content = status["virtualMachineSnapshotContentName"]
        for volume in await world.client.list(VOLUME_SNAPSHOTS, NAMESPACE):
            await taken(world, volume["metadata"]["name"])
        await seen(world, lambda s: s.get("readyToUse"), name)
        await world.client.delete(SNAPSHOTS, name, NAMESPACE)
        async with Informer(world.client, SNAPSHOTS) as snapshots:
            await snapshots.wait_until(lambda i, name=name: i.get(NAMESPACE, name) is None, 10)  # type: ignore[misc]
        assert await absent(world, SNAPSHOT_CONTENTS, content) is (policy == "Delete")
        assert before >= 0


async def test_one_snapshot_at_a_time(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await snapshot(world, "first")
    (volume,) = await volume_snapshots(world, 1)
    await world.vm("m", lambda v: v["status"].get("snapshotInProgress") == "first")
    await snapshot(world, "second")

    def waits(status: Obj) -> bool:
        return "snapshot 'first' in progress" in (condition({"status": status}, "Progressing") or {}).get("reason", "")

    await seen(world, waits, "second")
    await taken(world, volume["metadata"]["name"])
    await seen(world, lambda s: s.get("readyToUse"), "first")
    await volume_snapshots(world, 2)


async def test_a_machine_on_an_endpoint_is_refused(world: World) -> None:
    await world.create_vm("m", runStrategy="Halted")
    endpoint = {"template": {"spec": {"hypervisor": {"endpoint": "esx"}}}}
    await world.change(VMS, "m", spec=endpoint)
    await snapshot(world)
    failed = await seen(world, lambda s: s.get("phase") == "Failed")
    assert "on an endpoint cannot be snapshotted" in failed["status"]["error"]["message"]


async def test_what_is_said_of_a_running_guest_is_from_before_its_node_paused_it(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a", strategy="Always")
    await world.running("m")
    await snapshot(world)
    (volume,) = await volume_snapshots(world, 1)
    await seen(world, lambda s: s.get("virtualMachineSnapshotContentName"))
    await world.vmi_status("m", conditions=[{"type": "Paused", "status": "True"}])
    await world.vmi("m", lambda v: v["status"]["conditions"][0]["type"] == "Paused")
    await taken(world, volume["metadata"]["name"])
    status = (await seen(world, lambda s: s.get("readyToUse")))["status"]
    assert status["indications"] == ["NoGuestAgent", "Online"]


async def test_a_guest_that_cannot_be_thawed_keeps_no_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node may be away for good, and the guest thaws by itself."""

    async def thaw(_: Source) -> None:
        raise ApiError(503, "ServiceUnavailable", "the node's agent cannot be reached")

    monkeypatch.setattr(Source, "thaw", thaw)
    monkeypatch.setattr(snapshots_module, "_froze", lambda _: True)
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await snapshot(world)
    await world.vm("m", lambda v: v["status"].get("snapshotInProgress") == "s")
    await world.client.delete(SNAPSHOTS, "s", NAMESPACE)
    await world.vm("m", lambda v: "snapshotInProgress" not in v["status"])
    async with Informer(world.client, SNAPSHOTS) as snapshots:
        await snapshots.wait_until(lambda i: not i.items(), 10)
