"""Polyvisor on real nodes: its images, its Pods, machines in launcher Pods, and nothing left when they are gone.

The tests are one life of a cluster and run in this order: installed, used, upgraded, uninstalled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml

from polyvisor.api import names
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import eventually
from tests.e2e.node import CGROUPS, Node
from tests.e2e.node_images import demo_guests
from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images
from tests.needs import unmet

Obj = dict[str, Any]
pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SECONDS = 180
OURS = re.compile("polyvisor[.]|qemu-system|libvirt")
READY = "polyvisor-demo: ready"
MACHINES = {
    "demo-qemu": """
hypervisor: {driver: qemu}
terminationGracePeriodSeconds: 10
domain:
  memory: {guest: 96Mi}
  firmware:
    kernelBoot:
      kernelArgs: console=ttyS0 quiet
      container:
        image: localhost/polyvisor/demo-kernel:1
        kernelPath: /boot/vmlinuz
        initrdPath: /boot/initrd.img
  devices:
    disks: [{name: data, disk: {bus: virtio}}]
volumes: [{name: data, containerDisk: {image: "localhost/polyvisor/demo-disk:1"}}]
""",
    "demo-lxc": """
hypervisor: {driver: lxc}
terminationGracePeriodSeconds: 10
domain:
  memory: {guest: 64Mi}
  devices:
    autoattachPodInterface: false
    disks: [{name: root}]
volumes: [{name: root, containerDisk: {image: "localhost/polyvisor/demo-rootfs:1"}}]
""",
}


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


def phase(nodes: NodesCluster, name: str) -> str:
    return str((get(nodes, "vmi", name).get("status") or {}).get("phase"))


def launcher(nodes: NodesCluster, name: str) -> Obj:
    (pod,) = get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
    return dict(pod)


def why(nodes: NodesCluster) -> str:
    told = nodes.kubectl("get", "vmi,pods,events", "--output=wide", check=False)
    logs = nodes.kubectl("logs", "--selector=kubevirt.io=virt-launcher", "--all-containers", check=False)
    return told + logs


def left(node: Node, uid: str) -> list[str]:
    """Return what is on a node of a Pod: folders, mounts, control groups."""
    kubelet = node.root / "var/lib/kubelet/pods"
    groups = CGROUPS.glob(f"*/{node.space}/kubepods/**/pod{uid}")
    found = [*kubelet.glob(uid), *groups, *(mount for mount in node.mounts() if uid in mount)]
    return [str(one) for one in found]


def test_components_are_ready_and_nodes_show_what_they_found(nodes: NodesCluster) -> None:
    for deployment in ("virt-api", "virt-controller"):
        assert get(nodes, "deployment", deployment, "--namespace=kubevirt")["status"]["readyReplicas"] == 2
    assert get(nodes, "daemonset", "virt-handler", "--namespace=kubevirt")["status"]["numberReady"] == 2
    pods = get(nodes, "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-api")["items"]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2

    def labels(node: str) -> Obj:
        return dict(get(nodes, "node", node)["metadata"]["labels"])

    for node in nodes.nodes:
        eventually(lambda name=node.name: labels(name).get(names.NODE_SCHEDULABLE_LABEL) == "true", SECONDS)
        for label in (names.virt_type_label("qemu", "qemu"), names.virt_type_label("lxc", "lxc")):
            eventually(lambda name=node.name, label=label: labels(name).get(label) == "true", SECONDS)


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_in_a_launcher_pod(nodes: NodesCluster, name: str) -> None:
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": yaml.safe_load(MACHINES[name])}}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}, "spec": body}
    nodes.kubectl("apply", "--filename=-", stdin=json.dumps(vm))
    eventually(lambda: name in nodes.kubectl("get", "vmi", "--output=name"), SECONDS)
    eventually(lambda: phase(nodes, name) == "Running", SECONDS, lambda: why(nodes))
    log = ("logs", launcher(nodes, name)["metadata"]["name"], "--container=guest-console-log")

    def said() -> str:
        return nodes.kubectl(*log, check=False)

    eventually(lambda: READY in said(), SECONDS, lambda: f"{said()}\n{why(nodes)}")


def test_a_launcher_without_privilege(nodes: NodesCluster) -> None:
    """Where its driver needs none, what the kernel says of the process is what the Pod promises."""
    uid = launcher(nodes, "demo-qemu")["metadata"]["uid"]
    node = next(node for node in nodes.nodes if node.name == launcher(nodes, "demo-qemu")["spec"]["nodeName"])
    seen = {}
    for status in (node.root / "proc").glob("[0-9]*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if uid in (status.parent / "cgroup").read_text():
                lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
                seen[lines["Name"]] = lines
    assert any(name.startswith("qemu-system") for name in seen), list(seen)
    for name, lines in seen.items():
        if name == "pause":
            continue
        assert set(lines["Uid"].split()) == {"107"}, name
        assert int(lines["CapEff"], 16) == 0, name
        assert lines["NoNewPrivs"] == "1", name
        assert lines["Seccomp"] == "2", name


@pytest.mark.parametrize("name", MACHINES)
def test_its_console_through_the_aggregated_api(nodes: NodesCluster, name: str) -> None:
    """What is answered was computed in the guest."""
    assert "login" in nodes.polyvisor("console", name, stdin="\nroot\n")
    eventually(lambda: computed(nodes, name, 42), SECONDS)


def computed(nodes: NodesCluster, name: str, number: int) -> bool:
    """Have a guest whose console is logged in work something out."""
    return f"sum {number}." in nodes.polyvisor("console", name, stdin=f"echo sum $(({number} + 0)).\n")


def test_an_upgrade_leaves_machines_running(nodes: NodesCluster) -> None:
    before = {name: get(nodes, "vmi", name)["metadata"]["uid"] for name in MACHINES}
    pods = {name: launcher(nodes, name)["metadata"]["uid"] for name in MACHINES}
    changed = "{requests: {cpu: 21m, memory: 150Mi}}"
    nodes.install(
        *(word for part in ("api", "controller", "handler") for word in ("--set", f"{part}.resources={changed}"))
    )
    assert {name: get(nodes, "vmi", name)["metadata"]["uid"] for name in MACHINES} == before
    assert {name: launcher(nodes, name)["metadata"]["uid"] for name in MACHINES} == pods
    for name in MACHINES:
        assert phase(nodes, name) == "Running"
        eventually(lambda name=name: computed(nodes, name, 55), SECONDS)


def test_the_cluster_says_that_it_is_ready(nodes: NodesCluster) -> None:
    kubevirt = get(nodes, "kubevirt", "kubevirt", "--namespace=kubevirt")
    status = kubevirt["status"]
    assert status["phase"] == "Deployed"
    assert status["observedGeneration"] == kubevirt["metadata"]["generation"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == {"Created": "True", "Available": "True", "Progressing": "False", "Degraded": "False"}


def test_uninstalling_is_refused_while_machines_run(nodes: NodesCluster) -> None:
    refused = nodes.polyvisor("uninstall", check=False)
    assert "2 machines run" in refused, refused
    assert all(phase(nodes, name) == "Running" for name in MACHINES)


def test_a_deleted_machine_leaves_nothing_on_its_node(nodes: NodesCluster) -> None:
    pod = launcher(nodes, "demo-qemu")
    uid = pod["metadata"]["uid"]
    node = next(node for node in nodes.nodes if node.name == pod["spec"]["nodeName"])
    assert left(node, uid), "the test looks at the right places"
    nodes.kubectl("delete", "vm", "demo-qemu", "--wait=true", f"--timeout={SECONDS}s")
    eventually(lambda: not get(nodes, "pods", "--selector=vm.kubevirt.io/name=demo-qemu")["items"], SECONDS)
    eventually(lambda: not left(node, uid), SECONDS, lambda: str(left(node, uid)))
    assert not [command for command in node.processes() if "qemu-system" in command]


def test_uninstalling_leaves_nothing(nodes: NodesCluster) -> None:
    told = nodes.polyvisor("uninstall", "--delete-machines")
    assert "Polyvisor is uninstalled" in told
    assert "/var/lib/polyvisor" in told, "what stays on nodes is said"
    assert "kubevirt" not in nodes.kubectl("get", "namespaces,crds,apiservices,clusterroles", "--output=name")
    for node in nodes.nodes:
        metadata = get(nodes, "node", node.name)["metadata"]
        assert not [key for key in (*metadata["labels"], *metadata["annotations"]) if "kubevirt.io" in key]
        eventually(lambda node=node: not OURS.search("\n".join(node.processes())), SECONDS)
