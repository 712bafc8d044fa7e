"""What the eviction webhook answers for a launcher Pod, by strategy; the API server is the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import PODS, VMIS
from polyvisor.kube import ApiError, KubeClient
from polyvisor.server.evictions import Evictions
from tests.cluster import running

Obj = dict[str, Any]
SPACE = "default"
STAYS = "VMI m is configured with an eviction strategy but is not live-migratable: QEMU machines cannot be moved yet"
LEAVES = 'Eviction triggered evacuation of VMI "default/m"'
FIXED = {"type": "LiveMigratable", "status": "False", "message": "QEMU machines cannot be moved yet"}
MOVES = {"type": "LiveMigratable", "status": "True"}


@dataclass
class Asked:
    client: KubeClient

    async def machine(self, strategy: str | None, **status: Any) -> Obj:
        spec: Obj = {"domain": {"devices": {}}} | ({"evictionStrategy": strategy} if strategy else {})
        vmi = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": {"name": "m", "namespace": SPACE}}
        vmi = await self.client.create(VMIS, {**vmi, "spec": spec})
        found = {"phase": "Running", "nodeName": "n1", "conditions": [FIXED], **status}
        return await self.client.update_status(VMIS, vmi | {"status": found})

    async def pod(self, owner: Obj, *, recorded: bool = True, **metadata: Any) -> None:
        reference = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "name": "m", "controller": True}
        reference["uid"] = owner["metadata"]["uid"]
        about = {"name": "p", "namespace": SPACE, "ownerReferences": [reference], **metadata}
        spec = {"nodeName": "n1", "containers": [{"name": "compute", "image": "i"}]}
        pod = await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})
        if recorded:
            active = {"status": {"activePods": {pod["metadata"]["uid"]: "n1"}}}
            await self.client.patch(VMIS, "m", active, SPACE)

    async def answer(self, configuration: Obj | None = None, **request: Any) -> str:
        reviews = Evictions(self.client, lambda: configuration or {})
        return await reviews.review({"uid": "u", "name": "p", "namespace": SPACE, "object": {}, **request})

    async def marked(self) -> str:
        return str((await self.client.get(VMIS, "m", SPACE))["status"].get("evacuationNodeName", ""))


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    async with running(tmp_path) as client:
        yield Asked(client)


@pytest.mark.parametrize(
    ("strategy", "cluster", "condition", "said", "marked"),
    [
        (None, None, FIXED, "", ""),
        ("None", "LiveMigrate", FIXED, "", ""),
        ("LiveMigrate", None, FIXED, STAYS, ""),
        (None, "LiveMigrate", FIXED, STAYS, ""),
        ("LiveMigrate", None, MOVES, LEAVES, "n1"),
        ("LiveMigrateIfPossible", None, FIXED, "", ""),
        ("LiveMigrateIfPossible", None, MOVES, LEAVES, "n1"),
        ("External", None, FIXED, LEAVES, "n1"),
    ],
)
async def test_the_strategy_decides(
    asked: Asked, strategy: str | None, cluster: str | None, condition: Obj, said: str, marked: str
) -> None:
    await asked.pod(await asked.machine(strategy, conditions=[condition]))
    assert await asked.answer({"evictionStrategy": cluster} if cluster else {}) == said
    assert await asked.marked() == marked


@pytest.mark.parametrize("dry", [{"dryRun": True}, {"object": {"deleteOptions": {"dryRun": ["All"]}}}])
async def test_a_trial_marks_nothing(asked: Asked, dry: Obj) -> None:
    await asked.pod(await asked.machine("External"))
    assert await asked.answer(**dry) == LEAVES
    assert await asked.marked() == ""


async def test_an_eviction_that_is_asked_for_again_is_told_that_the_first_goes_on(asked: Asked) -> None:
    await asked.pod(await asked.machine("External"))
    assert await asked.answer() == LEAVES
    for again in ({}, {"dryRun": True}):
        assert await asked.answer(**again) == f"Evacuation in progress: {LEAVES}"


async def test_other_pods_and_machines_that_are_over_are_let_go(asked: Asked) -> None:
    assert await asked.answer() == "", "no such Pod"
    vmi = await asked.machine("LiveMigrate")
    stranger = {"metadata": {"uid": "another"}}
    await asked.pod(stranger)
    assert await asked.answer() == "", "a Pod of a machine of the same name that is gone"
    await asked.pod(vmi, name="mine")
    assert await asked.answer(name="mine") == STAYS
    over = await asked.client.get(VMIS, "m", SPACE)
    await asked.client.update_status(VMIS, over | {"status": over["status"] | {"phase": "Succeeded"}})
    assert await asked.answer(name="mine") == ""


async def test_claims_of_a_running_machine_go_after_it(asked: Asked) -> None:
    await asked.pod(await asked.machine("None"), name="launcher")
    launcher = await asked.client.get(PODS, "launcher", SPACE)
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "launcher", "controller": True}
    labels = {"kubevirt.io": "hotplug-disk"}
    mine = {**owner, "uid": launcher["metadata"]["uid"]}
    await asked.pod(launcher, name="mine", labels=labels, ownerReferences=[mine])
    await asked.pod(launcher, name="other", labels=labels, ownerReferences=[{**owner, "uid": "gone"}])
    assert await asked.answer(name="mine") == "it has disks of the machine in Pod launcher, and goes when that has gone"
    assert await asked.answer(name="other") == ""
    over = {"status": {"phase": "Succeeded"}}
    await asked.client.patch(PODS, "launcher", over, SPACE, patch_type="merge", subresource="status")
    assert await asked.answer(name="mine") == ""
    await asked.client.delete(PODS, "launcher", SPACE, grace_period_seconds=0)
    assert await asked.answer(name="mine") == ""


async def test_a_machine_that_cannot_be_looked_at_is_not_let_go(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    await asked.pod(await asked.machine("LiveMigrate"))
    read = asked.client.get

    async def failing(resource: Any, *address: Any) -> Obj:
        if resource == VMIS:
            raise ApiError(500, "InternalError", "etcd is away")
        return await read(resource, *address)

    monkeypatch.setattr(asked.client, "get", failing)
    assert await asked.answer() == "the machine of Pod default/p cannot be looked at: etcd is away"


async def test_a_pod_that_is_not_recorded_as_the_launcher_marks_nothing(asked: Asked) -> None:
    await asked.pod(await asked.machine("External"), recorded=False)
    await asked.answer()
    assert await asked.marked() == ""


@pytest.mark.parametrize("strategy", [None, "None"])
async def test_a_host_is_drained_only_of_machines_that_may_be_shut_down(asked: Asked, strategy: str | None) -> None:
    vmi = await asked.machine(strategy)
    await asked.pod(vmi, labels={"kubevirt.io": "virt-launcher"})
    change = {"spec": {"hypervisor": {"endpoint": "rack4"}}}
    await asked.client.patch(VMIS, "m", change, SPACE)
    said = await asked.answer()
    assert said == "" if strategy else "the host of endpoint rack4 and cannot be moved: default/m; stop" in said
    assert await asked.marked() == ""
    assert await asked.answer({"evictionStrategy": "None"}) == "", "the administrator has said so for all"
