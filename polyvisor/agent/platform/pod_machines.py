"""The machines of a real node, whose images, claims and texts are containers and volumes of their launcher Pods.

Disks are made as on any node (:mod:`.storage`), from what :mod:`.pod_sources` finds, in a folder that no container has.
What isn't obvious: virt-handler has no right to read users' Secrets and ConfigMaps; it reads them where the kubelet put
them for the Pod.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from polyvisor.agent.errors import AgentError, UnsafePath, translated
from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.launcher_pods import pod_id
from polyvisor.agent.launchers.processes import Launchers, folder_id
from polyvisor.agent.link import containers
from polyvisor.agent.link.connection import LauncherGone, Link
from polyvisor.agent.live import hotplug
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.agent.platform import pod_hotplug
from polyvisor.agent.platform.base import Parts
from polyvisor.agent.platform.pod_launchers import EMPTY_DIRS
from polyvisor.agent.platform.pod_sources import Launcher, PodPlaces, hand_over, name_seeds
from polyvisor.agent.seam import Report
from polyvisor.agent.storage import making
from polyvisor.agent.storage.claims import claims_of
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.dump_files import DumpFile
from polyvisor.agent.storage.making import Inputs
from polyvisor.agent.storage.prepared import Prepared, prepared
from polyvisor.api import Obj
from polyvisor.api import launcher_pods as inside
from polyvisor.api.launcher_pods import pod_volume
from polyvisor.api.names import COMPUTE_CONTAINER, CONSOLE_CONTAINER, MACHINE_VOLUME, Phase
from polyvisor.api.owners import controller_uid
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS
from polyvisor.api.volumes import drives, without
from polyvisor.drivers.base import Driver
from polyvisor.kube import Informer

ATTACHED_INDEX = "attached"
KUBELETS = {"secret": "kubernetes.io~secret", "configMap": "kubernetes.io~configmap"}
"""Kind of a Pod's volume, and the folder in which the kubelet keeps such volumes."""
PROJECTED = "kubernetes.io~projected"
WORKSHOP = "plugins/polyvisor"
"""Where the kubelet lets others keep what is of one Pod; on the disk of its volumes, so that it can be moved there."""
MAX_TEXTS = 16 * 1024 * 1024


class KubeletMachines:
    """Where the bytes of machines come from on a node with a kubelet: containers and volumes of their launcher Pods.

    A machine is taken over once its launcher is reached, which is before the kubelet reports that it runs.
    """

    phases: tuple[Phase, ...] = (Phase.SCHEDULING, Phase.SCHEDULED, Phase.RUNNING)

    def __init__(self, parts: Parts, launchers: Launchers, ids: IdRanges) -> None:
        self._client = parts.client
        self._pods = parts.pods
        self._places = parts.places
        self._launchers = launchers
        self._ids = ids
        self.hostdisks = parts.places.hostdisks
        self.shelves: hotplug.Shelves = PodShelves(parts.pods, launchers.root)

    def ready(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """Whether the kubelet reports the other containers, or the machine is further on than that."""
        return vmi["status"]["phase"] != Phase.SCHEDULING or link.active or link.ended or is_complete(pod)

    def launchers_of(self, pod: Obj) -> Iterable[Obj]:
        """Return the Pod, or for an attachment Pod the launcher that it was made for."""
        yield pod
        if inside.is_attachment(pod):
            yield from self._pods.by_index("id", folder_id(launcher_uid(pod)))

    def at_start(self, vmi: Obj, pod: Obj) -> Obj:
        """Return a machine without the volumes whose claims are in a Pod that is made once the launcher's is there."""
        return without(vmi, {volume["name"] for volume in inside.to_attach(vmi["spec"], pod).values()})

    async def prepare(self, vmi: Obj, pod: Obj, driver: Driver, report: Report) -> Prepared:
        """Make all that a machine boots from, out of what the kubelet put into its Pod."""
        link = self._launchers.get(pod_id(pod))
        if link is None:
            raise LauncherGone("the launcher has ended")
        inputs = await self._inputs(vmi, pod, driver)
        hostdisks = self.hostdisks / str(vmi["metadata"]["namespace"])
        limit = self._places.host_disk_limit
        places = PodPlaces(pod, launcher_of(link, driver), hostdisks, inputs.claims, limit)
        return await asyncio.to_thread(self._made, vmi, driver, self._folder(pod), places, inputs, report)

    def _made(
        self, vmi: Obj, driver: Driver, folder: Path, places: PodPlaces, inputs: Inputs, report: Report
    ) -> Prepared:
        made = making.prepare(vmi, driver, folder, places, inputs, report, self._workshop(places.pod))
        hand_over(vmi, made, folder, places)
        name_seeds(vmi, folder)
        return made

    def without_effect(self, vmi: Obj) -> list[str]:
        """Return nothing: the kubelet heeds all."""
        return []

    async def prepared(self, pod: Obj) -> Prepared | None:
        """Return what was made ready for a machine, if it was."""
        return await asyncio.to_thread(prepared, self._folder(pod), self._workshop(pod))

    def _folder(self, pod: Obj) -> Path:
        return self._launchers.root / str(pod["metadata"]["uid"]) / EMPTY_DIRS / MACHINE_VOLUME

    def _workshop(self, pod: Obj) -> Path:
        """Return the Pod's folder that no container has and that the kubelet removes with the Pod."""
        return self._launchers.root / str(pod["metadata"]["uid"]) / WORKSHOP

    async def _inputs(self, vmi: Obj, pod: Obj, driver: Driver) -> Inputs:
        secrets, configmaps = await asyncio.to_thread(self._texts, pod)
        account = await asyncio.to_thread(self._account, vmi, pod)
        resolver = self._launchers.networks.resolver(vmi, pod)
        first = await self._ids.given(pod, driver)
        return Inputs(secrets, await claims_of(self._client, vmi), configmaps, pod, account, resolver, first)

    async def access_secrets(self, vmi: Obj, pod: Obj | None) -> dict[str, dict[str, bytes]]:
        """Return them as the kubelet has put them into the Pod, which it does again when they change."""
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


class PodShelves:
    """Brings claims that attachment Pods have; the controller makes these."""

    brought = hotplug.MOUNTED

    def __init__(self, pods: Informer, root: Path) -> None:
        self._pods = pods
        self._root = root
        pods.add_index(ATTACHED_INDEX, lambda pod: [launcher_uid(pod)] if inside.is_attachment(pod) else [])

    def _holder(self, pod: Obj, name: str, volume: Obj) -> Obj | None:
        found = self._pods.by_index(ATTACHED_INDEX, str(pod["metadata"]["uid"]))
        here = [one for one in found if one["metadata"]["namespace"] == pod["metadata"]["namespace"]]
        return pod_hotplug.holder_of(here, name, inside.brought_claim(volume))

    def holders(self, vmi: Obj, pod: Obj) -> Mapping[str, Mapping[str, str]]:
        """Return what the status tells of the Pod that has each claim."""
        volumes = inside.to_attach(vmi["spec"], pod)
        return {
            volume["name"]: pod_hotplug.told_of(self._holder(pod, name, volume)) for name, volume in volumes.items()
        }

    def _attached(self, runner: hotplug.Runner, volume: Obj, claim: Obj) -> tuple[str, Obj]:
        """Return the name in its attachment Pod of a volume, and the Pod."""
        name = inside.attached_name(volume, disc=volume["name"] in drives(runner.vmi["spec"]))
        holder = self._holder(runner.pod, name, volume)
        if holder is None:
            bound = read_status(claim).get("phase") == "Bound"
            what = f"waiting for a Pod that has claim {claim['metadata']['name']} on this node"
            raise hotplug.NotYet(hotplug.BOUND if bound else hotplug.PENDING, "WaitingForAttachment", what, waits=True)
        return name, holder

    async def bring(self, runner: hotplug.Runner, volume: Obj, claim: Obj) -> DiskFile:
        """Show the launcher the claim's disk, once an attachment Pod has it; a drive's first disc is in its own Pod."""
        if volume not in inside.to_attach(runner.vmi["spec"], runner.pod).values():
            if inside.is_block(claim):
                return DiskFile(Path(inside.claim_device(volume["name"])), "raw", block=True)
            return DiskFile(Path(inside.claim_folder(volume["name"]), "disk.img"), "raw")
        name, holder = self._attached(runner, volume, claim)
        try:
            return await asyncio.to_thread(self._shelf(runner).put, name, claim, holder)
        except AgentError as error:
            raise hotplug.NotYet(hotplug.ATTACHED, "FailedMount", str(error)) from error

    async def clear(self, runner: hotplug.Runner, kept: Collection[str]) -> None:
        """Take disks away from the launcher that its domain does not have."""
        names = {Path(path).name for path in kept if path.startswith(f"{inside.HOTPLUG_FOLDER}/")}
        await asyncio.to_thread(self._shelf(runner).clear, names)

    async def dump_file(self, runner: hotplug.Runner, volume: Obj, claim: Obj, name: str) -> DumpFile:
        """Make the file for a memory dump, once an attachment Pod has the claim, and show it to the launcher."""
        attached, holder = self._attached(runner, volume, claim)
        return await asyncio.to_thread(self._shelf(runner).dump_file, attached, holder, name)

    async def forget_dump(self, runner: hotplug.Runner, volume: str) -> None:
        """Take away what a former agent showed the launcher."""
        await asyncio.to_thread(self._shelf(runner).forget_dump, inside.pod_volume(volume))

    def _shelf(self, runner: hotplug.Runner) -> pod_hotplug.Shelf:
        launcher = launcher_of(runner.link, runner.driver)
        folder = self._root / str(runner.pod["metadata"]["uid"]) / EMPTY_DIRS / inside.HOTPLUG_VOLUME
        return pod_hotplug.Shelf(runner.pod, launcher, folder)


def is_complete(pod: Obj) -> bool:
    """Whether all of a Pod runs that its machine is made from: images and shares are containers beside the launcher."""
    names = [container["name"] for container in pod["spec"]["containers"]]
    needed = [name for name in names if name not in (COMPUTE_CONTAINER, CONSOLE_CONTAINER)]
    return all(containers.container_id(pod, name) for name in needed)


def launcher_of(link: Link, driver: Driver) -> Launcher:
    """Return the launcher at the other end of a link."""
    return Launcher(link.pid, link.user, driver.launcher(Path()).privileged)


def launcher_uid(attachment: Obj) -> str:
    """Return the uid of the Pod that an attachment Pod belongs to."""
    return controller_uid(attachment, PODS.kind)


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
