"""A node that a kubelet keeps: the test plays the kubelet, virt-handler and launchers are real."""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from polyvisor.agent.platform.pod_launchers import EMPTY_DIRS
from polyvisor.agent.process import Handler
from polyvisor.api import names
from polyvisor.api.launcher_pods import DRIVER_ANNOTATION
from polyvisor.api.migrations import HANDLER_CLIENT_NAME, HANDLER_CLIENT_SECRET, JOB_LABEL
from polyvisor.api.resources import NODES, PODS, SECRETS, VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Informer, KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.process.certificates import issue_client, issue_server, make_authority
from polyvisor.process.pairs import Pair, load_pair

from ..cluster import TOKEN, reading, running
from .conftest import PlainDriver

Obj = dict[str, Any]
DAY = timedelta(days=1)


class Kubelet:
    """Plays the node: Pods become launcher processes in folders below ``pods``."""

    def __init__(self, client: KubeClient, folder: Path, proc: Path) -> None:
        self.client = client
        self.pods = folder
        self.proc = proc
        self.launchers: dict[str, subprocess.Popen[bytes]] = {}
        self.ca = make_authority("ca", DAY)

    async def machine(self, name: str, *, reported: bool = True, others: tuple[str, ...] = (), **spec: Any) -> Obj:
        """Make a machine whose launcher runs, which the kubelet may not have ``reported`` yet."""
        metadata = {"name": name, "namespace": "default", "finalizers": ["test.example/hold"]}
        body = {"domain": {"devices": {}}, **spec}
        vmi = await self.client.create(
            VMIS, {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": metadata, "spec": body}
        )
        owner = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "name": name, "controller": True}
        metadata = {
            "name": f"virt-launcher-{name}",
            "namespace": "default",
            "annotations": {DRIVER_ANNOTATION: "plain"},
            "labels": {names.APP_LABEL: names.LAUNCHER_APP, names.CREATED_BY_LABEL: vmi["metadata"]["uid"]},
            "ownerReferences": [{**owner, "uid": vmi["metadata"]["uid"]}],
        }
        containers = [{"name": name, "image": "x"} for name in ("compute", *others)]
        pod = {"nodeName": "n1", "containers": containers}
        found = await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
        self.start(found["metadata"]["uid"])
        if reported:
            status = {"phase": "Running", "containerStatuses": [{"name": "compute", "state": {"running": {}}}]}
            await self.client.patch(PODS, metadata["name"], {"status": status}, "default", subresource="status")
        phase = "Scheduled" if reported else "Scheduling"
        vmi["status"] = {"phase": phase, "nodeName": "n1", "hypervisor": {"driver": "plain"}}
        vmi["status"]["activePods"] = {found["metadata"]["uid"]: "n1"}
        return await self.client.update_status(VMIS, vmi)

    async def target(self, vmi: Obj, node: str, job: str) -> Obj:
        """Have the launcher run on another node into which a machine is to move, and tell both nodes of it."""
        metadata = vmi["metadata"]
        owner = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "name": metadata["name"], "controller": True}
        labels = {names.APP_LABEL: names.LAUNCHER_APP, names.CREATED_BY_LABEL: metadata["uid"], JOB_LABEL: job}
        about = {
            "name": f"virt-launcher-{metadata['name']}-{job}",
            "namespace": "default",
            "annotations": {DRIVER_ANNOTATION: "plain"},
            "labels": labels,
            "ownerReferences": [{**owner, "uid": metadata["uid"]}],
        }
        spec = {"nodeName": node, "containers": [{"name": "compute", "image": "x"}]}
        pod = await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})
        self.start(pod["metadata"]["uid"])
        status = {"phase": "Running", "containerStatuses": [{"name": "compute", "state": {"running": {}}}]}
        await self.client.patch(PODS, about["name"], {"status": status}, "default", subresource="status")
        vmi = await self.client.get(VMIS, metadata["name"], "default")
        vmi["status"]["activePods"][pod["metadata"]["uid"]] = node
        vmi["status"]["migrationState"] = {
            "migrationUid": job,
            "sourceNode": vmi["status"]["nodeName"],
            "sourcePod": f"virt-launcher-{metadata['name']}",
            "targetNode": node,
            "targetPod": about["name"],
        }
        await self.client.update_status(VMIS, vmi)
        return pod

    def start(self, uid: str, pod: str = "") -> None:
        folder = self.pods / uid / EMPTY_DIRS / "polyvisor"
        machine = self.pods / uid / EMPTY_DIRS / names.MACHINE_VOLUME
        folder.mkdir(parents=True)
        machine.mkdir()
        command = [sys.executable, "-P", "-m", "polyvisor.launcher", "--pod", str(folder)]
        if os.geteuid() == 0:  # a mount namespace of its own, where the machine's folder is
            place = "/run/polyvisor-machine"
            script = f"mount -t tmpfs tmpfs /run; mkdir {place}; mount --bind {machine} {place}"
            script += f'; mount -o remount,bind,ro {place}; exec "$@"'
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *command]
        self.launchers[uid] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (self.proc / str(self.launchers[uid].pid)).mkdir(parents=True)
        groups = f"0::/kubepods/burstable/pod{pod or uid}/c\n"
        (self.proc / str(self.launchers[uid].pid) / "cgroup").write_text(groups)

    def container(self, uid: str, identity: str) -> subprocess.Popen[bytes]:
        """Start something else in the Pod."""
        found = subprocess.Popen(["sleep", "1000"])
        self.launchers[identity] = found
        (self.proc / str(found.pid)).mkdir(parents=True)
        (self.proc / str(found.pid) / "cgroup").write_text(f"0::/kubepods/burstable/pod{uid}/{identity}\n")
        return found

    def clear(self, uid: str) -> None:
        """Remove what is left of a Pod."""
        shutil.rmtree(self.pods / uid)

    def mounts(self, uid: str) -> str:
        """Return the mounts that a launcher sees."""
        return Path(f"/proc/{self.launchers[uid].pid}/mountinfo").read_text()

    async def until(self, resource: Any, name: str, holds: Callable[[Obj], Any]) -> Obj:
        async with Informer(self.client, resource) as informer:
            found = await informer.wait_until(
                lambda i: next((o for o in i.items() if o["metadata"]["name"] == name and holds(o)), {}), 20
            )
            return dict(found)

    async def ended(self, uid: str) -> int:
        async with asyncio.timeout(20):
            return await asyncio.to_thread(self.launchers[uid].wait)

    def handler(self, folder: Path, node: str = "n1") -> Handler:
        cluster = {"server": self.client.connection.server}
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        folder.mkdir(exist_ok=True)
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        return Handler(
            argparse.Namespace(
                kubeconfig=str(folder / "kubeconfig"),
                namespace="kubevirt",
                bind="127.0.0.1",
                port=0,
                health_port=0,
                node_name=node,
                pod_name="",
                state_dir=folder / "state",
                pods_dir=self.pods,
                device_plugins_dir=self.pods,
            ),
            DriverRegistry([PlainDriver()]),
        )

    async def certificates(self) -> None:
        pairs = {
            names.HANDLER_SECRET: issue_server(self.ca, [names.HANDLER_APP], DAY),
            HANDLER_CLIENT_SECRET: issue_client(self.ca, HANDLER_CLIENT_NAME, DAY),
        }
        for name, pair in pairs.items():
            data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self.ca.certificate}
            encoded = {key: base64.b64encode(one).decode() for key, one in data.items()}
            metadata = {"name": name, "namespace": "kubevirt"}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
            await self.client.create(SECRETS, secret)

    def client_context(self, pair: Pair) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.certificate.decode())
        load_pair(context, pair)
        return context


@asynccontextmanager
async def playing(folder: Path) -> AsyncIterator[Kubelet]:
    """Give a kubelet whose node is in a cluster of its own; its launchers end with it."""
    async with running(folder, extra_routes=reading()) as client:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"kept": "yes"}}}
        await client.create(NODES, node)
        with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as short:  # a socket's path may not be long
            kubelet = Kubelet(client, Path(short), folder / "proc")
            yield kubelet
            for launcher in kubelet.launchers.values():
                launcher.kill()
                launcher.wait()


@asynccontextmanager
async def handling(kubelet: Kubelet, folder: Path) -> AsyncIterator[Handler]:
    """Run virt-handler on the node."""
    await kubelet.certificates()
    handler = kubelet.handler(folder)
    task = asyncio.create_task(handler.run())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await handler.health.ready()
    yield handler
    assert await end_task(task) is None
