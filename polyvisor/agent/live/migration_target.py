"""The target's side of a live migration: what the agent of the source's node asks of this one.

Any node's agent may ask, so nothing is believed but what the instance's object says: this node is the target of that
very migration, and the Pod is the one that the controller recorded. The guest goes on here only once the API server has
that the migration is complete; a target whose migration failed is destroyed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from polyvisor.agent.errors import AgentError
from polyvisor.agent.launchers.launcher_pods import pod_id, recorded
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.link.descriptors import ask_for_socket
from polyvisor.agent.link.streams import Stream
from polyvisor.agent.live.movable import copied
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.api.conditions import has_condition
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.migrations import is_committed, is_moving, job_of, runs_in, state_of
from polyvisor.api.names import COMPUTE_CONTAINER, CONSOLE_CONTAINER, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS
from polyvisor.domain.moved import NotAlike, moved
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.kube import ApiError, Informer, KubeClient

START_SECONDS = 120.0
STREAMS = {"state": "incoming", "disk": "incoming-disk"}
"""Streams of a migration, and the launcher's word for them."""
NOT_HERE = "this node is not the target of that migration"
Rendered = Callable[[Obj, Obj, Link, Driver], Awaitable[str]]
"""Makes a machine ready in its Pod and returns its domain's XML: (instance, Pod, link, driver)."""


class Target:
    """Answers the source's agent. ``rendered`` is the machines' agent's."""

    def __init__(
        self,
        client: KubeClient,
        registry: DriverRegistry,
        launchers: Launchers,
        pods: Informer,
        node_name: str,
        rendered: Rendered,
    ) -> None:
        self._client = client
        self._registry = registry
        self._launchers = launchers
        self._pods = pods
        self._node_name = node_name
        self._rendered = rendered

    async def ask(self, namespace: str, name: str, uid: str, step: str, **arguments: object) -> Obj:
        """Take a step of a migration: ``prepare`` with the running domain's ``xml``, ``state``, ``resume``."""
        vmi, pod = await self._here(namespace, name, uid)
        link = self._launchers.get(pod_id(pod))
        if link is None:
            raise LauncherGone("the target's launcher is not connected yet")
        if step == "prepare":
            await self._prepare(vmi, pod, link, str(arguments.get("xml") or ""), arguments.get("images"))
        elif step == "resume":
            await self.settle(vmi, pod, link)
        elif step != "state":
            raise LauncherError(f"unknown step {step!r}")
        return {key: link.state[key] for key in ("state", "moving") if key in link.state}

    async def open(self, namespace: str, name: str, uid: str, stream: str) -> Stream:
        """Open the stream into which the guest's ``state`` is to be written, or what it wrote to a ``disk``."""
        vmi, pod = await self._here(namespace, name, uid)
        link = self._launchers.get(pod_id(pod))
        if link is None or not is_moving(vmi):
            raise LauncherError("the target takes no state now")
        if stream not in STREAMS:
            raise LauncherError(f"unknown stream {stream!r}")
        connection = await ask_for_socket(link.path, STREAMS[stream])
        return Stream(*await asyncio.open_connection(sock=connection))

    async def settle(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """Let the guest of a migration that is complete go on, or destroy the domain of one that failed.

        Returns whether this Pod is none of its machine's any more, so that its launcher is to end.
        """
        ours = state_of(vmi).get("migrationUid") == job_of(pod)
        if ours and is_committed(vmi):
            waits = link.state.get("moving") == "received" and link.state.get("state") == "paused"
            if waits and not has_condition(vmi.get("status") or {}, VmiCondition.PAUSED):
                await link.request("resume")
            return False
        if runs_in(pod, vmi) or (ours and is_moving(vmi)):
            return False
        if link.active:
            await link.request("destroy")
        return True

    async def _prepare(self, vmi: Obj, pod: Obj, link: Link, running: str, images: object) -> None:
        if not is_moving(vmi):
            raise LauncherError("the migration has ended")
        driver = self._registry.get(made_for(pod))
        if driver is None:
            raise LauncherError(f"there is no driver {made_for(pod)!r} here")
        if other := other_images(images_of(pod), images):
            raise LauncherError(f"the target cannot be made ready: the image of {other} is another one on this node")
        async with self._launchers.lock(pod_id(pod)):
            if link.state.get("moving"):
                return
            try:
                rendered = await self._rendered(vmi, pod, link, driver)
                machine = VirtualMachineInstance.model_validate(vmi)
                xml = await asyncio.to_thread(moved, running, rendered, machine, driver)
            except (AgentError, NotAlike) as error:
                raise LauncherError(f"the target cannot be made ready: {error}") from None
            disks = [f"ua-{name}" for name in copied(vmi)]
            await link.request("receive", seconds=START_SECONDS, xml=xml, disks=disks)

    async def _here(self, namespace: str, name: str, uid: str) -> tuple[Obj, Obj]:
        """Return the instance, as the API server has it now, and its target's Pod on this node."""
        try:
            vmi = await self._client.get(VMIS, name, namespace)
        except ApiError as error:
            raise LauncherError(f"the instance cannot be read: {error}") from None
        state = state_of(vmi)
        if not uid or state.get("migrationUid") != uid or state.get("targetNode") != self._node_name:
            raise LauncherError(NOT_HERE)
        for pod in self._pods.by_index("owner", vmi["metadata"]["uid"]):
            if job_of(pod) == uid and recorded(pod, vmi):
                return vmi, pod
        raise LauncherGone("the target's Pod is not seen on this node yet")


def images_of(pod: Obj) -> dict[str, str]:
    """Return the images of a machine's volumes, as a node knows them, by the containers that hold them."""
    found = read_status(pod).get("containerStatuses") or []
    own = (COMPUTE_CONTAINER, CONSOLE_CONTAINER)
    return {one["name"]: one["imageID"] for one in found if one.get("imageID") and one["name"] not in own}


def other_images(here: dict[str, str], there: object) -> str:
    """Return the container whose image differs on both nodes, empty if none does that is known on both."""
    known = there if isinstance(there, dict) else {}
    return next((name for name, image in here.items() if known.get(name) not in (None, image)), "")
