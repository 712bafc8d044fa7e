"""Who may run commands in a launcher Pod: where it has privileges on its node, only who may use its driver there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from polyvisor.api.resources import PODS
from polyvisor.drivers import registry
from polyvisor.kube import KubeClient
from polyvisor.process.webhook_paths import ENTER
from polyvisor.server.entering import Entering
from tests.cluster import running

Obj = dict[str, Any]
USER = {"username": "ann", "groups": ["team"], "uid": "1"}


@dataclass
class World:
    client: KubeClient
    asked: list[Obj] = field(default_factory=list)
    may: set[str] = field(default_factory=set)
    broken: bool = False

    async def access(self, request: Request) -> JSONResponse:
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        if self.broken:
            return JSONResponse({"message": "not now"}, 403)
        return JSONResponse({"status": {"allowed": spec["resourceAttributes"].get("name") in self.may}}, 201)

    async def pod(self, driver: str, *, privileged: bool = False, launcher: bool = True) -> None:
        container: Obj = {"name": "compute", "image": "i", "securityContext": {"privileged": privileged}}
        metadata: Obj = {"name": "virt-launcher-m", "namespace": "default"}
        if launcher:
            metadata |= {"labels": {"kubevirt.io/created-by": "u"}}
            metadata |= {"annotations": {"hypervisor.kubevirt.io/driver": driver}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        await self.client.create(PODS, pod)

    async def review(self, **request: Any) -> httpx.Response:
        asked = {"uid": "r", "operation": "CONNECT", "subResource": "exec", "name": "virt-launcher-m"}
        asked |= {"namespace": "default", "userInfo": USER, **request}
        app = Starlette(routes=Entering(self.client, registry()).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as web:
            return await web.post(ENTER, json={"apiVersion": "admission.k8s.io/v1", "request": asked})

    async def refusal(self, **request: Any) -> str:
        answer = (await self.review(**request)).json()["response"]
        assert answer["uid"] == "r"
        assert answer["allowed"] == ("status" not in answer)
        return str((answer.get("status") or {}).get("message", ""))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found: list[World] = []

    async def access(request: Request) -> JSONResponse:
        return await found[0].access(request)

    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    async with running(tmp_path, extra_routes=[Route(path, access, methods=["POST"])]) as client:
        found.append(World(client))
        yield found[0]


@pytest.mark.parametrize("way", ["exec", "attach"])
async def test_a_launcher_with_privileges_is_entered_by_who_may_use_its_driver(world: World, way: str) -> None:
    await world.pod("lxc", privileged=True)
    told = await world.refusal(subResource=way)
    assert "user 'ann' needs the right to use hypervisors.hypervisor.kubevirt.io/lxc" in told
    (asked,) = world.asked
    assert (asked["user"], asked["groups"]) == ("ann", ["team"])
    wanted = {"verb": "use", "group": "hypervisor.kubevirt.io", "resource": "hypervisors", "namespace": "default"}
    assert asked["resourceAttributes"] == wanted | {"name": "lxc"}
    world.may.add("lxc")
    assert await world.refusal(subResource=way) == ""


async def test_a_launcher_without_privileges_is_entered_as_other_pods(world: World) -> None:
    await world.pod("qemu")
    assert await world.refusal() == ""
    assert world.asked == []


async def test_privileges_count_whatever_the_driver(world: World) -> None:
    await world.pod("qemu", privileged=True)
    assert "kubevirt.io/qemu" in await world.refusal()


@pytest.mark.parametrize("driver", ["", "of-another-package"])
async def test_a_driver_that_is_not_known_is_not_trusted(world: World, driver: str) -> None:
    await world.pod(driver)
    assert "runs a machine of driver" in await world.refusal()


async def test_a_pod_that_only_has_such_a_name_is_no_launcher(world: World) -> None:
    await world.pod("lxc", privileged=True, launcher=False)
    assert await world.refusal() == ""
    assert await world.refusal(name="virt-launcher-not-there") == ""


async def test_while_rights_cannot_be_asked_for_nobody_enters(world: World) -> None:
    await world.pod("lxc")
    world.broken = True
    assert "cannot be looked at" in await world.refusal()


async def test_other_reviews_are_not_answered(world: World) -> None:
    for request in ({"operation": "CREATE"}, {"subResource": "portforward"}):
        assert (await world.review(**request)).status_code == 400
