"""A mixed cluster: real API server, scheduler and controllers, nodes that kwok plays, ours in the test's process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvisor.api import Obj
from polyvisor.api.resources import EVENTS, NODES, PODS, VMIS, VMS, Resource
from polyvisor.controllers import run_controllers
from polyvisor.controllers.objects import condition, uid
from polyvisor.drivers import registry
from polyvisor.kube import Informer, KubeClient
from polyvisor.kube.tasks import end_task
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.goprograms import NoGo
from tests.needs import unmet

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
SPACE = "default"
SECONDS = 30
GIVE_WAY = 1.0
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DEVICES = {f"devices.kubevirt.io/{device}": "1k" for device in ("kvm", "tun", "vhost-net")}
BIG = {"cpu": "8", "memory": "16Gi", "pods": "50", "ephemeral-storage": "100Gi", **DEVICES}
SMALL = BIG | {"memory": "200Mi"}
HOST = "kubernetes.io/hostname"


def _taint(key: str, effect: str = "NoSchedule") -> Obj:
    return {"key": key, "value": "yes", "effect": effect}


@dataclass(frozen=True)
class Played:
    """A node: what it advertises below hypervisor.kubevirt.io/, further labels, its spec, its room."""

    shows: tuple[str, ...]
    labels: dict[str, str]
    spec: dict[str, Any]
    room: dict[str, str]


FEATURE = "feature.hypervisor.kubevirt.io/"
PLAYED = {
    "kvm-efi": Played(("qemu", "qemu.kvm"), {f"{FEATURE}qemu.firmware.efi": "true", "zone": "a"}, {}, BIG),
    "kvm-plain": Played(("qemu", "qemu.kvm"), {"zone": "b"}, {}, BIG),
    "kvm-dark": Played(("qemu", "qemu.kvm"), {"zone": "c", "kubevirt.io/schedulable": "false"}, {}, BIG),
    "lxc-small": Played(("lxc", "lxc.lxc"), {}, {}, SMALL),
    "xen-full": Played(("xen", "xen.xen", "xen.xenpvh", "xen.xenpv"), {}, {}, BIG),
    "xen-pv": Played(("xen", "xen.xenpv"), {}, {}, BIG),
    "ch-1": Played(("ch", "ch.kvm"), {}, {}, BIG),
    "esx-far": Played(("esx", "esx.vmware"), {}, {"taints": [_taint("hypervisor.kubevirt.io/virtual-node")]}, BIG),
    "vz-lab": Played(("vz", "vz.vz"), {}, {"taints": [_taint("lab")]}, BIG),
    "openvz-strict": Played(("openvz", "openvz.openvz"), {}, {"taints": [_taint("strict", "NoExecute")]}, BIG),
    "vbox-off": Played(("vbox", "vbox.vbox"), {}, {"unschedulable": True}, BIG),
    "hyperv-dark": Played(("hyperv", "hyperv.hyperv"), {"kubevirt.io/schedulable": "false"}, {}, BIG),
    "bhyve-mute": Played(("bhyve",), {}, {}, BIG),
}


@dataclass
class Mixed:
    """The cluster, our client of it, and what it shows."""

    cluster: Cluster
    client: KubeClient
    vmis: Informer
    vms: Informer
    pods: Informer

    async def make(self, name: str, hypervisor: Obj | None = None, *, space: str = SPACE, **spec: Any) -> Obj:
        return await self.client.create(VMIS, instance(name, hypervisor, space=space, **spec))

    async def vmi(self, name: str, until: Callable[[Obj], Any], space: str = SPACE) -> Obj:
        """Wait until a machine is as it should be."""

        def look(seen: Informer) -> Obj | None:
            found = seen.get(space, name)
            return found if found is not None and until(found) else None

        try:
            return await self.vmis.wait_until(look, SECONDS) or {}
        except TimeoutError:
            raise AssertionError(f"{name}: {json.dumps(self.vmis.get(space, name), indent=1)}") from None

    async def lands(self, name: str, space: str = SPACE) -> str:
        """Wait until a machine was handed over; return its node's name."""
        return str((await self.vmi(name, lambda v: phase(v) == "Scheduled", space))["status"]["nodeName"])

    async def runs(self, name: str) -> Obj:
        """Play the node's agent: the guest runs."""
        vmi = await self.vmi(name, lambda v: phase(v) == "Scheduled")
        passed = [*vmi["status"]["phaseTransitionTimestamps"], {"phase": "Running"}]
        status = {"status": {"phase": "Running", "phaseTransitionTimestamps": passed}}
        return await self.client.patch(VMIS, name, status, SPACE)

    def pods_of(self, vmi: Obj) -> list[Obj]:
        return [p for p in self.pods.items() if p["metadata"]["ownerReferences"][0]["uid"] == uid(vmi)]

    async def gone(self, name: str, space: str = SPACE) -> None:
        """Delete a machine and wait until it and its Pods are no more."""
        vmi = self.vmis.get(space, name) or await self.client.get(VMIS, name, space)
        await self.client.delete(VMIS, name, space)
        await self.vmis.wait_until(lambda seen: seen.get(space, name) is None, SECONDS)
        await self.pods.wait_until(lambda _: not self.pods_of(vmi), SECONDS)

    async def node(self, name: str, **patch: Any) -> None:
        await self.client.patch(NODES, name, patch)

    async def event(self, reason: str, of: str) -> str:
        async with Informer(self.client, EVENTS, SPACE) as events:

            def look(seen: Informer) -> str | None:
                for event in seen.items():
                    if event["reason"] == reason and event["involvedObject"]["name"] == of:
                        return str(event["message"])
                return None

            return await events.wait_until(look, SECONDS) or ""


def instance(name: str, hypervisor: Obj | None, *, space: str = SPACE, **spec: Any) -> Obj:
    domain = {"memory": {"guest": "128Mi"}, "devices": {}, **spec.pop("domain", {})}
    spec = {**root_for(hypervisor), **spec}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": space},
        "spec": {"domain": domain, **({"hypervisor": hypervisor} if hypervisor else {}), **spec},
    }


def root_for(hypervisor: Obj | None) -> Obj:
    """Return a root volume where an allowed driver cannot do without one."""
    choice = hypervisor or {}
    names = {choice.get("driver"), *(choice.get("anyOf") or []), choice.get("virtType")}
    if names & {"lxc", "openvz", "vmware"}:
        return {"volumes": [{"name": "root", "containerDisk": {"image": "root"}}]}
    disk = {"type": "Disk", "path": "/vmfs/volumes/a/root.vmdk"}
    return {"volumes": [{"name": "root", "hostDisk": disk}]} if "esx" in names else {}


def phase(vmi: Obj) -> str:
    return str((vmi.get("status") or {}).get("phase"))


def verdicts(vmi: Obj) -> dict[str, str]:
    candidates = ((vmi.get("status") or {}).get("hypervisor") or {}).get("candidates") or []
    return {each["driver"]: each["verdict"] for each in candidates}


def waits(vmi: Obj) -> str:
    """Return what a machine waits for, in the words of its conditions."""
    found = [condition(vmi, "Synchronized"), condition(vmi, "PodScheduled")]
    return "; ".join(str(c.get("message")) for c in found if c and c.get("status") == "False")


def node_of(name: str, played: Played) -> Obj:
    labels = {f"hypervisor.kubevirt.io/{word}": "true" for word in played.shows}
    labels |= {"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64", HOST: name} | played.labels
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": played.spec,
        "status": {"allocatable": played.room, "capacity": played.room},
    }


def _ready(node: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or []) and not [
        t for t in node["spec"].get("taints") or [] if t["key"].startswith("node.kubernetes.io/not-ready")
    ]


@asynccontextmanager
async def running() -> AsyncIterator[Mixed]:
    """Run the cluster with its nodes, and our controllers over it."""
    try:
        with cluster("kube-controller-manager", "kube-scheduler", "kwok") as one:
            one.kubectl("apply", "--server-side", "-f", str(CRDS))
            one.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            async with KubeClient.from_kubeconfig(one.kubeconfig) as client:
                for name, played in PLAYED.items():
                    await client.create(NODES, node_of(name, played))
                async with Informer(client, NODES) as nodes, Informer(client, ACCOUNTS, SPACE) as accounts:
                    await nodes.wait_until(lambda seen: all(_ready(n) for n in seen.items()), SECONDS)
                    await accounts.wait_until(lambda seen: seen.get(SPACE, "default"), SECONDS)
                ready = asyncio.Event()
                working = run_controllers(client, registry(), give_way_seconds=GIVE_WAY, ready=ready)
                task = asyncio.create_task(working)
                async with asyncio.timeout(SECONDS):
                    await ready.wait()
                async with Informer(client, VMIS) as vmis, Informer(client, VMS) as vms, Informer(client, PODS) as pods:
                    yield Mixed(one, client, vmis, vms, pods)
                await end_task(task)
    except NoGo as missing:
        unmet(str(missing))
