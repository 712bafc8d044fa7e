"""The clone controller, with those of snapshots and restores; the test plays the CSI driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from polyvisor.api.resources import CLONES, PVCS, RESTORES, SNAPSHOTS, VMS
from polyvisor.kube import Informer
from tests.controllers.conftest import NAMESPACE, World
from tests.controllers.snapshots.conftest import absent, bind, claim, classes, machine, taken
from tests.controllers.snapshots.test_restores import made
from tests.controllers.snapshots.test_snapshots import seen as seen_snapshot
from tests.controllers.snapshots.test_snapshots import snapshot, volume_snapshots

Obj = dict[str, Any]


async def clone(world: World, kind: str = "VirtualMachine", of: str = "m", **spec: Any) -> Obj:
    group = "kubevirt.io" if kind == "VirtualMachine" else "snapshot.kubevirt.io"
    target = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "n"}
    body = {
        "apiVersion": CLONES.api_version,
        "kind": CLONES.kind,
        "metadata": {"name": "c", "namespace": NAMESPACE},
        "spec": {"source": {"apiGroup": group, "kind": kind, "name": of}, "target": target, **spec},
    }
    return await world.client.create(CLONES, body)


async def seen(world: World, until: Callable[[Obj], Any]) -> Obj:
    async with Informer(world.client, CLONES) as clones:

        def look(i: Informer) -> Obj:
            found = i.get(NAMESPACE, "c")
            return found if found and until(found.get("status") or {}) else {}

        return await clones.wait_until(look, 15)


async def nothing_left(world: World) -> None:
    for resource in (SNAPSHOTS, RESTORES):
        async with Informer(world.client, resource) as found:
            await found.wait_until(lambda i: not i.items(), 10)


async def test_a_machine_is_cloned(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await world.vm("m", lambda v: v["status"].get("volumeSnapshotStatuses", [{}])[0].get("enabled"))
    asked = await clone(world, newSMBiosSerial="mine", labelFilters=[])
    (volume,) = await volume_snapshots(world, 1)
    status = (await seen(world, lambda s: s.get("snapshotName")))["status"]
    assert (status["phase"], status["snapshotName"]) == (
        "SnapshotInProgress",
        f"tmp-snapshot-{asked['metadata']['uid']}",
    )
    await taken(world, volume["metadata"]["name"])
    name = (await seen(world, lambda s: s.get("restoreName")))["status"]["restoreName"]
    restore = await world.client.get(RESTORES, name, NAMESPACE)
    copied = f"restore-{restore['metadata']['uid']}-a"
    await made(world, copied)
    await bind(world, copied)
    done = await seen(world, lambda s: s.get("phase") == "Succeeded" and not s.get("restoreName"))
    assert done["status"]["targetName"] == "n"
    vm = await world.vm("n", lambda v: True)
    assert vm["spec"]["template"]["spec"]["domain"]["firmware"]["serial"] == "mine"
    assert vm["spec"]["runStrategy"] == "Halted"
    await nothing_left(world)
    assert (await world.client.get(PVCS, copied, NAMESPACE))["metadata"]["ownerReferences"][0]["name"] == "n"


async def test_a_snapshot_is_cloned_and_stays(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await snapshot(world)
    (volume,) = await volume_snapshots(world, 1)
    await taken(world, volume["metadata"]["name"])
    await seen_snapshot(world, lambda s: s.get("readyToUse"))
    await clone(world, "VirtualMachineSnapshot", "s", volumeNamePolicy="PrefixTargetName")
    await made(world, "n-a")
    await bind(world, "n-a")
    await seen(world, lambda s: s.get("phase") == "Succeeded" and not s.get("restoreName"))
    assert not await absent(world, SNAPSHOTS, "s")
    await world.client.delete(VMS, "n", NAMESPACE)
    async with Informer(world.client, CLONES) as clones:
        await clones.wait_until(lambda i: not i.items(), 10)  # it goes with its machine


async def test_a_source_that_is_not_there_is_waited_for(world: World) -> None:
    await classes(world)
    await clone(world)
    waiting = await seen(world, lambda s: "Pending" in json.dumps(s))
    assert "Source doesnt exist: VirtualMachine default/m" in json.dumps(waiting)
    await claim(world, "a")
    await machine(world, "a")
    await volume_snapshots(world, 1)


async def test_a_name_that_exists_is_refused_and_leaves_nothing(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await world.create_vm("n", runStrategy="Halted")
    await clone(world)
    failed = await seen(world, lambda s: s.get("phase") == "Failed")
    assert "VirtualMachine default/n exists already; name another target" in json.dumps(failed)
    await nothing_left(world)


async def test_a_volume_without_snapshots_is_told(world: World) -> None:
    await classes(world)
    await claim(world, "a", storageClassName="slow")
    await machine(world, "a")
    await clone(world)
    waiting = await seen(world, lambda s: "does not support snapshots" in json.dumps(s))
    assert "volume a does not support snapshots" in json.dumps(waiting)
    await nothing_left(world)


async def test_a_failed_snapshot_fails_the_clone(world: World) -> None:
    await world.create_vm("m", runStrategy="Halted")
    await world.change(VMS, "m", spec={"template": {"spec": {"hypervisor": {"endpoint": "esx"}}}})
    await clone(world)
    failed = await seen(world, lambda s: s.get("phase") == "Failed")
    assert "on an endpoint cannot be snapshotted" in json.dumps(failed)
    await nothing_left(world)
