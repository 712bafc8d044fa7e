"""Launchers that Kubernetes starts: each in its Pod, with its folder an ``emptyDir`` that the kubelet shows the host.

The folder belongs to the launcher, who may be taken over by its guest. So nothing in it is believed: the plan is put
there through the folder's descriptor, the socket is opened as what it is (a link in its place is not followed, see
:mod:`.link`), and who listens is believed because the kernel says that it is a process of that very Pod. Nothing else
is read from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.processes import PROTOCOL, SOCKET, Launchers, folder_id
from polyvisor.agent.link.connection import LauncherGone, Link
from polyvisor.agent.network.pods import Networks
from polyvisor.api.names import LAUNCHER_FOLDER, LAUNCHER_VOLUME
from polyvisor.drivers.base import LauncherPlan

EMPTY_DIRS = "volumes/kubernetes.io~empty-dir"


class PodLaunchers(Launchers):
    """Owns the links. ``uid_of`` gives the uid of the Pod with an id, empty if there is none any more."""

    def __init__(
        self, root: Path, changed: Callable[[str], None], uid_of: Callable[[str], str], networks: Networks | None = None
    ) -> None:
        super().__init__(root, changed, networks)
        self._uid_of = uid_of
        self._plans: dict[str, dict[str, Any]] = {}

    def folder(self, id_: str) -> Path:
        """Return a launcher's folder as this process sees it."""
        return self.root / (self._uid_of(id_) or "gone") / EMPTY_DIRS / LAUNCHER_VOLUME

    def inside(self, id_: str) -> Path:
        """Return where a launcher finds its folder in its Pod."""
        return Path(LAUNCHER_FOLDER)

    def ids(self) -> list[str]:
        """Return the ids of the launchers that were given a plan."""
        return sorted(self._plans)

    def known(self, id_: str) -> dict[str, Any]:
        """Return the plan that a launcher was given, from memory: what lies in its folder is not read."""
        return self._plans.get(id_, {})

    def exists(self, id_: str) -> bool:
        """Whether there may be a domain: whether somebody listens."""
        return self.get(id_) is not None

    def is_made(self, id_: str) -> bool:
        """Whether the kubelet has made a launcher's folder."""
        return self.folder(id_).is_dir()

    def listens(self, id_: str) -> bool:
        """Whether there is something by the name of a launcher's socket; who it is shows when it is connected to."""
        return os.path.lexists(self.folder(id_) / SOCKET)

    def over(self, pod_uid: str) -> bool:
        """Whether a Pod's containers are gone: the launcher has let go, and the kubelet has cleared the Pod away."""
        return self.get(folder_id(pod_uid)) is None and not (self.root / pod_uid).exists()

    def write_plan(self, id_: str, plan: LauncherPlan, *, name: str, uuid: str, driver: str) -> None:
        """Put the plan into the folder for the launcher, who waits for it. A launcher that has one keeps it."""
        data = {**asdict(plan), "protocol": PROTOCOL, "driver": driver, "domain": {"name": name, "uuid": uuid}}
        names = [*self.folder(id_).relative_to(self.root).parts]
        try:
            with safepath.opened_root(self.root) as root, safepath.walk(root, names) as folder:
                safepath.put(folder, "plan.json", json.dumps(data).encode())
        except FileNotFoundError as error:
            raise LauncherGone(f"the folder of launcher {id_} is not there: {error}") from error
        self._plans[id_] = {**data, "files": {}}  # which are large, and nobody asks for

    async def retire(self, id_: str) -> None:
        """Let go of a launcher whose Pod is over.

        If the object was deleted by force, the guest still runs, and its machine may be started elsewhere as soon as
        it is gone: it ends now, not when the kubelet's patience does.
        """
        link = self.get(id_)
        if link is not None and link.active:
            with suppress(LauncherGone):
                await link.request("destroy")
        await self.quit(id_)
        await self.networks.release(id_)
        self._plans.pop(id_, None)
        self._locks.pop(id_, None)
        self._connecting.pop(id_, None)

    async def quit(self, id_: str) -> None:
        """End the launcher of a machine that is over, and with it the Pod's container."""
        link = self.get(id_)
        if link is not None:
            with suppress(LauncherGone):
                await link.request("quit")
            await link.close()
        self._links.pop(id_, None)

    async def _found_or_started(self, id_: str) -> Link:
        return await Link.connect(self.folder(id_) / SOCKET, lambda: self.changed(id_))

    def _kill(self, id_: str) -> None:
        """Ending the container of a launcher that hangs is the kubelet's part."""
