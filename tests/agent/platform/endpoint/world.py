"""All of a standalone installation but the node's own agent: API server, controllers, scheduler, endpoints' agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.api import Obj
from polyvisor.api.names import KUBEVIRT_NAMESPACE
from polyvisor.api.resources import ENDPOINTS, PODS, SECRETS, VMIS, Resource
from polyvisor.controllers import run_controllers
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Connection, KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.process.serving import WebServer, listen
from polyvisor.server.endpoint_doors import EndpointDoors
from polyvisor.server.subresources import Subresources
from polyvisor.standalone.admission import COMPONENTS, admitter
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.store import Store
from polyvisor.standalone.bootstrap import bootstrap
from polyvisor.standalone.local_node import LocalNode
from polyvisor.standalone.scheduler import run_scheduler
from polyvisor.standalone.volume_binder import run_binder

TOKEN = "a-token"
SECONDS = 60.0


class World:
    """The installation; ``agent`` is None while it is stopped."""

    def __init__(
        self,
        client: KubeClient,
        drivers: DriverRegistry,
        folder: Path,
        images: ImageStore,
        doors: EndpointDoors,
        node: LocalNode,
    ) -> None:
        self.client = client
        self.node = node
        self.doors = doors
        self.kubeconfig = folder / "kubeconfig"
        self.images = images
        self._drivers = drivers
        self._folder = folder
        self.volumes = folder / "volumes"
        self._task: asyncio.Task[None] | None = None
        self.agent: EndpointAgent | None = None

    async def start_agent(self) -> None:
        self.agent = EndpointAgent(
            self.client, self._drivers, self._folder / "e", lambda: self.images, volumes=self.volumes
        )
        self.doors.agent = self.node.endpoints = self.agent
        self._task = asyncio.create_task(self.agent.run(), name="endpoint-agent")

    def write_kubeconfig(self, port: int) -> None:
        """Write what the command line needs to ask this installation."""
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        self.kubeconfig.write_text(json.dumps(found))

    async def stop_agent(self) -> None:
        task, self._task, self.agent = self._task, None, None
        if task is not None and (error := await end_task(task)):
            raise error

    async def add(self, endpoint: Obj, secret: Obj | None = None) -> None:
        """Make an endpoint that takes machines of all namespaces, and wait until it does."""
        endpoint = {**endpoint, "metadata": {"name": endpoint["metadata"]["name"]}}
        endpoint["spec"] = {"allowedNamespaces": {"selector": {}}, **endpoint["spec"]}
        if secret is not None:
            metadata = {key: secret["metadata"][key] for key in ("name", "labels")}
            whole = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]}
            await self.client.create(SECRETS, {**whole, "metadata": {**metadata, "namespace": KUBEVIRT_NAMESPACE}})
        await self.client.create(ENDPOINTS, endpoint)
        await self.until(ENDPOINTS, endpoint["metadata"]["name"], lambda one: condition(one, "Ready") == "True", None)

    async def create(self, name: str, endpoint: str, **spec: Any) -> Obj:
        """Make a machine on an endpoint."""
        hypervisor = {"endpoint": endpoint, "virtType": "qemu", **spec.pop("hypervisor", {})}
        domain = {
            "devices": {},
            "memory": {"guest": "64Mi"},
            "resources": {"requests": {"cpu": "10m"}},
            **spec.pop("domain", {}),
        }
        whole = {"hypervisor": hypervisor, "terminationGracePeriodSeconds": 0, "domain": domain, **spec}
        vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name}}
        metadata = {"name": name, "namespace": "default"}
        return await self.client.create(VMIS, {**vmi, "metadata": metadata, "spec": whole})

    async def delete(self, name: str) -> None:
        await self.client.delete(VMIS, name, "default")

    async def until(
        self,
        resource: Resource,
        name: str,
        holds: Callable[[Obj], bool],
        namespace: str | None = "default",
        seconds: float = SECONDS,
    ) -> Obj:
        """Wait until an object is as wanted."""
        last: Obj = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    items, version = await self.client.list_with_version(resource, namespace)
                    for one in items:
                        if one["metadata"]["name"] == name:
                            last = one
                            if holds(one):
                                return one
                    async for event in self.client.watch(resource, namespace, resource_version=version):
                        if event.object["metadata"].get("name") == name:
                            last = event.object
                            if event.type != "DELETED" and holds(event.object):
                                return event.object
        except TimeoutError:
            pytest.fail(f"{resource.kind} {name} is not as wanted after {seconds:.0f} s: {last}")

    async def running(self, name: str) -> Obj:
        return await self.until(VMIS, name, lambda vmi: phase(vmi) == "Running")

    async def gone(self, name: str, *, pods: bool = True) -> None:
        """Wait until a machine's object is gone, and with ``pods`` the Pods of all machines."""
        async with asyncio.timeout(SECONDS):
            while True:
                there = [one["metadata"]["name"] for one in await self.client.list(VMIS, "default")]
                if name not in there and not (pods and await self.client.list(PODS, "default")):
                    return
                await asyncio.sleep(0.1)  # an object that is gone has no condition to be awaited


def phase(vmi: Obj) -> str:
    return str((vmi.get("status") or {}).get("phase") or "")


def condition(obj: Obj, type_: str) -> str:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((str(one["status"]) for one in found if one["type"] == type_), "")


def reason(obj: Obj, type_: str) -> str:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((str(one.get("reason")) for one in found if one["type"] == type_), "")


@asynccontextmanager
async def installed(folder: Path, drivers: DriverRegistry, images: ImageStore) -> AsyncIterator[World]:
    """Run an installation whose files are below ``folder``."""
    store, doors, node = Store(folder / "db.sqlite"), EndpointDoors(), LocalNode()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with (
        store.opened(),
        KubeClient(Connection(f"http://127.0.0.1:{port}", token=TOKEN)) as client,
    ):
        routes = [*Subresources(client, node, drivers).routes(), *doors.routes()]
        app = create_app(store, {TOKEN: COMPONENTS}, admit=admitter(store, drivers), extra_routes=routes)
        web = WebServer(app, listener)
        await web.start()
        await bootstrap(client)
        ready = asyncio.Event()
        tasks = [
            asyncio.create_task(run_controllers(client, drivers, ready=ready)),
            asyncio.create_task(run_scheduler(client)),
            asyncio.create_task(run_binder(client)),
        ]
        await ready.wait()
        world = World(client, drivers, folder, images, doors, node)
        world.write_kubeconfig(port)
        await world.start_agent()
        try:
            yield world
        finally:
            await world.stop_agent()
            for task in tasks:
                await end_task(task)
            store.end_watches()
            await web.stop()
