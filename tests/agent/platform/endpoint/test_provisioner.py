"""For whom volumes are made on an endpoint's host."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.agent.platform.endpoint.provisioner import Provisioner
from polyvisor.drivers import registry
from tests.agent.platform.endpoint.conftest import endpoint

Obj = dict[str, Any]
CLAIM: Obj = {
    "metadata": {"name": "c", "namespace": "mine", "uid": "u"},
    "spec": {"storageClassName": "rack", "resources": {"requests": {"storage": "1Gi"}}},
}


class Objects:
    """An informer without a server."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = objects

    def on_change(self, _: Any) -> None:
        pass

    def items(self) -> tuple[Obj, ...]:
        return self.objects

    def get(self, *_: Any) -> Obj | None:
        return next(iter(self.objects), None)


class World:
    """The API server, the Events, and the one endpoint's host: what is asked of it, and what is told."""

    def __init__(self, spec: Obj, labels: dict[str, str]) -> None:
        self.endpoint = endpoint("qemu:///system", storage=[{"storageClass": "rack", "pool": "images"}], **spec)
        self.seen = Observed("qemu")
        self.asked: list[str] = []
        self.created: list[str] = []
        self.told: list[str] = []
        self._labels = labels

    async def get(self, _resource: Any, name: str) -> Obj:
        return {"metadata": {"name": name, "labels": self._labels}}

    async def create(self, _resource: Any, obj: Obj) -> None:
        self.created.append(obj["spec"]["csi"]["volumeHandle"])

    def event(self, _obj: Obj, _kind: str, _reason: str, message: str) -> None:
        self.told.append(message)

    async def ask(self, operation: str, *_: Any, **__: Any) -> Obj:
        self.asked.append(operation)
        volume = {"name": "polyvisor-pvc-u.qcow2", "path": "/p", "format": "qcow2", "capacity": 1 << 30}
        return {"pool": {"active": True, "type": "dir", "available": 1 << 40}, "volume": volume}[operation]


async def provisioned(spec: Obj, node: str = "", selected: str = "", **labels: str) -> World:
    world = World(spec, labels)
    metadata = {**CLAIM["metadata"], "annotations": {"volume.kubernetes.io/selected-node": selected}}
    claims = Objects({**CLAIM, "metadata": metadata})
    provisioner = Provisioner(
        world, world, registry(), lambda _: world,  # type: ignore[arg-type, return-value]
        claims=claims, node=node, volumes=Objects(), endpoints=Objects(world.endpoint),  # type: ignore[arg-type]
    )  # fmt: skip
    await provisioner.reconcile(("mine", "c"))
    return world


@pytest.mark.parametrize("spec", [{}, {"allowedNamespaces": {"selector": {"matchLabels": {"team": "a"}}}}])
async def test_a_claim_of_a_namespace_that_may_not_use_the_endpoint_takes_no_room_on_its_host(spec: Obj) -> None:
    world = await provisioned(spec, team="b")
    assert (world.asked, world.created) == ([], [])
    assert ["may not use endpoint rack4" in one for one in world.told] == [True]


@pytest.mark.parametrize("selector", [{}, {"matchLabels": {"team": "a"}}])
async def test_a_claim_of_a_namespace_that_may_use_it_becomes_a_volume(selector: Obj) -> None:
    world = await provisioned({"allowedNamespaces": {"selector": selector}}, team="a")
    assert world.created == ["rack4/images/polyvisor-pvc-u.qcow2"]


@pytest.mark.parametrize(("selected", "made"), [("endpoint-rack4", True), ("endpoint-rack5", False), ("", False)])
async def test_in_a_cluster_the_scheduler_chooses_the_host(selected: str, made: bool) -> None:
    """Each endpoint has an agent of its own there, and one of them makes the volume."""
    world = await provisioned({"allowedNamespaces": {"selector": {}}}, "endpoint-rack4", selected)
    assert bool(world.created) is made
