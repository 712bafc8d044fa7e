"""Device plugins against a real kubelet: what a Node has, what a container gets, and a kubelet that restarts."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.node.devices.keeper import DeviceKeeper
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import eventually
from tests.e2e.node import PAUSE, Node
from tests.e2e.nodes import NodesCluster, cluster_with_nodes
from tests.needs import unmet

pytestmark = [pytest.mark.e2e, pytest.mark.proof, pytest.mark.root]
KVM = "devices.kubevirt.io/kvm"
RANDOM = os.makedev(1, 8)


@contextmanager
def offered(keeper: DeviceKeeper) -> Iterator[None]:
    """Run the keeper beside the test, whose calls block."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(keeper.run())

    def work() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            return

    thread = threading.Thread(target=work)
    thread.start()
    yield
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def one() -> Iterator[NodesCluster]:
    try:
        with cluster_with_nodes(1) as found:
            yield found
    except NoGo as missing:
        unmet(str(missing))


def _allocatable(cluster: NodesCluster) -> dict[str, str]:
    node: dict[str, Any] = json.loads(cluster.kubectl("get", "node", "node1", "-o", "json"))
    return {key: value for key, value in node["status"]["allocatable"].items() if key.startswith("devices.")}


def _in_container(node: Node, path: Path) -> os.stat_result:
    """Look at a device from inside the one container that was given it, through its process's root."""
    for entry in (node.root / "proc").glob("[0-9]*"):
        found = entry / "root" / path.relative_to("/")
        if (entry / "cmdline").read_bytes().startswith(b"/pause") and found.exists():
            return found.stat()
    raise AssertionError(node.processes())


def test_a_node_has_devices_to_give_and_a_container_gets_its_own(one: NodesCluster, tmp_path: Path) -> None:
    (node,) = one.nodes
    folder = node.folder / "lib/kubelet/device-plugins"
    device = node.folder / "kvm"
    os.mknod(device, stat.S_IFCHR | 0o660, RANDOM)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asks"},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "image": PAUSE, "resources": {"limits": {KVM: "1"}}}],
            "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
        },
    }
    devices = {"kvm": device, "tun": tmp_path / "none"}
    with offered(DeviceKeeper(folder, devices, node.folder / "own", seconds=0.1)):
        eventually(
            lambda: _allocatable(one) == {KVM: "1k", "devices.kubevirt.io/tun": "0"}, why=lambda: str(_allocatable(one))
        )
        one.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        one.kubectl("wait", "--for=condition=Ready", "pod/asks", "--timeout=40s")
        inside = _in_container(node, device)
        assert (inside.st_rdev, stat.S_IMODE(inside.st_mode)) == (RANDOM, 0o666), "for a user of no group"
        device.unlink()
        eventually(lambda: _allocatable(one)[KVM] == "0")
        os.mknod(device, stat.S_IFCHR | 0o660, RANDOM)
        eventually(lambda: _allocatable(one)[KVM] == "1k")
        node.stop("kubelet")
        node.start("kubelet")
        eventually(lambda: len(list(folder.glob("polyvisor-*.sock"))) == 2)
        eventually(lambda: _allocatable(one)[KVM] == "1k", why=lambda: node.tail("kubelet"))
        one.kubectl("wait", "--for=condition=Ready", "pod/asks", "--timeout=40s")
    one.kubectl("delete", "pod", "asks", "--now")
