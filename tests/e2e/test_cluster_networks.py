"""A guest in a launcher Pod of a real node: its ports by the Pod's address and by a Service, from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.images import ImageStore
from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.goprograms import NoGo
from tests.e2e.guest_shell import shell, until
from tests.e2e.installation import eventually
from tests.e2e.node_images import archive
from tests.e2e.nodes import TOP, NodesCluster, cluster_with_nodes, images

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="nodes need root")]
KERNEL = "localhost/polyvisor/demo-kernel:1"
PARTS = ("virt-api", "virt-controller", "virt-handler", "launcher-qemu")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesCluster]:
    base = tmp_path_factory.mktemp("guest")
    layout = TOP / "build" / "images"
    subprocess.run([sys.executable, TOP / "tools" / "guest_images.py", layout], check=True)
    store = ImageStore(layout, base / "cache")
    files = {name: store.file(KERNEL, f"/{name}").read_bytes() for name in ("boot/vmlinuz", "boot/initrd.img")}
    guest = base / "guest.tar"
    guest.write_bytes(archive(KERNEL, files, 0o644, {}))
    try:
        with cluster_with_nodes(1, [*images(*PARTS), guest]) as found:
            found.install()
            yield found
    except NoGo as missing:
        pytest.skip(str(missing))


def machine(name: str, card: dict[str, Any]) -> dict[str, Any]:
    paths = {"kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
    kernel = {"image": KERNEL, "imagePullPolicy": "Never", **paths}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "hypervisor": {"driver": "qemu"},
            "domain": {
                "memory": {"guest": "96Mi"},
                "devices": {"interfaces": [{"name": "default", **card}], "autoattachGraphicsDevice": False},
                "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": kernel}},
            },
            "networks": [{"name": "default", "pod": {}}],
        },
    }


def fetch(cluster: NodesCluster, address: str, port: int) -> str:
    """Fetch a page from the node's network, which is not the Pod's."""
    command = ("busybox", "wget", "-q", "-O", "-", f"http://{address}:{port}")
    return cluster.nodes[0].run(*command, check=False).stdout


@pytest.mark.parametrize("binding", ["masquerade", "bridge"])
def test_a_guests_ports_are_the_pods(cluster: NodesCluster, binding: str) -> None:
    ports = {"ports": [{"port": 8080}]} if binding == "masquerade" else {}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(machine(binding, {binding: {}, **ports})))
    client = Client(from_kubeconfig(Path(cluster.kubeconfig)))
    status = until(client, binding, lambda s: s.get("phase") == "Running" and s["interfaces"][0].get("ipAddress"), 240)
    (card,) = status["interfaces"]
    (pod,) = json.loads(cluster.kubectl("get", "pods", "-l", f"app={binding}", "-o", "json"))["items"]
    assert pod["status"]["podIP"] == card["ipAddress"]
    (compute,) = [one for one in pod["spec"]["containers"] if one["name"] == "compute"]
    assert compute["resources"]["limits"]["devices.kubevirt.io/tun"] == "1"
    assert compute["securityContext"]["allowPrivilegeEscalation"] is False
    inner = "10.0.2.2/24" if binding == "masquerade" else card["ipAddress"]
    with shell(client, binding) as console:
        for port in (8080, 9090):
            page = f"mkdir -p /w; echo page of {binding} >/w/index.html"
            console.says(f"{page}; httpd -p {port} -h /w; echo serv''ing", rb"serving")
        console.says("until ip -4 address show eth0 | grep inet; do sleep 0.2; done", inner.encode())
    assert fetch(cluster, card["ipAddress"], 8080) == f"page of {binding}\n"
    assert fetch(cluster, card["ipAddress"], 9090) == ("" if binding == "masquerade" else f"page of {binding}\n")
    cluster.kubectl(
        "expose", "pod", pod["metadata"]["name"], "--name", binding, "--port", "80", "--target-port", "8080"
    )
    service = json.loads(cluster.kubectl("get", "service", binding, "-o", "json"))["spec"]["clusterIP"]
    eventually(lambda: fetch(cluster, service, 80) == f"page of {binding}\n", seconds=60)
    cluster.kubectl("delete", "vmi", binding, "--wait=false")
    eventually(lambda: not cluster.kubectl("get", "pods", "-l", f"app={binding}", "-o", "name"), seconds=120)
    state = cluster.nodes[0].root / "var/lib/polyvisor/networks"
    eventually(lambda: not list(state.glob("*/dnsmasq.pid")), seconds=60)
