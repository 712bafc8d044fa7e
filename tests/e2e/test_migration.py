"""Live migration between two real nodes: a guest that counts goes on counting elsewhere, and a drain moves it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.goprograms import NoGo
from tests.e2e.guest_shell import shell
from tests.e2e.installation import eventually
from tests.e2e.node import Node
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images
from tests.needs import unmet

Obj = dict[str, Any]
pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SECONDS = 180
NAME = "counts"
COUNTING = "(i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done) & echo be''gun"


def machine(name: str) -> Obj:
    paths = {"kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    kernel = {"image": "localhost/polyvisor/demo-kernel:1", "imagePullPolicy": "Never", **paths}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "hypervisor": {"driver": "qemu"},
            "evictionStrategy": "LiveMigrate",
            "domain": {
                "memory": {"guest": "96Mi"},
                "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
                "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": kernel}},
            },
            "networks": [{"name": "default", "pod": {}}],
        },
    }


def migration(name: str, vmi: str) -> str:
    return json.dumps(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": name},
            "spec": {"vmiName": vmi},
        }
    )


@pytest.fixture(scope="module")
def nodes() -> Iterator[NodesCluster]:
    try:
        with cluster_with_nodes(2, [*images(), demo_guests()]) as found:
            found.install()
            yield found
    except NoGo as missing:
        unmet(str(missing))


def get(nodes: NodesCluster, *what: str) -> Obj:
    return dict(json.loads(nodes.kubectl("get", *what, "--output=json")))


def status(nodes: NodesCluster, kind: str, name: str) -> Obj:
    return get(nodes, kind, name).get("status") or {}


def why(nodes: NodesCluster) -> str:
    told = nodes.kubectl("get", "vmi,vmim,pods", "--output=wide", check=False)
    told += nodes.kubectl("get", "vmi", NAME, "--output=yaml", check=False)[-3000:]
    told += nodes.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
    told += nodes.kubectl(
        "logs", "--selector=kubevirt.io=virt-launcher", "--container=compute", "--tail=30", check=False
    )
    for app in ("virt-handler", "virt-controller"):
        log = ("logs", "--namespace=kubevirt", f"--selector=kubevirt.io={app}", f"--container={app}", "--tail=40")
        told += nodes.kubectl(*log, check=False)
    return told


def processes(node: Node) -> int:
    """Return how many guests run on a node."""
    return len([command for command in node.processes() if "qemu-system" in command and "-uuid" in command])


def count(nodes: NodesCluster) -> int:
    with shell(Client(from_kubeconfig(Path(nodes.kubeconfig))), NAME) as console:
        return int(console.says("echo count $(cat /count).", rb"count (\d+)\.")[1])


def over(nodes: NodesCluster, name: str) -> str:
    """Wait for the end of a migration; return its phase."""
    eventually(lambda: status(nodes, "vmim", name).get("phase") in ("Succeeded", "Failed"), SECONDS, lambda: why(nodes))
    return str(status(nodes, "vmim", name)["phase"])


def is_alone(nodes: NodesCluster, where: str) -> None:
    """Wait until the guest runs on one node and nowhere else."""
    for node in nodes.nodes:
        wanted = int(node.name == where)
        eventually(lambda node=node, wanted=wanted: processes(node) == wanted, SECONDS, lambda: why(nodes))


def test_a_guest_starts_and_can_be_moved(nodes: NodesCluster) -> None:
    nodes.kubectl("apply", "--filename=-", stdin=json.dumps(machine(NAME)))
    eventually(lambda: status(nodes, "vmi", NAME).get("phase") == "Running", SECONDS, lambda: why(nodes))

    def movable() -> bool:
        found = status(nodes, "vmi", NAME).get("conditions") or []
        return any(one["type"] == "LiveMigratable" and one["status"] == "True" for one in found)

    eventually(movable, SECONDS, lambda: why(nodes))
    with shell(Client(from_kubeconfig(Path(nodes.kubeconfig))), NAME) as console:
        console.says(COUNTING, rb"begun")


@pytest.mark.parametrize("name", ["there", "back"])
def test_it_counts_on_elsewhere(nodes: NodesCluster, name: str) -> None:
    before, source = count(nodes), status(nodes, "vmi", NAME)["nodeName"]
    uid = get(nodes, "vmi", NAME)["metadata"]["uid"]
    nodes.kubectl("apply", "--filename=-", stdin=migration(name, NAME))
    assert over(nodes, name) == "Succeeded", why(nodes)
    vmi = get(nodes, "vmi", NAME)
    assert vmi["metadata"]["uid"] == uid
    assert vmi["status"]["phase"] == "Running"
    assert vmi["status"]["nodeName"] != source
    assert vmi["metadata"]["labels"]["kubevirt.io/nodeName"] == vmi["status"]["nodeName"]
    state = vmi["status"]["migrationState"]
    assert (state["sourceNode"], state["targetNode"]) == (source, vmi["status"]["nodeName"])
    assert state["completed"]
    is_alone(nodes, vmi["status"]["nodeName"])
    first = count(nodes)
    assert first > before
    eventually(lambda: count(nodes) > first, SECONDS)

    def living() -> list[str]:
        pods = get(nodes, "pods", f"--selector=kubevirt.io/created-by={uid}")["items"]
        return [pod["spec"]["nodeName"] for pod in pods if pod["status"]["phase"] == "Running"]

    eventually(lambda: living() == [vmi["status"]["nodeName"]], SECONDS, lambda: why(nodes))


def test_a_drain_moves_it(nodes: NodesCluster) -> None:
    before, source = count(nodes), status(nodes, "vmi", NAME)["nodeName"]
    drain = (
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--pod-selector=kubevirt.io=virt-launcher",
        "--timeout=100s",
    )
    nodes.kubectl("drain", source, *drain)
    assert status(nodes, "vmi", NAME)["nodeName"] != source
    is_alone(nodes, status(nodes, "vmi", NAME)["nodeName"])
    assert count(nodes) > before
    nodes.kubectl("uncordon", source)


def test_a_migration_is_given_up(nodes: NodesCluster) -> None:
    """With next to no bandwidth it does not end by itself."""
    slow = {"spec": {"configuration": {"migrations": {"bandwidthPerMigration": "64Ki"}}}}
    nodes.kubectl(
        "patch", "kubevirt", "kubevirt", "--namespace=kubevirt", "--type=merge", f"--patch={json.dumps(slow)}"
    )
    before, source = count(nodes), status(nodes, "vmi", NAME)["nodeName"]
    nodes.kubectl("apply", "--filename=-", stdin=migration("given-up", NAME))
    eventually(lambda: status(nodes, "vmim", "given-up").get("phase") == "Running", SECONDS, lambda: why(nodes))
    refused = nodes.kubectl("create", "--filename=-", stdin=migration("second", NAME), check=False)
    assert "in-flight migration detected" in refused, refused
    nodes.kubectl("delete", "vmim", "given-up", "--wait=true", "--timeout=100s")
    vmi = get(nodes, "vmi", NAME)
    assert vmi["status"]["migrationState"]["abortStatus"] == "Succeeded"
    assert vmi["status"]["nodeName"] == source
    is_alone(nodes, source)
    assert count(nodes) > before


def test_a_launcher_that_is_killed_in_a_migration_leaves_one_guest(nodes: NodesCluster) -> None:
    """The target's: the guest goes on where it was."""
    source = status(nodes, "vmi", NAME)["nodeName"]
    before = count(nodes)
    nodes.kubectl("apply", "--filename=-", stdin=migration("killed", NAME))
    eventually(lambda: status(nodes, "vmim", "killed").get("phase") == "Running", SECONDS, lambda: why(nodes))
    target = status(nodes, "vmi", NAME)["migrationState"]["targetPod"]
    nodes.kubectl("delete", "pod", target, "--grace-period=0", "--force")
    assert over(nodes, "killed") == "Failed"
    is_alone(nodes, source)
    assert status(nodes, "vmi", NAME)["nodeName"] == source
    assert count(nodes) > before


def test_an_agent_that_is_killed_in_a_migration_leaves_one_guest(nodes: NodesCluster) -> None:
    source = status(nodes, "vmi", NAME)["nodeName"]
    before = count(nodes)
    nodes.kubectl("apply", "--filename=-", stdin=migration("agent", NAME))
    eventually(lambda: status(nodes, "vmim", "agent").get("phase") == "Running", SECONDS, lambda: why(nodes))
    agents = get(nodes, "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-handler")["items"]
    for agent in agents:
        if agent["spec"]["nodeName"] == source:
            nodes.kubectl(
                "delete", "pod", agent["metadata"]["name"], "--namespace=kubevirt", "--grace-period=0", "--force"
            )
    assert over(nodes, "agent") == "Failed"
    is_alone(nodes, source)
    eventually(lambda: count(nodes) > before, SECONDS)


def test_a_disk_of_the_node_goes_along(nodes: NodesCluster) -> None:
    """What the guest wrote before is there, and nothing limits the bandwidth any more."""
    fast = {"spec": {"configuration": {"migrations": {"bandwidthPerMigration": None}}}}
    nodes.kubectl(
        "patch", "kubevirt", "kubevirt", "--namespace=kubevirt", "--type=merge", f"--patch={json.dumps(fast)}"
    )
    vmi = machine("disk")
    vmi["spec"]["domain"]["devices"]["disks"] = [{"name": "data", "disk": {"bus": "virtio"}}]
    vmi["spec"]["volumes"] = [{"name": "data", "emptyDisk": {"capacity": "16Mi"}}]
    nodes.kubectl("apply", "--filename=-", stdin=json.dumps(vmi))
    eventually(lambda: status(nodes, "vmi", "disk").get("phase") == "Running", SECONDS, lambda: why(nodes))
    client = Client(from_kubeconfig(Path(nodes.kubeconfig)))
    with shell(client, "disk") as console:
        console.says("echo kept-here | dd of=/dev/vda bs=512 seek=100 conv=fsync; echo writ''ten", rb"written")
    source = status(nodes, "vmi", "disk")["nodeName"]
    nodes.kubectl("apply", "--filename=-", stdin=migration("with-disk", "disk"))
    assert over(nodes, "with-disk") == "Succeeded", why(nodes)
    assert status(nodes, "vmi", "disk")["nodeName"] != source
    assert status(nodes, "vmi", "disk")["migrationMethod"] == "BlockMigration"
    with shell(client, "disk") as console:
        console.says(
            "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 skip=100 count=1 | head -n1", rb"kept-here\r"
        )
