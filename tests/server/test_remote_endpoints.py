"""What virt-api passes on to the agent of an endpoint: over TLS both ways, to the agent of that endpoint alone."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from polyvisor.agent.serving import application
from polyvisor.api import names
from polyvisor.api.endpoint_names import ENDPOINT_APP
from polyvisor.api.resources import PODS
from polyvisor.kube import KubeClient
from polyvisor.process import handlers
from polyvisor.process.certificates import issue_client, issue_server, make_authority
from polyvisor.process.pairs import load_pair
from polyvisor.process.serving import WebServer, listen
from polyvisor.server.remote_endpoints import RemoteEndpoints
from tests.cluster import running

BASE = "/apis/subresources.kubevirt.io/v1/hypervisorendpoints"
DAY = timedelta(days=1)
AUTHORITY = make_authority("ours", DAY)


@asynccontextmanager
async def agent(app: str = ENDPOINT_APP) -> AsyncIterator[int]:
    """Serve as an agent of that role; give the port."""

    async def told(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "query": request.url.query}, 203)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=AUTHORITY.certificate.decode())
    load_pair(context, issue_server(AUTHORITY, (app,), DAY))
    routes = [Route(f"{BASE}/{{rest:path}}", told)]
    with listen("127.0.0.1", 0) as listener:
        web = WebServer(application(None, routes), listener, context)  # type: ignore[arg-type]
        await web.start()
        try:
            yield web.port
        finally:
            await web.stop()


async def pod(client: KubeClient, endpoint: str) -> None:
    labels = {"kubevirt.io": ENDPOINT_APP, "hypervisor.kubevirt.io/endpoint": endpoint}
    metadata = {"name": f"virt-endpoint-{endpoint}", "namespace": "kubevirt", "labels": labels}
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    await client.patch(PODS, metadata["name"], {"status": {"podIP": "127.0.0.1"}}, "kubevirt", subresource="status")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with running(tmp_path) as found:
        await pod(found, "rack4")
        yield found


async def ask(client: KubeClient, path: str, port: int, name: str = names.API_CLIENT_NAME) -> httpx.Response:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=AUTHORITY.certificate.decode())
    load_pair(context, issue_client(AUTHORITY, name, DAY))
    app = Starlette(routes=RemoteEndpoints(client, "kubevirt", context, port).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://virt-api") as web:
        return await web.get(f"{BASE}/{path}")


@pytest.mark.parametrize("path", ["rack4/domains", "rack4/domains/a%20name", "rack4/pools", "rack4/adoption"])
async def test_an_answer_comes_back_as_it_is(client: KubeClient, path: str) -> None:
    async with agent() as port:
        answer = await ask(client, f"{path}?domain=web&name=x", port)
    wanted = {"path": f"{BASE}/{path}".replace("%20", " "), "query": "domain=web&name=x"}
    assert (answer.status_code, answer.json()) == (203, wanted)


async def test_an_answer_without_end_is_not_read(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host of an endpoint, or a node, may be somebody else's by now."""
    monkeypatch.setattr(handlers, "MAX_ANSWER", 10)
    async with agent() as port:
        answer = await ask(client, "rack4/domains", port)
    assert answer.status_code == 502
    assert "answers with more than 10 bytes" in answer.json()["message"]


async def test_an_endpoint_without_an_agent_is_said(client: KubeClient) -> None:
    async with agent() as port:
        answer = await ask(client, "rack5/domains", port)
    assert answer.status_code == 503
    assert "no virt-endpoint runs for endpoint rack5" in answer.json()["message"]


async def test_who_is_no_agent_of_endpoints_is_not_believed(client: KubeClient) -> None:
    async with agent(names.HANDLER_APP) as port:
        answer = await ask(client, "rack4/domains", port)
    assert answer.status_code == 503
    assert "the agent of endpoint rack4 cannot be reached" in answer.json()["message"]


async def test_an_agent_answers_virt_api_alone(client: KubeClient) -> None:
    async with agent() as port:
        answer = await ask(client, "rack4/domains", port, "somebody")
    assert answer.status_code == 403


async def test_other_doors_are_not_there(client: KubeClient) -> None:
    async with agent() as port:
        assert (await ask(client, "rack4/secrets", port)).status_code == 404
