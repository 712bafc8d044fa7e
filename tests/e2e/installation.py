"""Polyvisor's processes beside a real Kubernetes control plane, each with its service account's rights alone.

There is no kubelet: the processes run on this machine, and the Service of virt-api leads to its own address.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyvisor.agent.node.registration import _address
from polyvisor.api.resources import NODES, Resource
from polyvisor.drivers import registry
from polyvisor.drivers.pace import Deadline
from polyvisor.installation import apply
from polyvisor.installation.render import manifests
from polyvisor.kube import ApiError, KubeClient
from tests.e2e.cluster import Cluster, cluster, free_port

Obj = dict[str, Any]
POLYVISOR = Path(sys.executable).with_name("polyvisor")
ADDRESS = _address()
LEASE_SECONDS = 9
"""Long enough that no replica loses it because the machine is busy; nothing here starts one again."""
ENABLED = [{"name": name} for name in registry().names()]
"""All drivers, of which a cluster has one that is not told."""


class Installation:
    """A control plane, and Polyvisor's processes beside it."""

    def __init__(self, control_plane: Cluster, stack: ExitStack) -> None:
        self.cluster = control_plane
        self._stack = stack
        self.port = free_port()
        self.health: dict[str, int] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def client(self) -> KubeClient:
        return KubeClient.from_kubeconfig(self.cluster.kubeconfig)

    def act(self, work: Callable[[KubeClient], Any]) -> Any:
        async def acting() -> Any:
            async with self.client() as client:
                return await work(client)

        return asyncio.run(acting())

    def kubeconfig_as(self, account: str) -> Path:
        """Write a kubeconfig for a component's account; nobody else may write machines' status."""
        path = self.cluster.folder / f"acting-{account}.kubeconfig"
        path.write_text(self.cluster.kubeconfig_for(self.token(account)))
        return path

    def act_as(self, account: str, work: Callable[[KubeClient], Any]) -> Any:
        """Act as a component."""
        path = self.kubeconfig_as(account)

        async def acting() -> Any:
            async with KubeClient.from_kubeconfig(path) as client:
                return await work(client)

        return asyncio.run(acting())

    def polyvisor(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(POLYVISOR), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def install(self) -> None:
        self.cluster.kubectl("create", "namespace", "kubevirt", check=False)
        objects = manifests(given=[{"configuration": {"hypervisors": ENABLED}}])
        for obj in objects:
            if obj["kind"] == "Service" and obj["metadata"]["name"] == "virt-api":
                del obj["spec"]["selector"]
        said: list[str] = []
        self.act(lambda client: apply.install(client, objects, said.append, seconds=60, wait=False))
        endpoint = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "virt-api-here",
                "namespace": "kubevirt",
                "labels": {"kubernetes.io/service-name": "virt-api"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        }
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(endpoint))

    def token(self, account: str, node: str = "") -> str:
        """Return a token of a service account, as a Pod on that node has it."""
        spec: Obj = {}
        if node:
            uid = self.act(lambda client: client.get(NODES, node))["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Node", "apiVersion": "v1", "name": node, "uid": uid}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/kubevirt/serviceaccounts/{account}/token"
        return str(self.act(lambda client: client.request("POST", path, body=body))["status"]["token"])

    def start(self, name: str, module: str, account: str, *arguments: str, node: str = "") -> None:
        token = self.token(account, node)
        kubeconfig = self.cluster.folder / f"{account}.kubeconfig"
        kubeconfig.write_text(self.cluster.kubeconfig_for(token))
        self.health[name] = free_port()
        log = self._stack.enter_context((self.cluster.folder / f"{name}.log").open("ab"))
        command = [sys.executable, "-P", "-m", f"polyvisor.{module}", f"--kubeconfig={kubeconfig}"]
        command += ["--namespace=kubevirt", *arguments]
        if module == "server":
            self.health[name] = next(int(one.partition("=")[2]) for one in arguments if one.startswith("--port="))
        else:
            command += [f"--health-port={self.health[name]}"]
        environment = {**os.environ, "NO_PROXY": "*"}
        self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._stack.callback(self.running[name].kill)

    def start_controller(self, name: str) -> None:
        """Start virt-controller, and before the first one virt-operator, which makes everybody's certificates."""
        seconds = f"--lease-seconds={LEASE_SECONDS}"
        if "operator" not in self.running:
            self.start("operator", "controllers.operator", "kubevirt-operator", seconds, "--identity=operator")
        self.start(name, "controllers", "kubevirt-controller", seconds, f"--identity={name}")

    def start_api(self, name: str = "api") -> None:
        self.start(name, "server", "kubevirt-apiserver", f"--port={self.port}")

    def ready(self, name: str) -> bool:
        assert self.running[name].poll() is None, self.cluster.tail(name)
        try:
            return self.ask(name, "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, name: str, path: str, token: str = "") -> httpx.Response:
        """Ask a process by TLS, whatever its certificate, as kubelets and scrapers do."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"https://127.0.0.1:{self.health[name]}{path}", headers=headers, trust_env=False, verify=False)

    def leader(self) -> str:
        path = "{.spec.holderIdentity}"
        where = ("lease", "virt-controller", "-n", "kubevirt")
        return self.cluster.kubectl("get", *where, "--ignore-not-found", "-o", f"jsonpath={path}")

    def available(self) -> bool:
        path = "{.status.conditions[?(@.type=='Available')].status}"
        return (
            self.cluster.kubectl("get", "apiservice", "v1.subresources.kubevirt.io", "-o", f"jsonpath={path}") == "True"
        )

    def create(self, resource: Resource, obj: Obj) -> Obj:
        return dict(self.act(lambda client: client.create(resource, obj)))

    def refused(self, resource: Resource, obj: Obj) -> ApiError:
        with pytest.raises(ApiError) as error:
            self.create(resource, obj)
        return error.value


@contextmanager
def installed(*programs: str) -> Iterator[Installation]:
    """Run a control plane with these further programs, Polyvisor installed in it, virt-controller and virt-api."""
    with cluster("kube-controller-manager", *programs) as control_plane, ExitStack() as stack:
        found = Installation(control_plane, stack)
        found.install()
        found.start_controller("one")
        eventually(lambda: found.ready("one") and found.leader() == "one", why=lambda: control_plane.tail("one"))
        found.start_api()
        eventually(lambda: found.ready("api"), why=lambda: control_plane.tail("api"))
        eventually(found.available, why=lambda: control_plane.tail("api"))
        yield found


def eventually(check: Callable[[], Any], seconds: float = 40, why: Callable[[], str] = lambda: "") -> None:
    """Wait until a check holds; ``seconds`` are those of an idle machine."""
    deadline = Deadline(seconds)
    while not check():
        assert not deadline.passed, why()
        time.sleep(0.1)
