from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from polyvisor.api import names
from polyvisor.api.resources import SECRETS
from polyvisor.controllers.certificates import CertificateKeeper, Lifetimes
from polyvisor.kube import KubeClient
from polyvisor.process.certificates import signed_by
from polyvisor.process.pairs import split
from tests.cluster import running

Obj = dict[str, Any]
LIFETIMES = Lifetimes(timedelta(days=100), timedelta(days=10), timedelta(hours=1))
NS = names.KUBEVIRT_NAMESPACE
LEAVES = (names.API_SECRET, names.API_CLIENT_SECRET, names.HANDLER_SECRET)


@dataclass
class World:
    client: KubeClient
    told: dict[str, Obj]
    time: datetime
    keeper: CertificateKeeper

    async def secret(self, name: str) -> dict[str, bytes]:
        found = await self.client.get(SECRETS, name, NS)
        return {key: base64.b64decode(one) for key, one in found["data"].items()}

    async def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((await self.secret(name))["tls.crt"])

    def bundles(self) -> set[str]:
        hooks = [hook for one in self.told.values() for hook in one.get("webhooks", ())]
        found = {hook["clientConfig"].get("caBundle", "") for hook in hooks}
        return found | {one["spec"].get("caBundle", "") for one in self.told.values() if "spec" in one}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    hooks = [{"name": f"{n}.kubevirt.io", "clientConfig": {"service": {"name": "virt-api"}}} for n in ("a", "b")]
    judging = json.loads(json.dumps(hooks))
    judging[1]["name"] = "virt-launcher-eviction-interceptor.kubevirt.io"
    base = "/apis/admissionregistration.k8s.io/v1"
    told: dict[str, Obj] = {
        f"{base}/mutatingwebhookconfigurations/virt-api": {"webhooks": json.loads(json.dumps(hooks))},
        f"{base}/validatingwebhookconfigurations/virt-api": {"webhooks": judging},
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.subresources.kubevirt.io": {"spec": {"group": "g"}},
        "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha3.subresources.kubevirt.io": {"spec": {"group": "g"}},
    }

    async def answer(request: Request) -> JSONResponse:
        path = request.url.path
        if request.method == "PATCH":
            body = await request.json()
            if isinstance(body, list):
                told[path] = jsonpatch.apply_patch(told[path], body)
            else:
                told[path]["spec"] |= body["spec"]
        return JSONResponse(told[path])

    routes = [Route(path, answer, methods=["GET", "PATCH"]) for path in told]
    async with running(tmp_path, extra_routes=routes) as client:
        world = World(client, told, datetime.now(UTC).replace(microsecond=0), None)  # type: ignore[arg-type]
        world.keeper = CertificateKeeper(client, NS, lifetimes=LIFETIMES, clock=lambda: world.time)
        yield world


async def test_everything_is_made_and_told(world: World) -> None:
    pause = await world.keeper.reconcile()
    assert pause == LIFETIMES.overlap.total_seconds()
    authority = await world.secret(names.CA_SECRET)
    assert world.bundles() == {base64.b64encode(authority["tls.crt"]).decode()}
    for name in LEAVES:
        assert (await world.secret(name))["ca.crt"] == authority["tls.crt"]
        assert signed_by(await world.certificate(name), await world.certificate(names.CA_SECRET))
        assert "tls.key" in await world.secret(name)
        assert (await world.secret(name))["tls.key"] != authority["tls.key"]
    served = (await world.certificate(names.API_SECRET)).extensions
    names_ = served.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert "virt-api.kubevirt.svc" in names_
    usages = [
        (await world.certificate(name)).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for name in LEAVES
    ]
    assert [usage[0]._name for usage in usages] == ["serverAuth", "clientAuth", "serverAuth"]


async def test_nothing_is_written_where_nothing_is_due(world: World) -> None:
    await world.keeper.reconcile()
    before = {name: await world.client.get(SECRETS, name, NS) for name in (names.CA_SECRET, *LEAVES)}
    world.time += timedelta(days=7)
    assert await world.keeper.reconcile() == timedelta(days=1).total_seconds()
    after = {name: await world.client.get(SECRETS, name, NS) for name in before}
    assert after == before


async def test_a_leaf_is_renewed_long_before_its_end(world: World) -> None:
    await world.keeper.reconcile()
    before = await world.certificate(names.API_SECRET)
    world.time += timedelta(days=8, minutes=1)
    await world.keeper.reconcile()
    after = await world.certificate(names.API_SECRET)
    assert after.serial_number != before.serial_number
    assert signed_by(after, await world.certificate(names.CA_SECRET))


async def test_a_new_authority_is_believed_before_it_is_used(world: World) -> None:
    await world.keeper.reconcile()
    old = await world.certificate(names.CA_SECRET)
    world.time += timedelta(days=79)
    await world.keeper.reconcile()  # leaves of the old authority that live for days yet
    world.time += timedelta(days=1, minutes=1)
    await world.keeper.reconcile()
    new = await world.certificate(names.CA_SECRET)
    assert new.serial_number != old.serial_number
    leaf = await world.certificate(names.API_SECRET)
    assert signed_by(leaf, old)
    assert not signed_by(leaf, new)
    for bundle in (base64.b64decode(next(iter(world.bundles()))), (await world.secret(names.HANDLER_SECRET))["ca.crt"]):
        believed = [x509.load_pem_x509_certificate(one).serial_number for one in split(bundle)]
        assert believed == [new.serial_number, old.serial_number]
    world.time += LIFETIMES.overlap
    await world.keeper.reconcile()
    assert signed_by(await world.certificate(names.API_SECRET), new)
    world.time += timedelta(days=20)
    await world.keeper.reconcile()
    assert len(split(base64.b64decode(next(iter(world.bundles()))))) == 1, "an authority that is over is forgotten"


@pytest.mark.parametrize("damage", [{"tls.crt": ""}, {"tls.crt": "bm8=", "tls.key": "bm8="}, {}])
async def test_a_damaged_secret_is_made_anew(world: World, damage: dict[str, str]) -> None:
    await world.keeper.reconcile()
    for name in (names.CA_SECRET, names.API_SECRET):
        if damage:
            await world.client.patch(SECRETS, name, {"data": damage}, NS)
        else:
            await world.client.delete(SECRETS, name, NS)
    await world.keeper.reconcile()
    assert signed_by(await world.certificate(names.API_SECRET), await world.certificate(names.CA_SECRET))
    assert signed_by(await world.certificate(names.HANDLER_SECRET), await world.certificate(names.CA_SECRET))


def paths(world: World) -> list[str]:
    return [
        hook["clientConfig"]["service"].get("path", "")
        for one in world.told.values()
        for hook in one.get("webhooks", ())
    ]


async def test_webhooks_paths_are_unguessable_and_change_with_the_certificate(world: World) -> None:
    await world.keeper.reconcile()
    (first,) = (await world.secret(names.API_SECRET))["webhook-tokens"].decode().split()
    assert len(first) == 40
    assert set(paths(world)) == {""}  # not before virt-api can know the token
    await world.keeper.reconcile()
    assert paths(world) == [f"/mutate/{first}"] * 2 + [f"/validate/{first}", f"/evict/{first}"]
    world.time += timedelta(days=8, minutes=1)
    await world.keeper.reconcile()
    second, kept = (await world.secret(names.API_SECRET))["webhook-tokens"].decode().split()
    assert (kept, second != first) == (first, True)
    assert f"/mutate/{first}" in paths(world)
    await world.keeper.reconcile()
    assert paths(world) == [f"/mutate/{second}"] * 2 + [f"/validate/{second}", f"/evict/{second}"]
