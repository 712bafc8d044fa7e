"""An embedded API server on a free loopback port, for tests that need a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from polyvisor.api import Obj
from polyvisor.kube import Connection, KubeClient
from polyvisor.process.serving import serve
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.registry import Admit, admit_all
from polyvisor.standalone.apiserver.store import Store

TOKEN = "test-token"


@asynccontextmanager
async def running(
    folder: Path, admit: Admit = admit_all, extra_routes: Sequence[BaseRoute] = ()
) -> AsyncIterator[KubeClient]:
    """Serve from a database in ``folder`` and give a client of it."""
    store = Store(folder / "db.sqlite")
    async with store.opened(), serve(create_app(store, {TOKEN: "admin"}, admit, extra_routes)) as server:
        connection = Connection(f"http://127.0.0.1:{server.port}", token=TOKEN)
        async with KubeClient(connection) as client:
            yield client


KUBEVIRT = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "KubeVirt",
    "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
    "spec": {},
}


async def shown_by(port: int, path: str, token: str = "") -> httpx.Response:
    """Ask a process by TLS, whatever its certificate, as a kubelet does."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(trust_env=False, verify=False) as web:
        return await web.get(f"https://127.0.0.1:{port}{path}", headers=headers)


def reading(allowed: str = TOKEN) -> list[Route]:
    """Return the routes by which an API server takes one token for one that may read figures."""

    async def token(asked: Request) -> JSONResponse:
        known = (await asked.json())["spec"]["token"] == allowed
        return JSONResponse({"status": {"authenticated": known, "user": {"username": "scraper"}}}, 201)

    async def access(asked: Request) -> JSONResponse:
        return JSONResponse({"status": {"allowed": (await asked.json())["spec"]["user"] == "scraper"}}, 201)

    return [
        Route("/apis/authentication.k8s.io/v1/tokenreviews", token, methods=["POST"]),
        Route("/apis/authorization.k8s.io/v1/subjectaccessreviews", access, methods=["POST"]),
    ]


async def told_version(port: int, kubevirt: Obj) -> None:
    """Wait until a process tells by TLS, as KubeVirt's do, that it has seen the KubeVirt object."""
    wanted = int(kubevirt["metadata"]["resourceVersion"])
    async with httpx.AsyncClient(trust_env=False, verify=False) as web, asyncio.timeout(30):
        while True:
            answer = (await web.get(f"https://127.0.0.1:{port}//healthz")).json()
            if int(answer["config-resource-version"] or 0) >= wanted:
                return
            await asyncio.sleep(0.05)
