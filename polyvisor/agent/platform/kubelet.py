"""A node that a kubelet keeps: it starts launchers in Pods and brings their volumes; the agent stands beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from polyvisor.agent.launchers.launcher_images import LauncherImages
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import PodNetworks
from polyvisor.agent.node.cpus import PodCpus
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.agent.node.prober import Prober
from polyvisor.agent.node.real_node import RealNodeKeeper
from polyvisor.agent.platform.base import Parts
from polyvisor.agent.platform.pod_launchers import PodLaunchers
from polyvisor.agent.platform.pod_machines import KubeletMachines
from polyvisor.agent.platform.pod_node import PodNode
from polyvisor.api import Obj, node_names
from polyvisor.drivers.base import Driver, LauncherPlan
from polyvisor.kube import Informer


class Kubelet:
    """A node whose launchers run in Pods. ``pods`` is the kubelet's folder of these, as the agent sees it."""

    node_keeper = RealNodeKeeper

    def __init__(self, parts: Parts, pods: Path) -> None:
        self._parts = parts
        self._plugins = parts.settings.device_plugins
        self.networks = PodNetworks(parts.state / "networks", Resolver.read())
        self.launchers = PodLaunchers(pods, parts.launcher_changed, self._uid_of, self.networks)
        self.cpus = PodCpus(self._plugins.parent if self._plugins else None)
        self.machines = KubeletMachines(parts, self.launchers, IdRanges(parts.state / "ids.json", self.launchers.over))
        self._images = LauncherImages(self._own_pod) if parts.settings.own_pod else None
        self.pods = PodNode(
            parts.events,
            parts.registry,
            self.launchers,
            parts.pods,
            parts.vmis,
            look=parts.look,
            seeded=self._images.seeded if self._images else _as_it_is,
            moved=parts.moved,
        )

    def _uid_of(self, id_: str) -> str:
        return next((str(pod["metadata"]["uid"]) for pod in self._parts.pods.by_index("id", id_)), "")

    def _own_pod(self) -> Obj | None:
        own = self._parts.settings.own_pod
        return self._parts.pods.get(*own) if own else None

    def set_up_probing(self, prober: Prober) -> None:
        """Have drivers tried in the images that their launchers run from."""
        if self._images is not None:
            prober.how, prober.cut_short = self._images.probe, self._images.cut_short

    def followed(self) -> Sequence[Informer]:
        """Return Pods and instances: volumes are Kubernetes' own here."""
        return self._parts.pods, self._parts.vmis

    async def open(self) -> None:
        """Do nothing: the kubelet confines launchers."""

    def work(self, group: asyncio.TaskGroup) -> None:
        """Offer the node's devices to Pods."""
        if self._plugins is None:
            return
        from polyvisor.agent.node.devices.keeper import DeviceKeeper  # only here gRPC is needed

        devices = {name: Path(path) for name, path in node_names.DEVICES.items()}
        keeper = DeviceKeeper(self._plugins, devices, self._parts.state / "devices")
        group.create_task(keeper.run(), name="agent-devices")


def _as_it_is(_driver: Driver, _pod: Obj, plan: LauncherPlan) -> LauncherPlan:
    return plan
