"""What a start in a launcher Pod must not do: nothing is throttled, probed or run twice. Nothing here is timed."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from polyvisor.api.names import LAUNCHER_VOLUME
from tests.e2e.cluster import KUBECTL
from tests.e2e.installation import eventually
from tests.e2e.node import CGROUPS, Node
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, get, gone, image, machine, phase, pod_of, why

pytestmark = pytest.mark.e2e
NAME = "start"
MOST_THROTTLED = 5
"""Periods of 0.1 s in which a container may be throttled until its machine runs."""
SETTLE_SECONDS = 3.0
"""What comes after a start would come by then, and nothing tells that it does not."""
THROTTLED = re.compile(r"^nr_throttled (\d+)$", re.MULTILINE)
VOLUMES = [{"name": "data", "containerDisk": image("demo-disk")}]
DEVICES = {"disks": [{"name": "data", "disk": {"bus": "virtio"}}]}


class Throttled(threading.Thread):
    """Reads how often each container of a node was throttled, by its id, again and again: ended ones leave nothing."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, int] = {}
        self._node = node
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            for groups in CGROUPS.glob(f"*/{self._node.space}/kubepods"):
                for folder, _, files in os.walk(groups):  # which passes over what goes meanwhile
                    if "cpu.stat" in files:
                        self._read(Path(folder))

    def _read(self, group: Path) -> None:
        with suppress(OSError):  # it has ended
            if found := THROTTLED.search((group / "cpu.stat").read_text()):
                self.seen[group.name] = int(found[1])

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def watched(node: Node) -> Iterator[Throttled]:
    one = Throttled(node)
    one.start()
    try:
        yield one
    finally:
        one.stop()


class Versions(threading.Thread):
    """Notes each version of the machine that a watch tells of; a watch leaves none out."""

    def __init__(self, nodes: NodesCluster) -> None:
        super().__init__(daemon=True)
        self.seen: list[str] = []
        command = [KUBECTL, f"--kubeconfig={nodes.kubeconfig}", "get", "vmi", f"--field-selector=metadata.name={NAME}"]
        command += ["--watch", "--output=jsonpath={.metadata.resourceVersion} {.status.phase}{'\\n'}"]
        environment = {**os.environ, "HOME": str(nodes.folder)}
        self._watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.start()

    def run(self) -> None:
        assert self._watch.stdout is not None
        for line in self._watch.stdout:
            self.seen.append(line.strip())

    def stop(self) -> list[str]:
        self._watch.terminate()
        self.join()
        self._watch.wait()
        return self.seen


def running(nodes: NodesCluster) -> None:
    nodes.kubectl("apply", "-f-", stdin=machine(NAME, "qemu", DEVICES, VOLUMES, firmware=FIRMWARE))
    eventually(lambda: phase(nodes, "vmi", NAME) == "Running", SECONDS, lambda: why(nodes, NAME))


@pytest.fixture
def throttled(pods: NodesCluster) -> Iterator[dict[str, int]]:
    """Start a machine; give how often each of its containers was throttled, by name."""
    with watched(pods.nodes[0]) as seen:
        running(pods)
    status = pod_of(pods, NAME)["status"]
    found = {
        one["name"]: seen.seen.get(one["containerID"].rpartition("/")[2], -1) for one in status["containerStatuses"]
    }
    yield found
    gone(pods, "vmi", NAME)


def folder_of(nodes: NodesCluster) -> Path:
    uid = pod_of(nodes, NAME)["metadata"]["uid"]
    return nodes.nodes[0].root / "var/lib/kubelet/pods" / uid / "volumes/kubernetes.io~empty-dir" / LAUNCHER_VOLUME


def processes(nodes: NodesCluster, container: str) -> list[str]:
    """Return the names of a container's processes."""
    (found,) = [one for one in pod_of(nodes, NAME)["status"]["containerStatuses"] if one["name"] == container]
    identity = found["containerID"].rpartition("/")[2]
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if identity in (process / "cgroup").read_text():
                names.append((process / "comm").read_text().strip())
    return names


def test_a_start_does_nothing_needless(pods: NodesCluster, throttled: dict[str, int]) -> None:
    assert set(throttled) >= {"compute", "guest-console-log", "volumedata"}
    assert all(0 <= periods <= MOST_THROTTLED for periods in throttled.values()), throttled

    compute = processes(pods, "compute")
    assert len([name for name in compute if name.startswith("python")]) == 1, compute

    for container in ("volumedata", "volumekernel-boot-volume"):
        assert len(processes(pods, container)) == 1, container

    folder = folder_of(pods)
    begun = (folder / "launcher.pid").stat().st_mtime_ns
    answers = list((folder / "root/cache/qemu/capabilities").glob("*"))
    assert answers, "libvirt keeps what it knows of QEMU"
    late = [file.name for file in answers if file.stat().st_mtime_ns > begun]
    assert not late, f"libvirt probed QEMU in the launcher: {late}"


def test_a_start_takes_few_writes(pods: NodesCluster) -> None:
    versions = Versions(pods)
    try:
        running(pods)
        gate = "{.status.conditions[?(@.type=='kubevirt.io/virtual-machine-unpaused')].status}"
        name = pod_of(pods, NAME)["metadata"]["name"]
        eventually(lambda: pods.kubectl("get", "pod", name, f"--output=jsonpath={gate}") == "True", SECONDS)
        time.sleep(SETTLE_SECONDS)
    finally:
        seen = versions.stop()
        gone(pods, "vmi", NAME)
    assert [line.partition(" ")[2] for line in seen] == ["Pending", "Scheduling", "Running"], seen


def test_the_agents_image_has_no_hypervisor(pods: NodesCluster) -> None:
    (agent,) = get(pods, "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-handler")["items"]
    inside = ("--namespace=kubevirt", agent["metadata"]["name"], "--container=virt-handler", "--")
    found = pods.kubectl("exec", *inside, "sh", "-c", "ls /usr/bin/qemu-system-* /usr/sbin/libvirtd; true")
    assert not found.split(), found
