"""What a start in a launcher Pod must not do: nothing is throttled, probed or run twice. Nothing here is timed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from bench.cluster import audit
from polyvisor.api.names import LAUNCHER_VOLUME
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
MOST_AT_END = {"vmi": 3, "vm": 6}
"""Writes from a machine's deletion until it is gone."""
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


def running(nodes: NodesCluster) -> None:
    nodes.kubectl("apply", "-f-", stdin=machine(NAME, "qemu", DEVICES, VOLUMES, firmware=FIRMWARE))
    eventually(lambda: phase(nodes, "vmi", NAME) == "Running", SECONDS, lambda: why(nodes, NAME))


@pytest.fixture(scope="module")
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


def test_a_start_throttles_no_container(throttled: dict[str, int]) -> None:
    assert set(throttled) >= {"compute", "guest-console-log", "volumedata"}
    assert all(0 <= periods <= MOST_THROTTLED for periods in throttled.values()), throttled


def test_a_start_runs_one_process_of_each_kind(pods: NodesCluster, throttled: dict[str, int]) -> None:
    assert throttled
    compute = processes(pods, "compute")
    assert len([name for name in compute if name.startswith("python")]) == 1, compute
    for container in ("volumedata", "volumekernel-boot-volume"):
        assert len(processes(pods, container)) == 1, container


def test_a_start_probes_no_hypervisor(pods: NodesCluster, throttled: dict[str, int]) -> None:
    assert throttled
    folder = folder_of(pods)
    begun = (folder / "launcher.pid").stat().st_mtime_ns
    answers = list((folder / "root/cache/qemu/capabilities").glob("*"))
    assert answers, "libvirt keeps what it knows of QEMU"
    late = [file.name for file in answers if file.stat().st_mtime_ns > begun]
    assert not late, f"libvirt probed QEMU in the launcher: {late}"


@pytest.mark.parametrize(("kind", "most"), [("vmi", 4), ("vm", 8)])
def test_a_start_and_an_end_take_few_writes(pods: NodesCluster, kind: str, most: int) -> None:
    """``most`` is the number of writes until a machine of that kind runs, by all of Polyvisor's parts together."""
    name = f"few-{kind}"
    begin = audit.log(pods.folder).stat().st_size
    try:
        pods.kubectl("apply", "-f-", stdin=virtual_machine(name) if kind == "vm" else plain(name))
        eventually(lambda: has(pods, "vmi", name) and phase(pods, "vmi", name) == "Running", SECONDS)
        gate = "{.status.conditions[?(@.type=='kubevirt.io/virtual-machine-unpaused')].status}"
        pod = pod_of(pods, name)["metadata"]["name"]
        eventually(lambda: pods.kubectl("get", "pod", pod, f"--output=jsonpath={gate}") == "True", SECONDS)
        if kind == "vm":
            eventually(lambda: get(pods, "vm", name)["status"].get("ready") is True, SECONDS)
        time.sleep(SETTLE_SECONDS)
    finally:
        middle, started = written(pods, begin)
        gone(pods, kind, name)
        time.sleep(SETTLE_SECONDS)
        _, ended = written(pods, middle)
    assert sum(started.values()) <= most, started
    assert not [what for _, what in started if what.endswith((" 409", " 404"))], f"conflicts: {started}"
    assert sum(ended.values()) <= MOST_AT_END[kind], ended


def written(pods: NodesCluster, begin: int) -> tuple[int, Counter[tuple[str, str]]]:
    """Return the length of the audit log, and what Polyvisor's accounts have written since it was ``begin`` long."""
    with audit.log(pods.folder).open() as file:
        file.seek(begin)
        found = audit.writes(file, "kubevirt")
        return file.tell(), found


def has(pods: NodesCluster, kind: str, name: str) -> bool:
    return bool(pods.kubectl("get", kind, name, "--ignore-not-found", "--output=name"))


def plain(name: str) -> str:
    return machine(name, "qemu", {}, [], firmware=FIRMWARE)


def virtual_machine(name: str) -> str:
    """Return a VirtualMachine that is to run."""
    spec = yaml.safe_load(plain(name))["spec"]
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": spec}}
    return yaml.safe_dump(
        {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}, "spec": body}
    )


def test_the_agents_image_has_no_hypervisor(pods: NodesCluster) -> None:
    (agent,) = get(pods, "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-handler")["items"]
    inside = ("--namespace=kubevirt", agent["metadata"]["name"], "--container=virt-handler", "--")
    found = pods.kubectl("exec", *inside, "sh", "-c", "ls /usr/bin/qemu-system-* /usr/sbin/libvirtd; true")
    assert not found.split(), found
