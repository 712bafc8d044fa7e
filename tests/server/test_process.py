"""The whole of virt-api, against an embedded API server that plays the cluster's."""

from __future__ import annotations

import argparse
import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from polyvisor.api import names
from polyvisor.api.resources import CONFIGMAPS, KUBEVIRTS, SECRETS, VMS
from polyvisor.kube import KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.process.certificates import issue_client, issue_server, make_authority
from polyvisor.process.pairs import Pair, load_pair
from polyvisor.process.running import Restart
from polyvisor.server.process import Server
from tests.cluster import KUBEVIRT, TOKEN, running, shown_by, told_version
from tests.server.test_webhooks import request, vm

Obj = dict[str, Any]
DAY = timedelta(days=1)
START = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/demo/start"
USER = {"X-Remote-User": "ann", "X-Remote-Group": "admins", "X-Remote-Extra-Scopes": "a"}


@dataclass
class Cluster:
    client: KubeClient
    reviews: list[Obj]
    allowed: set[str]
    ca: Pair = field(default_factory=lambda: make_authority("ca", DAY))
    front: Pair = field(default_factory=lambda: make_authority("front", DAY))
    server: Server | None = None
    task: asyncio.Task[None] | None = None
    tokens: list[str] = field(default_factory=lambda: ["t0k3n"])

    async def secret(self, name: str, pair: Pair) -> None:
        data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self.ca.certificate}
        data |= {"webhook-tokens": "\n".join(self.tokens).encode()} if name == names.API_SECRET else {}
        metadata = {"name": name, "namespace": names.KUBEVIRT_NAMESPACE}
        encoded = {key: base64.b64encode(one).decode() for key, one in data.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
        await self.client.apply(SECRETS, secret, force=True)

    async def trust(self, *authorities: Pair) -> None:
        bundle = b"".join(one.certificate for one in authorities).decode()
        data = {"requestheader-client-ca-file": bundle, "requestheader-allowed-names": '["aggregator"]'}
        metadata = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
        found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await self.client.apply(CONFIGMAPS, found, force=True)

    def caller(self, pair: Pair | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cadata=self.ca.certificate.decode())
        if pair is not None:
            load_pair(context, pair)
        assert self.server is not None
        address = f"https://127.0.0.1:{self.server.port}"
        return httpx.AsyncClient(verify=context, base_url=address, trust_env=False)


async def soon(what: Any) -> None:
    async with asyncio.timeout(10):
        await what


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(10):
        while True:
            if await check():
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    reviews: list[Obj] = []
    allowed = {"ann"}

    async def access(asked: Request) -> JSONResponse:
        spec = (await asked.json())["spec"]
        reviews.append(spec)
        return JSONResponse({"status": {"allowed": spec["user"] in allowed, "reason": "no such role"}}, 201)

    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    async with running(tmp_path, extra_routes=[Route(path, access, methods=["POST"])]) as client:
        yield Cluster(client, reviews, allowed)


@asynccontextmanager
async def started(cluster: Cluster, folder: Path, certificates: bool = True) -> AsyncIterator[Cluster]:
    if certificates:
        names_ = ["127.0.0.1", "virt-api.kubevirt.svc"]
        await cluster.secret(names.API_SECRET, issue_server(cluster.ca, names_, DAY))
        await cluster.secret(names.API_CLIENT_SECRET, issue_client(cluster.ca, names.API_CLIENT_NAME, DAY))
    await cluster.trust(cluster.front)
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.client.connection.server}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    options = argparse.Namespace(kubeconfig=str(folder / "kubeconfig"), namespace="kubevirt", bind="127.0.0.1", port=0)
    cluster.server = Server(options)
    cluster.task = asyncio.create_task(cluster.server.run())
    try:
        if certificates:
            await asyncio.sleep(0)
            await soon(cluster.server.health.ready())
        yield cluster
    finally:
        await end_task(cluster.task)


async def test_a_review_over_tls(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path), cluster.caller(None) as caller:
        body = {"apiVersion": "admission.k8s.io/v1", "request": request(VMS, vm(runStrategy="Sometimes"))}
        answer = (await caller.post("/mutate/t0k3n", json=body)).json()
        assert answer["kind"] == "AdmissionReview"
        assert answer["response"]["status"]["details"]["causes"][0]["field"] == "spec.runStrategy"
        assert (await caller.post("/validate/t0k3n", content=b"nonsense")).status_code == 400
        assert cluster.server is not None
        await told_version(cluster.server.port, await cluster.client.create(KUBEVIRTS, KUBEVIRT))


async def test_the_aggregator_may_start_a_machine_for_a_user_who_may(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.client.create(VMS, vm())
    pair = issue_client(cluster.front, "aggregator", DAY)
    async with started(cluster, tmp_path), cluster.caller(pair) as aggregator:
        answer = await aggregator.put(START, headers=USER)
        assert answer.status_code == 202, answer.text
        denied = await aggregator.put(START, headers=USER | {"X-Remote-User": "bob"})
        assert denied.status_code == 403
        assert 'User "bob" cannot update resource "virtualmachines/start"' in denied.json()["message"]
        assert (await aggregator.put(START)).status_code == 401
        assert cluster.server is not None
        shown = (await shown_by(cluster.server.port, "/metrics")).text
        for code in (202, 403, 401):
            labels = f'code="{code}",resource="virtualmachines/start",verb="PUT"'
            assert f"polyvisor_api_requests_total{{{labels}}} 1.0" in shown
        assert "kubevirt_virt_api_ready_status 1.0" in shown
        for path in ("/apis/subresources.kubevirt.io/v1", "/openapi/v2", "/openapi/v3"):
            assert (await aggregator.get(path, headers=USER)).status_code == 200
            assert (await aggregator.get(path)).status_code == 401
    assert (await cluster.client.get(VMS, "demo", "default"))["spec"]["runStrategy"] == "Always"
    asked = cluster.reviews[0]
    assert (asked["user"], asked["groups"], asked["extra"]) == ("ann", ["admins"], {"scopes": ["a"]})
    assert asked["resourceAttributes"] == {
        "group": "subresources.kubevirt.io",
        "version": "v1",
        "namespace": "default",
        "resource": "virtualmachines",
        "subresource": "start",
        "name": "demo",
        "verb": "update",
    }


async def test_headers_alone_are_not_believed(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path):
        for pair in (None, issue_client(cluster.front, "somebody", DAY)):
            async with cluster.caller(pair) as caller:
                assert (await caller.put(START, headers=USER)).status_code == 401
        async with cluster.caller(issue_client(cluster.ca, "aggregator", DAY)) as foreign:
            with pytest.raises(httpx.TransportError):
                await foreign.put(START, headers=USER)
    assert not cluster.reviews


async def test_a_new_certificate_is_shown_without_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path):
        assert cluster.server is not None

        async def shown() -> bytes:
            context = ssl.create_default_context(cadata=cluster.ca.certificate.decode())
            port = cluster.server.port  # type: ignore[union-attr]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return bytes(found)

        before = await shown()
        await cluster.secret(names.API_SECRET, issue_server(cluster.ca, ["127.0.0.1"], DAY))

        async def renewed() -> bool:
            return await shown() != before

        await eventually(renewed)


async def test_the_least_version_of_tls_is_that_of_the_kubevirt_object(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path):
        assert cluster.server is not None
        port = cluster.server.port
        older = ssl.create_default_context(cadata=cluster.ca.certificate.decode())
        older.maximum_version = ssl.TLSVersion.TLSv1_2

        async def connects() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=older)
            except (ssl.SSLError, ConnectionError):
                return False
            writer.close()
            return True

        assert await connects()
        change = {"spec": {"configuration": {"tlsConfiguration": {"minTLSVersion": "VersionTLS13"}}}}
        await cluster.client.create(KUBEVIRTS, KUBEVIRT | change)

        async def refused() -> bool:
            return not await connects()

        await eventually(refused)


async def test_not_ready_until_there_are_certificates(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path, certificates=False):
        assert cluster.server is not None
        server = cluster.server

        async def waits() -> bool:
            return bool(server.port) and "certificates" in (await shown_by(server.port, "/readyz")).text

        await eventually(waits)
        answer = await shown_by(server.port, "/readyz")
        assert answer.status_code == 503
        assert "kubevirt-virt-api-certs" in answer.text
        assert (await shown_by(server.port, "/livez")).status_code == 200
        assert "polyvisor_admission_reviews_total" in (await shown_by(server.port, "/metrics")).text
        assert (await shown_by(server.port, "/validate/t0k3n")).status_code == 404, "nothing is judged yet"


async def test_an_authority_that_is_taken_away_ends_the_process(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path):
        added = make_authority("another", DAY)
        await cluster.trust(cluster.front, added)

        async def believed() -> bool:
            async with cluster.caller(issue_client(added, "aggregator", DAY)) as caller:
                try:
                    answer = await caller.get("/apis/subresources.kubevirt.io/v1", headers=USER)
                except httpx.TransportError:
                    return False
                return answer.status_code == 200

        await eventually(believed)
        assert cluster.task is not None
        await cluster.trust(added)
        await soon(asyncio.wait([cluster.task]))
        error = cluster.task.exception()
        assert isinstance(error, BaseExceptionGroup)
        assert error.subgroup(Restart)


async def test_strangers_learn_nothing_of_pods_and_fill_no_memory(cluster: Cluster, tmp_path: Path) -> None:
    async with started(cluster, tmp_path), cluster.caller(None) as stranger:
        logs = "/api/v1/namespaces/kube-system/pods/{}/log"
        answers = {(await stranger.get(logs.format(name))).text for name in ("there", "not-there")}
        assert answers == {"Not Found"}
        assert [await announced(cluster, path) for path in ("/validate", "/evict", START)] == [413, 413, 401]
        deep = b"[" * 100_000
        assert (await stranger.post("/validate/t0k3n", content=deep)).status_code == 400
        body = {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u", "operation": "DELETE"}}
        assert (await stranger.post("/evict/t0k3n", json=body)).status_code == 400


async def announced(cluster: Cluster, path: str) -> int:
    """Return the answer to a request that tells of 9 MiB and sends none of them."""
    assert cluster.server is not None
    context = ssl.create_default_context(cadata=cluster.ca.certificate.decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.server.port, ssl=context)
    writer.write(f"PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {9 << 20}\r\n\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return int(line.split()[1])


async def test_webhooks_are_found_by_their_token_alone(cluster: Cluster, tmp_path: Path) -> None:
    body = {"apiVersion": "admission.k8s.io/v1", "request": request(VMS, vm())}
    async with started(cluster, tmp_path), cluster.caller(None) as caller:

        async def codes(*paths: str) -> list[int]:
            return [(await caller.post(path, json=body)).status_code for path in paths]

        ways = ("/mutate", "/validate", "/evict", "/enter")
        assert await codes(*ways, *(f"{way}/" for way in ways), "/mutate/guess", "/mutate/t0k3n/x") == [404] * 10
        assert await codes("/mutate/t0k3n", "/validate/t0k3n") == [200, 200]
        cluster.tokens = ["newer", "t0k3n"]  # as at a change of certificates
        await cluster.secret(names.API_SECRET, issue_server(cluster.ca, ["127.0.0.1"], DAY))

        async def newer_is_taken() -> bool:
            return await codes("/mutate/newer") == [200]

        await eventually(newer_is_taken)
        assert await codes("/mutate/t0k3n") == [200]


@pytest.mark.parametrize(("name", "code"), [("aggregator", 200), ("somebody", 404)])
async def test_a_certificate_that_is_shown_to_a_webhook_has_a_name_that_counts(
    cluster: Cluster, tmp_path: Path, name: str, code: int
) -> None:
    body = {"apiVersion": "admission.k8s.io/v1", "request": request(VMS, vm())}
    async with started(cluster, tmp_path), cluster.caller(issue_client(cluster.front, name, DAY)) as caller:
        assert (await caller.post("/mutate/t0k3n", json=body)).status_code == code
