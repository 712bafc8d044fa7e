"""Parts of the control plane fail, one after the other: machines that run are left alone, and work goes on.

The control plane and Polyvisor's processes are real, each process with its service account's rights; kwok plays the
nodes' kubelets, and their agents are played. The last word of each test is that nothing about the machines that ran
before has changed, and that a machine made after the failure runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import NODES, VMS, Resource
from polyvisor.controllers import run_controllers
from polyvisor.drivers import registry
from polyvisor.kube import ApiError, KubeClient, WatchEvent
from polyvisor.kube.tasks import end_task
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import Installation, eventually, installed
from tests.e2e.played import agents, node, node_ready
from tests.needs import unmet
from tests.server.test_webhooks import vm

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
OLD = ("old-qemu", "old-lxc")
CERTIFICATE = ("get", "secret", "kubevirt-virt-api-certs", "-n", "kubevirt", "-o", "jsonpath={.data.tls\\.crt}")


class Machines:
    """The installation, with machines that ran before anything failed."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.kubectl = installation.cluster.kubectl
        for name in OLD:
            self.make(name, name.removeprefix("old-"))
        for name in OLD:
            eventually(lambda name=name: self.phase(name) == "Running", 60, self.why)  # type: ignore[misc]
        eventually(lambda: self.settled(), 60, self.why)
        self.before = self.seen()

    def make(self, name: str, driver: str = "qemu") -> None:
        root = {"volumes": [{"name": "root", "containerDisk": {"image": "root"}}]}
        spec = vm()["spec"]["template"]["spec"] | {"hypervisor": {"driver": driver}} | (root if driver == "lxc" else {})
        obj = {**vm(runStrategy="Always", template={"spec": spec})}
        self.installation.create(VMS, {**obj, "metadata": {"name": name, "namespace": "default"}})

    def phase(self, name: str) -> str:
        return self.kubectl("get", "vmi", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}")

    def settled(self) -> bool:
        """Whether each old machine's Pod is ready and its VirtualMachine says so."""
        ready = "jsonpath={.items[*].status.printableStatus}"
        gates = "jsonpath={.items[*].status.conditions[?(@.type=='kubevirt.io/virtual-machine-unpaused')].status}"
        return self.kubectl("get", "vm", "-o", ready).split() == ["Running"] * len(OLD) and self.kubectl(
            "get", "pod", "-o", gates
        ).split() == ["True"] * len(OLD)

    def seen(self) -> dict[str, Any]:
        """What the old machines and their Pods are, as far as a user or a guest could tell."""
        found: dict[str, Any] = {}
        for one in json.loads(self.kubectl("get", "vm,vmi,pod", "-o", "json"))["items"]:
            metadata = one["metadata"]
            if not any(name in metadata["name"] for name in OLD):
                continue
            status = one["status"]
            found[f"{one['kind']} {metadata['name']}"] = {
                "uid": metadata["uid"],
                "deleted": metadata.get("deletionTimestamp"),
                "spec": one["spec"],
                "phase": status.get("phase") or status.get("printableStatus"),
                "passed": status.get("phaseTransitionTimestamps"),
                "since": status.get("startTime"),
            }
        return found

    def go_on(self, name: str) -> None:
        """Work goes on, and the old machines have noticed nothing."""
        self.make(name)
        eventually(lambda: self.phase(name) == "Running", 90, self.why)
        assert self.seen() == self.before

    def why(self) -> str:
        tails = {name: self.installation.cluster.tail(name, 5) for name in self.installation.running}
        return json.dumps(tails, indent=1) + self.kubectl("get", "vm,vmi,pod", "-o", "wide", check=False)

    def lead(self, name: str) -> None:
        """Have a replica that is new; it may have to wait for the Lease."""
        self.installation.start_controller(name)
        eventually(lambda: self.installation.ready(name), why=self.why)

    def leads(self) -> bool:
        """Whether a replica that lives leads; one that has lost its Lease is started again, as Kubernetes does."""
        leader = self.installation.leader()
        process = self.installation.running.get(leader)
        if process is not None and process.poll() is not None:
            self.installation.start_controller(leader)
        return process is not None and process.poll() is None

    def serves(self) -> bool:
        """Whether virt-api judges what is created."""
        try:
            error = self.installation.refused(VMS, vm(runStrategy="Sometimes"))
        except AssertionError:
            return False
        return error.code == 422


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    try:
        with (
            installed("kube-scheduler", "kwok") as installation,
            agents(installation.kubeconfig_as("kubevirt-controller")),
        ):
            for number in range(4):
                installation.create(NODES, node(number))

            def ready() -> bool:
                listed = json.loads(installation.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
                return all(map(node_ready, listed))

            eventually(ready, 60)
            yield Machines(installation)
    except NoGo as missing:
        unmet(str(missing))


def test_the_leader_is_killed(machines: Machines) -> None:
    machines.lead("two")
    installation = machines.installation
    leader = installation.leader()
    other = "two" if leader == "one" else "one"
    installation.running[leader].kill()
    eventually(lambda: installation.leader() == other, why=machines.why)
    machines.go_on("after-the-leader")


def test_virt_api_is_killed(machines: Machines) -> None:
    installation = machines.installation
    installation.running["api"].kill()
    installation.running["api"].wait()
    with pytest.raises(ApiError, match="failed calling webhook"):
        machines.make("while-it-is-away")
    installation.start_api()
    eventually(lambda: installation.ready("api"), why=machines.why)
    eventually(machines.serves, why=machines.why)
    machines.go_on("after-virt-api")


def test_all_certificates_are_made_anew(machines: Machines) -> None:
    eventually(machines.leads, why=machines.why)
    before = machines.kubectl(*CERTIFICATE)
    for secret in ("kubevirt-virt-api-certs", "kubevirt-virt-api-client-certs", "kubevirt-ca"):
        machines.kubectl("delete", "secret", secret, "-n", "kubevirt")
    eventually(lambda: machines.kubectl(*CERTIFICATE, check=False) not in ("", before), why=machines.why)
    eventually(machines.serves, why=machines.why)
    machines.go_on("after-the-certificates")
    assert machines.installation.running["api"].poll() is None, "without a restart"


def test_no_component_lacked_a_right(machines: Machines) -> None:
    """Asked before the API server starts again: one that has just begun knows no roles for a moment."""
    for name in machines.installation.health:
        log = (machines.installation.cluster.folder / f"{name}.log").read_text()
        assert [line for line in log.splitlines() if "is forbidden: User" in line] == [], name


def test_the_api_server_is_killed(machines: Machines) -> None:
    control_plane = machines.installation.cluster
    control_plane.stop("kube-apiserver", kill=True)
    control_plane.start("kube-apiserver")
    eventually(machines.leads, 60, why=machines.why)
    eventually(machines.serves, 60, why=machines.why)
    machines.go_on("after-the-api-server")


class Late(KubeClient):
    """Begins the first watch of each kind at a version that the API server, started again, has forgotten."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.begun: set[str] = set()
        self.expired: set[str] = set()

    async def watch(
        self, resource: Resource, namespace: str | None = None, **options: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        if resource.plural not in self.begun:
            self.begun.add(resource.plural)
            options["resource_version"] = "1"
        try:
            async for event in super().watch(resource, namespace, **options):
                yield event
        except ApiError as error:
            if error.expired:
                self.expired.add(resource.plural)
            raise


def test_every_watch_of_the_controllers_breaks_with_410(machines: Machines) -> None:
    """The controllers run here, with a client whose watches come too late, in place of the process that led."""
    installation = machines.installation
    for name in ("one", "two"):
        installation.running[name].terminate()
        installation.running[name].wait(20)
    kinds: set[str] = set()
    kubeconfig = installation.kubeconfig_as("kubevirt-controller")

    async def work() -> None:
        async with Late.from_kubeconfig(kubeconfig) as client:
            ready = asyncio.Event()
            task = asyncio.create_task(run_controllers(client, registry(), ready=ready))
            async with asyncio.timeout(60):
                await ready.wait()
            await asyncio.to_thread(machines.go_on, "after-410")
            kinds.update(client.expired)
            await end_task(task)

    asyncio.run(work())
    assert {"virtualmachines", "virtualmachineinstances", "pods", "nodes"} <= kinds


def test_the_log_of_every_process_is_objects_of_json(machines: Machines) -> None:
    about: list[Obj] = []
    for name in machines.installation.health:
        for line in (machines.installation.cluster.folder / f"{name}.log").read_text().splitlines():
            found = json.loads(line)
            assert {"time", "level", "logger", "message", "component"} <= found.keys(), line
            about += [found] if "controller" in found else []
    for line in about:
        assert line["controller"].startswith("virt-controller-")
