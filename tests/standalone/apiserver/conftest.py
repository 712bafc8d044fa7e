"""A real server on loopback for each test that wants one, and real kubectl as its client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyvisor.api.problems import Problem
from polyvisor.api.resources import Resource
from polyvisor.process.serving import serve
from polyvisor.standalone.apiserver import Store, create_app
from polyvisor.standalone.identity import Identity, ensure_identity, write_kubeconfig

Obj = dict[str, Any]
KUBECTL = Path(sys.executable).with_name("kubectl")


@dataclass
class Hook:
    """An admit hook that a test can set."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    change: Callable[[Obj], Obj] = lambda obj: obj
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, operation: str, resource: Resource, obj: Obj, old: Obj | None) -> tuple[Obj, Any, Any]:
        self.calls.append((operation, resource.plural))
        if not resource.custom:
            return obj, [], []
        return self.change(obj), self.problems, self.warnings


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Running:
    """A server, with clients for it."""

    store: Store
    client: httpx.AsyncClient
    hook: Hook
    kubeconfig: Path
    port: int

    async def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> Done:
        process = await self.spawn(*args, stdin=stdin is not None)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin else None), 60)
        done = Done(process.returncode or 0, out.decode(), err.decode())
        assert not check or done.code == 0, f"kubectl {' '.join(args)}: {done.err}"
        return done

    async def spawn(self, *args: str, stdin: bool = False) -> asyncio.subprocess.Process:
        home = self.kubeconfig.parent
        return await asyncio.create_subprocess_exec(
            *(KUBECTL, f"--cache-dir={home}/cache", *args),
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(home)},
        )

    async def json(self, *args: str) -> Obj:
        found: Obj = json.loads((await self.kubectl(*args, "-o", "json")).out)
        return found

    async def post(self, path: str, obj: Obj, **kwargs: Any) -> Obj:
        answer = await self.client.post(path, json=obj, **kwargs)
        assert answer.status_code == 201, answer.text
        found: Obj = answer.json()
        return found

    async def gone(self, path: str) -> None:
        """Wait until nothing is at a path."""
        collection, name = path.rsplit("/", 1)
        async with asyncio.timeout(10):
            url = f"{collection}?watch=1&fieldSelector=metadata.name={name}"
            async with self.client.stream("GET", url, timeout=None) as stream:
                if (await self.client.get(path)).status_code == 404:
                    return
                async for line in stream.aiter_lines():
                    if json.loads(line)["type"] == "DELETED":
                        break
        assert (await self.client.get(path)).status_code == 404

    @contextlib.asynccontextmanager
    async def watch(self, url: str) -> AsyncIterator[Callable[[], Any]]:
        """Watch a URL; the value reads the next event."""
        async with self.client.stream("GET", url, timeout=None) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()

            async def read() -> Any:
                async with asyncio.timeout(10):
                    return json.loads(await anext(lines))

            yield read


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return ensure_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "db.sqlite").opened() as opened:
        yield opened


@pytest.fixture
async def server(store: Store, identity: Identity, tmp_path: Path) -> AsyncIterator[Running]:
    hook = Hook()
    app = create_app(store, {identity.token: "admin"}, hook)
    async with serve(app, cert=identity.cert, key=identity.key) as running:
        kubeconfig = tmp_path / "kubeconfig"
        write_kubeconfig(kubeconfig, identity, running.port)
        context = ssl.create_default_context(cafile=str(identity.ca))
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{running.port}",
            headers={"authorization": f"Bearer {identity.token}"},
            verify=context,
            timeout=10,
        ) as client:
            yield Running(store, client, hook, kubeconfig, running.port)


VMI = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
VM = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
PODS = "/api/v1/namespaces/default/pods"
MERGE = {"content-type": "application/merge-patch+json"}
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def vmi(name: str, **metadata: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, **metadata},
        "spec": {"domain": {"devices": {}, "resources": {"requests": {"memory": "64Mi"}}}},
    }


def pod(name: str, **metadata: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "compute", "image": "none"}]},
    }


def configmap(name: str, data: dict[str, str] | None = None, **metadata: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}


def is_status(answer: httpx.Response, code: int, reason: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["kind"], body["code"]) == (code, "Status", code), answer.text
    assert (body["status"], body["reason"]) == ("Failure", reason)
    message: str = body["message"]
    return message
