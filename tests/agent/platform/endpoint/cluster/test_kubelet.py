"""What the kubelet's port of an endpoint's agent answers, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from polyvisor.agent.platform.endpoint.cluster import kubelet
from polyvisor.agent.platform.endpoint.cluster.kubelet import KubeletPort
from polyvisor.kube import KubeClient
from tests.cluster import running

Obj = dict[str, Any]
LOG = "/containerLogs/default/virt-launcher-m/guest-console-log"
API_SERVER = {"peer": "kube-apiserver-kubelet-client", "peer_groups": ["kubelets-clients"]}
POD = {
    "metadata": {"name": "virt-launcher-m"},
    "spec": {"containers": [{"name": "compute"}, {"name": "guest-console-log"}]},
}


class Agent:
    def pod(self, namespace: str, name: str) -> Obj | None:
        return POD if (namespace, name) == ("default", "virt-launcher-m") else None

    def keeper(self, name: str) -> object:
        return object()


class Access:
    def __init__(self, *_: object) -> None:
        pass

    async def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        yield f"{container} {follow} {tail} ".encode()
        yield b"more"


class Judge:
    """Plays the API server, which is asked who may."""

    def __init__(self) -> None:
        self.asked: list[Obj] = []

    def routes(self) -> list[Route]:
        return [
            Route("/apis/authentication.k8s.io/v1/tokenreviews", self._token, methods=["POST"]),
            Route("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._access, methods=["POST"]),
        ]

    async def _token(self, request: Request) -> JSONResponse:
        known = (await request.json())["spec"]["token"] == "known"
        return JSONResponse({"status": {"authenticated": known, "user": {"username": "alice"}}}, 201)

    async def _access(self, request: Request) -> JSONResponse:
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        return JSONResponse({"status": {"allowed": "kubelets-clients" in spec["groups"]}}, 201)


class Connected:
    """Gives an application the state of a connection."""

    def __init__(self, app: ASGIApp, state: Obj) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": dict(self._state)}, receive, send)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
async def client(tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    monkeypatch.setattr(kubelet, "EndpointAccess", Access)
    async with running(tmp_path, extra_routes=judge.routes()) as found:
        yield found


async def ask(client: KubeClient, path: str, state: Obj | None = None, **headers: str) -> httpx.Response:
    port = KubeletPort(Agent(), client, "rack4", "endpoint-rack4")  # type: ignore[arg-type]
    transport = httpx.ASGITransport(Connected(port.application(), {"peer": ""} if state is None else state))
    async with httpx.AsyncClient(transport=transport, base_url="https://node") as web:
        return await web.get(path, headers=headers)


async def test_the_api_server_reads_the_console(client: KubeClient, judge: Judge) -> None:
    answer = await ask(client, f"{LOG}?tailLines=5&limitBytes=30&follow=true", API_SERVER)
    assert answer.text == "guest-console-log True 5 more"
    (asked,) = judge.asked
    assert asked["user"] == "kube-apiserver-kubelet-client"
    assert asked["resourceAttributes"] == {
        "verb": "get",
        "version": "v1",
        "resource": "nodes",
        "subresource": "proxy",
        "name": "endpoint-rack4",
    }
    cut = await ask(client, f"{LOG}?limitBytes=8", API_SERVER)
    assert cut.text == "guest-co"


@pytest.mark.parametrize(
    ("state", "headers", "code"),
    [
        ({"peer": ""}, {}, 401),
        ({"peer": ""}, {"authorization": "Bearer unknown"}, 401),
        ({"peer": ""}, {"authorization": "Bearer known"}, 403),
        ({"peer": "system:node:node1", "peer_groups": ["system:nodes"]}, {}, 403),
    ],
)
async def test_others_read_nothing(client: KubeClient, state: Obj, headers: Obj, code: int) -> None:
    answer = await ask(client, LOG, state, **headers)
    assert answer.status_code == code
    assert "guest-console" not in answer.text
    assert (await ask(client, "/exec/default/virt-launcher-m/compute", state, **headers)).status_code == code


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/containerLogs/default/virt-launcher-m/compute", 200, "no container runs in this Pod"),
        ("/containerLogs/default/virt-launcher-m/other", 404, "there is no Pod"),
        ("/containerLogs/other/virt-launcher-m/compute", 404, "there is no Pod"),
        (f"{LOG}?timestamps=true", 400, "timestamps is not supported"),
        (f"{LOG}?previous=true", 400, "previous is not supported"),
        ("/exec/default/virt-launcher-m/compute", 501, "no container runs in this Pod"),
        ("/stats/summary", 501, "no container runs in this Pod"),
    ],
)
async def test_what_is_not_there(client: KubeClient, path: str, code: int, said: str) -> None:
    answer = await ask(client, path, API_SERVER)
    assert (answer.status_code, said in answer.text) == (code, True)
