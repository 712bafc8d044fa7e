"""The machines of a real node, whose images, claims and texts are containers and volumes of their launcher Pods.

Disks are made as on any node (:mod:`.storage`), from what :mod:`.pod_sources` finds. What isn't obvious: virt-handler
has no right to read users' Secrets and ConfigMaps; it reads them where the kubelet put them for the Pod.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent import safepath, storage
from polyvisor.agent.errors import AgentError, UnsafePath, translated
from polyvisor.agent.link import LauncherGone
from polyvisor.agent.pod_launchers import EMPTY_DIRS
from polyvisor.agent.pod_sources import Launcher, PodPlaces, hand_over
from polyvisor.agent.storage import Inputs, Prepared
from polyvisor.agent.virtual_node import pod_id
from polyvisor.agent.vmi import MachineAgent
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import pod_volume
from polyvisor.api.names import MACHINE_VOLUME
from polyvisor.drivers.base import Driver

KUBELETS = {"secret": "kubernetes.io~secret", "configMap": "kubernetes.io~configmap"}
"""Kind of a Pod's volume, and the folder in which the kubelet keeps such volumes."""
PROJECTED = "kubernetes.io~projected"
MAX_TEXTS = 16 * 1024 * 1024


class PodMachineAgent(MachineAgent):
    """Reconciles the VMIs whose launchers run in Pods."""

    plugs = False
    own_claims = False

    async def _prepare(self, vmi: Obj, pod: Obj, driver: Driver) -> Prepared:
        link = self._launchers.get(pod_id(pod))
        if link is None:
            raise LauncherGone("the launcher has ended")
        inputs = await self._inputs(vmi, pod)
        launcher = Launcher(link.pid, link.user, driver.launcher(Path()).privileged)
        places = PodPlaces(pod, launcher, self._places.hostdisks, inputs.claims)
        return await asyncio.to_thread(self._made, vmi, driver, self._folder(pod), places, inputs, self._progress(vmi))

    def _made(
        self, vmi: Obj, driver: Driver, folder: Path, places: PodPlaces, inputs: Inputs, progress: Callable[[str], None]
    ) -> Prepared:
        prepared = storage.prepare(vmi, driver, folder, places, inputs, progress)
        hand_over(vmi, prepared, folder, places)
        return prepared

    def _without_effect(self, vmi: Obj) -> list[str]:
        return []

    async def _prepared(self, pod: Obj) -> Prepared | None:
        return await asyncio.to_thread(storage.prepared, self._folder(pod))

    def _folder(self, pod: Obj) -> Path:
        return self._launchers.root / str(pod["metadata"]["uid"]) / EMPTY_DIRS / MACHINE_VOLUME

    async def _inputs(self, vmi: Obj, pod: Obj) -> Inputs:
        secrets, configmaps = await asyncio.to_thread(self._texts, pod)
        account = await asyncio.to_thread(self._account, vmi, pod)
        return Inputs(secrets, await self._claims(vmi), configmaps, pod, account)

    async def access_secrets(self, vmi: Obj) -> dict[str, dict[str, bytes]]:
        """Return them as the kubelet has put them into the Pod, which it does again when they change."""
        pod = self.pod_of(vmi)
        return (await asyncio.to_thread(self._texts, pod))[0] if pod is not None else {}

    def _account(self, vmi: Obj, pod: Obj) -> dict[str, bytes]:
        """Return what the kubelet made of the service account that the machine's guest is given."""
        for volume in vmi["spec"].get("volumes") or []:
            if "serviceAccount" in volume:
                place = self._launchers.root / str(pod["metadata"]["uid"]) / "volumes" / PROJECTED
                with translated(self._launchers.root, f"reading volume {volume['name']} of the launcher Pod"):
                    found = read_texts(place / pod_volume(volume["name"]))
                if not found.get("token"):
                    raise AgentError(f"volume {volume['name']}: the kubelet has put no token there yet; waiting for it")
                return found
        return {}

    def _texts(self, pod: Obj) -> tuple[dict[str, dict[str, bytes]], dict[str, dict[str, bytes]]]:
        """Return the data of the Secrets and ConfigMaps that are volumes of the Pod, by their names."""
        found: dict[str, dict[str, dict[str, bytes]]] = {kind: {} for kind in KUBELETS}
        for volume in pod["spec"].get("volumes") or []:
            for kind, folder in KUBELETS.items():
                if source := volume.get(kind):
                    place = self._launchers.root / str(pod["metadata"]["uid"]) / "volumes" / folder / volume["name"]
                    with translated(self._launchers.root, f"reading volume {volume['name']} of the launcher Pod"):
                        data = read_texts(place)
                    if data:  # the kubelet makes an empty folder of one that is missing and may be
                        found[kind][str(source.get("secretName") or source.get("name"))] = data
        return found["secret"], found["configMap"]


def read_texts(folder: Path) -> dict[str, bytes]:
    """Return the files of a volume that a kubelet made of a Secret or a ConfigMap."""
    if not folder.is_dir():
        return {}
    found: dict[str, bytes] = {}
    with safepath.opened_root(folder) as root:
        for name in sorted(os.listdir(root)):  # noqa: PTH208
            if name.startswith(".."):  # the kubelet's own, to which the files are links
                continue
            file = safepath.open_file(root, safepath.real_file(root, [name]))
            with os.fdopen(file, "rb") as opened:
                found[name] = opened.read(MAX_TEXTS + 1)
            if sum(map(len, found.values())) > MAX_TEXTS:
                raise UnsafePath(f"the files of {folder.name} are larger than {MAX_TEXTS} bytes together")
    return found
