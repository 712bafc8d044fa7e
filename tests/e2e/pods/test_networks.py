"""A guest in a launcher Pod of a real node: its ports by the Pod's address and by a Service, from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import shell, until
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

pytestmark = pytest.mark.e2e
KERNEL = "localhost/polyvisor/demo-kernel:1"


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


def fetch(pods: NodesCluster, address: str, port: int) -> str:
    """Fetch a page from the node's network, which is not the Pod's; one attempt, not for ever.

    What is sent to a Service before the node's rules know it is lost, and so is all that follows of that connection.
    """
    command = ("timeout", "5", "busybox", "wget", "-q", "-O", "-", f"http://{address}:{port}")
    return pods.nodes[0].run(*command, check=False).stdout


@pytest.mark.parametrize("binding", ["masquerade", "bridge"])
def test_a_guests_ports_are_the_pods(pods: NodesCluster, binding: str) -> None:
    ports = {"ports": [{"port": 8080}]} if binding == "masquerade" else {}
    pods.kubectl("apply", "-f", "-", stdin=json.dumps(machine(binding, {binding: {}, **ports})))
    client = Client(from_kubeconfig(Path(pods.kubeconfig)))
    status = until(client, binding, lambda s: s.get("phase") == "Running" and s["interfaces"][0].get("ipAddress"), 240)
    (card,) = status["interfaces"]
    (pod,) = json.loads(pods.kubectl("get", "pods", "-l", f"app={binding}", "-o", "json"))["items"]
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
    assert fetch(pods, card["ipAddress"], 8080) == f"page of {binding}\n"
    assert fetch(pods, card["ipAddress"], 9090) == ("" if binding == "masquerade" else f"page of {binding}\n")
    pods.kubectl("expose", "pod", pod["metadata"]["name"], "--name", binding, "--port", "80", "--target-port", "8080")
    service = json.loads(pods.kubectl("get", "service", binding, "-o", "json"))["spec"]["clusterIP"]
    eventually(lambda: fetch(pods, service, 80) == f"page of {binding}\n", seconds=60)
    pods.kubectl("delete", "vmi", binding, "--wait=false")
    eventually(lambda: not pods.kubectl("get", "pods", "-l", f"app={binding}", "-o", "name"), seconds=120)
    state = pods.nodes[0].root / "var/lib/polyvisor/networks"
    eventually(lambda: not list(state.glob("*/dnsmasq.pid")), seconds=60)
