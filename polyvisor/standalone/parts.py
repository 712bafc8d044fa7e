"""The parts of a standalone installation, started one after the other and stopped in reverse.

Each part that works on its own is a task here. None of them is expected to end: one that does takes the process down
with its reason, since a cluster that has lost a controller only looks alive. One that could not reach the API server in
time is begun again. The start takes as long as it takes; meanwhile it tells what it waits for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polyvisor.agent.agent import Agent
from polyvisor.agent.imports.uploads import Uploads
from polyvisor.agent.launchers.processes import Launchers, process_of
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.node.probing import driver_report, told
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.agent.settings import Settings
from polyvisor.api import Obj, node_names
from polyvisor.api.names import KUBEVIRT_NAME, KUBEVIRT_NAMESPACE
from polyvisor.api.reading import read_status
from polyvisor.api.resources import KUBEVIRTS, NODES
from polyvisor.controllers import run_controllers
from polyvisor.controllers.metrics import MachineMetrics
from polyvisor.drivers import registry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.metrics import count_request
from polyvisor.kube.tasks import end_task
from polyvisor.process.health import figures
from polyvisor.process.serving import WebServer, context_of
from polyvisor.process.tls import apply
from polyvisor.server.endpoint_doors import EndpointDoors
from polyvisor.server.subresources import Subresources
from polyvisor.standalone import preflight
from polyvisor.standalone.admission import COMPONENTS, admitter, may_write_status
from polyvisor.standalone.apiserver import create_app
from polyvisor.standalone.apiserver.registry import key_of
from polyvisor.standalone.apiserver.store import Store
from polyvisor.standalone.bootstrap import bootstrap
from polyvisor.standalone.drivers import DriverDoor
from polyvisor.standalone.evictions import PodEvictions
from polyvisor.standalone.failure import StartError
from polyvisor.standalone.identity import ensure_identity, write_kubeconfig
from polyvisor.standalone.last_logs import LastLogs
from polyvisor.standalone.lasting import until_done
from polyvisor.standalone.local_node import LocalNode
from polyvisor.standalone.progress import Progress
from polyvisor.standalone.scheduler import run_scheduler
from polyvisor.standalone.state import BRIDGE, StateFolder
from polyvisor.standalone.uploads import UploadDoors
from polyvisor.standalone.volume_binder import run_binder

logger = logging.getLogger(__name__)
TELL_SECONDS = 2.0


class Parts:
    """Everything that runs in the process."""

    def __init__(self, state: StateFolder, listener: socket.socket, url: str, progress: Progress) -> None:
        self._state = StateFolder(state.root.resolve())  # below it no link is followed
        self._listener = listener
        self._url = url
        self._progress = progress
        self._ready = False
        self._drivers = registry()
        for problem in self._drivers.problems:
            logger.warning(problem)
        self._node = LocalNode()
        self._endpoints = EndpointDoors()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._store: Store | None = None
        self._web: WebServer | None = None
        self._client: KubeClient | None = None
        self._agent: Agent | None = None

    async def start(self) -> None:
        """Start all parts; returns when the Node is Ready."""
        client = await self._start_api()
        self._progress.step("controllers", "starting controllers and scheduler")
        await until_done("bootstrap", lambda: bootstrap(client, self._url))
        ready = asyncio.Event()
        self._run("controllers", lambda: run_controllers(client, self._drivers, ready=ready, measure=MachineMetrics))
        self._run("scheduler", lambda: run_scheduler(client))
        self._run("volumes", lambda: run_binder(client))
        await self._or_failed(ready.wait(), lambda: "")
        self._progress.done("controllers", "Controllers and scheduler run")
        self._progress.step("node", "trying the hypervisor drivers (the first time may take a while)")
        settings = Settings.of(self._state.root, imports=True, bridged=self._state.network == BRIDGE)
        self._run("agent", lambda: self._run_agent(client, settings))
        self._run("endpoints", lambda: self._run_endpoints(client))
        shown = until_done("node", lambda: self._watch_node(client, settings.node_name))
        await self._or_failed(shown, self._awaited)
        self._ready = True

    async def _start_api(self) -> KubeClient:
        port = self._listener.getsockname()[1]
        self._progress.step("api", "starting the API server")
        identity = await asyncio.to_thread(ensure_identity, self._state.root)
        self._store = Store(self._state.database)
        await self._store.open()
        write_kubeconfig(self._state.kubeconfig, identity, port)
        ours = secrets.token_urlsafe(32)
        connection = replace(from_kubeconfig(self._state.kubeconfig), token=ours)
        self._client = client = KubeClient(connection, observe=count_request)
        subresources = Subresources(client, self._node, self._drivers)
        app = create_app(
            self._store,
            {identity.token: "polyvisor:admin", ours: COMPONENTS},
            admit=admitter(self._store, self._drivers),
            extra_routes=[
                *subresources.routes(),
                *subresources.pod_logs(),
                *PodEvictions(client, self._configuration).routes(),
                *LastLogs(client, self._node).routes(),
                *UploadDoors(self._uploads).routes(),
                *self._endpoints.routes(),
                *DriverDoor(lambda: self._agent.node if self._agent is not None else None).routes(),
                Route("/metrics", self._figures, methods=["GET"]),
            ],
            ready=lambda: self._ready,
            may_write_status=may_write_status,
        )
        tls = context_of(identity.cert, identity.key)
        apply(tls, self._configuration())
        self._web = WebServer(app, self._listener, tls)
        await self._web.start()
        self._progress.done("api", f"API server on {self._url}")
        return client

    async def _run_agent(self, client: KubeClient, settings: Settings) -> None:
        self._agent = self._node.agent = Agent(client, self._drivers, settings)
        await self._agent.run()

    async def _run_endpoints(self, client: KubeClient) -> None:
        images = lambda: self._agent.images if self._agent is not None else None  # noqa: E731
        address = self._agent.node.address if self._agent is not None else preflight.HOST
        volumes = self._state.root / "volumes"
        agent = EndpointAgent(client, self._drivers, self._state.endpoints, images, address, volumes=volumes)
        if self._agent is not None:
            self._agent.fetch = agent.fetch
            self._agent.statistics.beside = agent.figures
        self._endpoints.agent = self._node.endpoints = agent
        await agent.run()

    def _awaited(self) -> str:
        """Say which drivers are being tried, and for how long."""
        awaited = self._agent.node.prober.awaited() if self._agent is not None else {}
        named = ", ".join(f"{title} ({seconds:.0f} s)" for title, seconds in awaited.items())
        return f"trying the hypervisor drivers: {named}" if named else ""

    def _configuration(self) -> Obj:
        found = self._store.get(*key_of(KUBEVIRTS, KUBEVIRT_NAMESPACE, KUBEVIRT_NAME)) if self._store else None
        return (found or {}).get("spec", {}).get("configuration") or {}

    async def _uploads(self, namespace: str, name: str) -> Uploads | None:
        """Return what takes an upload into a claim: the agent of this machine, or that of hosts."""
        if self._agent is None or self._agent.importing is None:
            return None
        afar = self._endpoints.agent.importing.uploads if self._endpoints.agent is not None else None
        return afar if afar is not None and await afar.has(namespace, name) else self._agent.importing.uploads

    async def _figures(self, _: Request) -> Response:
        """Show the figures of all parts; whoever may ask the API server may see them."""
        return await figures([self._agent.statistics.refresh] if self._agent is not None else [])

    async def _or_failed(self, wait: Coroutine[Any, Any, Any], awaited: Callable[[], str]) -> None:
        """Wait for something, but not when a part that it depends on has ended; tell what is awaited meanwhile."""
        waiting = asyncio.create_task(wait)
        failed = asyncio.create_task(self.failed())
        try:
            both = [waiting, failed]
            while not (await asyncio.wait(both, timeout=TELL_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
                self._progress.waiting(awaited())
            if failed.done():
                failed.result()
            waiting.result()
        finally:
            waiting.cancel()
            failed.cancel()

    async def _watch_node(self, client: KubeClient, name: str) -> None:
        version: str | None = None
        while True:
            nodes, version = await client.list_with_version(NODES)
            if any(self._tell_node(node) for node in nodes if node["metadata"]["name"] == name):
                return
            async for event in client.watch(NODES, resource_version=version):
                node = event.object
                if event.type in ("ADDED", "MODIFIED") and node["metadata"]["name"] == name and self._tell_node(node):
                    return

    def _tell_node(self, node: Obj) -> bool:
        conditions = read_status(node).get("conditions") or []
        probed = node_names.DRIVERS_ANNOTATION in (node["metadata"].get("annotations") or {})
        if not (probed and any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)):
            return False
        for key, said, works in told(driver_report(node)):
            self._progress.done(key, said, works)
        self._progress.done("node", f"Node {node['metadata']['name']} is Ready")
        return True

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(until_done(name, work), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended.put_nowait(name))

    async def failed(self) -> None:
        """Return never, or raise when a part has ended that should not."""
        name = await self._ended.get()
        task = self._tasks[name]
        error = None if task.cancelled() else task.exception()
        raise StartError(f"the {name} part has ended: {error!r}", f"See {self._state.log}.") from error

    async def stop(self, drain: bool, hurry: asyncio.Future[Any]) -> None:
        """Stop all parts; with ``drain`` guests are shut down first, unless ``hurry`` says not to wait."""
        for name in ("controllers", "scheduler", "volumes"):
            await self._end(name)
        if drain and self._agent is not None:
            draining = asyncio.create_task(self._agent.drain(), name="drain")
            await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
            if error := await end_task(draining):
                logger.error("not all guests could be shut down", exc_info=error)
        await self._end("endpoints")
        await self._end("agent")
        if drain:
            await self._end_launchers()
        if self._client is not None:
            await self._client.aclose()  # before the server, which waits for its connections to close
        if self._web is not None:
            if self._store is not None:
                self._store.end_watches()
            await self._web.stop()
        if self._store is not None:
            await self._store.close()

    async def _end_launchers(self) -> None:
        """End the launchers whose machine is over or was never started; what they know stays in their folders."""
        networks = self._agent.networks if self._agent is not None else None
        confinement = self._agent.confinement if self._agent is not None else None
        launchers = Launchers(self._state.launchers, lambda _: None, networks, confinement)
        for id_ in launchers.ids():
            if not process_of(launchers.folder(id_)):
                continue
            try:
                if not (await launchers.ensure(id_)).active:
                    await launchers.quit(id_)
            except LauncherError as error:
                logger.error("launcher %s was left: %s", id_, error)
        await launchers.close()
        if networks is not None:
            await networks.sweep({id_ for id_ in launchers.ids() if launchers.may_run(id_)})
            await networks.close()

    async def _end(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is None:
            return
        if error := await end_task(task):
            logger.error("the %s part ended with %r", name, error)
