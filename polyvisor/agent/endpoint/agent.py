"""All endpoints of an installation: a keeper for each object, and the statuses that they come to."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyvisor.agent import safepath
from polyvisor.agent.endpoint.convertible import Convertible
from polyvisor.agent.endpoint.inventory import Domain
from polyvisor.agent.endpoint.keeper import Keeper, folder_name
from polyvisor.agent.endpoint.plan import Observed, is_managed, status_of
from polyvisor.api import Obj, names
from polyvisor.api.names import EventType
from polyvisor.api.resources import ENDPOINTS, NAMESPACES, SECRETS
from polyvisor.api.times import stamp
from polyvisor.drivers import DriverRegistry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.events import EventRecorder
from polyvisor.kube.informer import Informer

INSTALLATION_NAMESPACE = "kube-system"
"""The namespace whose uid names an installation: every cluster has it and nobody makes it again."""
log = logging.getLogger("polyvisor.endpoints")


class EndpointAgent:
    """Serves all HypervisorEndpoints; ``root`` is a folder of its own."""

    def __init__(self, client: KubeClient, drivers: DriverRegistry, root: Path) -> None:
        self._client = client
        self._drivers = drivers
        self._root = root
        self._endpoints = Informer(client, ENDPOINTS)
        self._secrets = Informer(client, SECRETS, names.KUBEVIRT_NAMESPACE)
        self._events = EventRecorder(client, "endpoint-agent")
        self._keepers: dict[str, Keeper] = {}
        self._convertible: dict[str, tuple[Keeper, Convertible]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._cluster = ""

    async def run(self) -> None:
        """Work until cancelled; connections end then, and nothing changes on the hosts."""
        namespace = await self._client.get(NAMESPACES, INSTALLATION_NAMESPACE)
        self._cluster = namespace["metadata"]["uid"]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._secrets.run(), name="endpoint-secrets")
                group.create_task(self._events.run(), name="endpoint-events")
                await self._secrets.synced()
                self._endpoints.on_change(self._changed)
                self._secrets.on_change(self._secret_changed)
                await asyncio.to_thread(self._sweep)
                group.create_task(self._endpoints.run(), name="endpoints")
        finally:
            await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()), *self._stopping)

    def _sweep(self) -> None:
        """Remove what a former process left: logs of endpoints that are gone, keys of connections that it opened."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self._root.iterdir():
            safepath.remove_path(entry)

    def keeper(self, name: str) -> Keeper | None:
        """Return the keeper of an endpoint, if there is such an endpoint."""
        return self._keepers.get(name)

    def convertible(self, name: str) -> Convertible:
        """Return what judges the domains of an endpoint that there is."""
        keeper = self._keepers[name]
        if name not in self._convertible or self._convertible[name][0] is not keeper:
            self._convertible[name] = keeper, Convertible(keeper, self._drivers)
        return self._convertible[name][1]

    def managed(self, domain: Domain) -> bool:
        """Whether a domain is this installation's."""
        return is_managed(domain, self._cluster)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._end(old)
        if new is None:
            return
        name = new["metadata"]["name"]
        keeper = self._keepers.get(name)
        if keeper is not None:
            keeper.update(new, self._secret(new))
            return
        folder = self._root / folder_name(new)
        keeper = Keeper(folder, self._drivers, lambda seen: self._save(name, seen), self._cluster)
        self._keepers[name] = keeper
        keeper.update(new, self._secret(new))
        keeper.start()

    def _secret_changed(self, old: Obj | None, new: Obj | None) -> None:
        changed = (new or old or {}).get("metadata", {}).get("name")
        for endpoint in self._endpoints.items():
            keeper = self._keepers.get(endpoint["metadata"]["name"])
            if keeper is not None and _secret_name(endpoint) == changed:
                keeper.update(endpoint, new)

    def _secret(self, endpoint: Obj) -> Obj | None:
        return self._secrets.get(names.KUBEVIRT_NAMESPACE, _secret_name(endpoint))

    def _end(self, endpoint: Obj) -> None:
        self._convertible.pop(endpoint["metadata"]["name"], None)
        keeper = self._keepers.pop(endpoint["metadata"]["name"], None)
        if keeper is not None:
            task = asyncio.create_task(self._forget(keeper, self._root / folder_name(endpoint)), name="endpoint-ends")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _forget(self, keeper: Keeper, folder: Path) -> None:
        await keeper.stop()
        with suppress(FileNotFoundError):
            await asyncio.to_thread(safepath.remove_path, folder)

    async def _save(self, name: str, seen: Observed) -> None:
        """Write the status, if it is news; say so by an Event where the endpoint became ready or ceased to be."""
        endpoint = self._endpoints.get(None, name)
        if endpoint is None:
            return
        before: dict[str, Any] = endpoint.get("status") or {}
        status = status_of(endpoint, seen, stamp())
        if {**before, **status} == before:
            return
        try:
            self._endpoints.learn(await self._client.patch(ENDPOINTS, name, {"status": status}, subresource="status"))
        except ApiError as error:
            if not error.not_found:
                raise
            return
        was, now = _ready(before), _ready(status)
        if now.get("reason") != was.get("reason") and now.get("reason") != "Connecting":
            kind = EventType.NORMAL if now.get("status") == "True" else EventType.WARNING
            self._events.event(endpoint, kind, now["reason"], now.get("message", ""))


def _ready(status: Obj) -> Obj:
    return next((one for one in status.get("conditions") or [] if one.get("type") == "Ready"), {})


def _secret_name(endpoint: Obj) -> str:
    return str(((endpoint["spec"].get("credentials") or {}).get("secretRef") or {}).get("name", ""))
