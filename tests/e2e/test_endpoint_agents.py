"""The agent of an endpoint beside a real Kubernetes: with the rights of its account and its Node alone, on a real host.

The agent is a process of this machine, with the token of the service account that virt-operator made for it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.reading import labels_of, nested, read_status
from tests import kept
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.e2e.cluster import free_port
from tests.e2e.endpoint_hosts import by_ssh, endpoint, hypervisor_host, keys, machine, secret
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import Installation, eventually, installed
from tests.folders import short_folder
from tests.needs import unmet

Obj = dict[str, Any]
pytestmark = [pytest.mark.e2e, pytest.mark.root]
NAME, NODE = "rack4", "endpoint-rack4"
SECONDS = 60
LEASE_SECONDS = 6


class Mounted:
    """A folder as a kubelet keeps one of a Secret: a folder for each version, and a link that is moved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0

    def write(self, values: dict[str, str]) -> None:
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        for key, value in values.items():
            (version / key).write_text(value)
        link = self.folder / "..new"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


class World:
    """The installation, the host and the agents of its endpoint."""

    def __init__(self, installation: Installation, host: HypervisorHost, folder: Path) -> None:
        self.installation = installation
        self.kubectl = installation.cluster.kubectl
        self.host = host
        self.folder = folder
        self.secret = Mounted(folder / "secret")
        self.secret.folder.mkdir()

    def start(self, name: str = "agent") -> None:
        """Start an agent of that name; each has a state of its own."""
        state = self.folder / name
        if not state.exists():
            state.mkdir()
            shutil.copytree(kept.guest_images(), state / "images")
        arguments = [
            f"--endpoint={NAME}",
            f"--state-dir={state}",
            f"--credentials={self.secret.folder}",
            f"--port={free_port()}",
            f"--kubelet-port={free_port()}",
            f"--identity={name}",
            f"--lease-seconds={LEASE_SECONDS}",
        ]
        self.installation.start(name, "agent.platform.endpoint.cluster", f"kubevirt-endpoint-{NAME}", *arguments)

    def kill(self, name: str = "agent") -> None:
        process = self.installation.running.pop(name)
        process.kill()
        process.wait()

    def get(self, *what: str) -> Obj:
        return dict(json.loads(self.kubectl("get", *what, "--output=json", "--ignore-not-found") or "{}"))

    def condition(self, kind: str) -> Obj:
        found = read_status(self.get("hypervisorendpoint", NAME)).get("conditions") or []
        return next((one for one in found if one["type"] == kind), {})

    def holder(self) -> str:
        return str(nested(self.get("lease", f"virt-endpoint-{NAME}", "-n", "kubevirt"), "spec").get("holderIdentity"))

    def vmi(self, name: str) -> Obj:
        return self.get("vmi", name)

    def ready(self, name: str, wanted: str = "True") -> bool:
        found = read_status(self.vmi(name)).get("conditions") or []
        return any(one["type"] == "Ready" and one["status"] == wanted for one in found)

    def why(self) -> str:
        events = self.kubectl("get", "events,pods,vmi", "-A", check=False)
        logs = "\n".join(self.installation.cluster.tail(one) for one in self.installation.running)
        return f"{events}\n{logs}\n{self.get('vmi')}"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    try:
        with ExitStack() as stack:
            host = stack.enter_context(hypervisor_host())
            installation = stack.enter_context(installed("kube-scheduler"))
            folder = stack.enter_context(short_folder())
            found = World(installation, host, folder)
            found.secret.write(keys(host))
            emulation = {"spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}}}
            what = ("kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge")
            found.kubectl("patch", *what, f"--patch={json.dumps(emulation)}")
            found.kubectl("apply", "-f-", stdin=json.dumps(secret(NAME, keys(host))))
            found.kubectl("apply", "-f-", stdin=json.dumps(endpoint(NAME, by_ssh(host))))
            account = ("serviceaccount", f"kubevirt-endpoint-{NAME}", "-n", "kubevirt")
            eventually(lambda: found.get(*account), SECONDS, lambda: installation.cluster.tail("operator"))
            found.start()
            yield found
    except NoGo as missing:
        unmet(str(missing))


def test_the_host_becomes_a_node(world: World) -> None:
    eventually(lambda: world.condition("Ready").get("status") == "True", SECONDS, world.why)
    eventually(lambda: world.get("node", NODE), SECONDS, world.why)
    node = world.get("node", NODE)
    labels = labels_of(node)
    assert labels["hypervisor.kubevirt.io/endpoint"] == NAME
    assert "kubernetes.io/os" not in labels
    assert node["spec"]["providerID"] == f"polyvisor://{world.get('hypervisorendpoint', NAME)['metadata']['uid']}"
    assert node["spec"]["taints"][0]["effect"] == "NoSchedule"
    assert read_status(node)["capacity"]["pods"] == "1k"
    assert world.get("lease", NODE, "-n", "kube-node-lease")["spec"]["holderIdentity"] == NODE


def test_a_machine_runs_there(world: World) -> None:
    world.kubectl("apply", "-f-", stdin=json.dumps(machine("afar", NAME)))
    eventually(lambda: world.ready("afar"), 120, world.why)
    assert world.host.virsh("list", "--name").split() == ["default_afar"]


def test_an_agent_that_was_killed_comes_back_to_its_machines(world: World) -> None:
    uid, node = world.vmi("afar")["metadata"]["uid"], world.get("node", NODE)["metadata"]["uid"]
    identifier = world.host.virsh("domid", "default_afar")
    world.kill()
    world.start()
    eventually(lambda: world.installation.ready("agent"), SECONDS, world.why)
    assert world.vmi("afar")["metadata"]["uid"] == uid
    assert world.get("node", NODE)["metadata"]["uid"] == node
    assert world.host.virsh("domid", "default_afar") == identifier


def test_of_two_agents_one_works(world: World) -> None:
    eventually(lambda: world.holder() == "agent", SECONDS)
    world.start("second")
    world.kubectl("apply", "-f-", stdin=json.dumps(machine("near", NAME)))
    eventually(lambda: world.ready("near"), 120, world.why)
    assert not world.installation.ready("second")
    assert world.holder() == "agent"
    os.kill(world.installation.running["agent"].pid, 19)  # SIGSTOP: it does not know that time passes
    eventually(lambda: world.holder() == "second", SECONDS, world.why)
    eventually(lambda: world.installation.ready("second"), SECONDS, world.why)
    held_up = world.installation.running.pop("agent")
    os.kill(held_up.pid, 18)
    assert held_up.wait(SECONDS) == 1, "it has seen that another holds the Lease"
    assert sorted(world.host.virsh("list", "--name").split()) == ["default_afar", "default_near"]


def test_a_machine_is_deleted(world: World) -> None:
    world.kubectl("delete", "vm", "afar", "near", "--timeout=100s")
    eventually(lambda: not world.host.virsh("list", "--all", "--name"), SECONDS, world.why)
    eventually(lambda: not world.get("pods").get("items"), SECONDS, world.why)
