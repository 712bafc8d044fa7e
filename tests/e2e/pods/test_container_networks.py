"""Containers in launcher Pods of a real node, on their Pods' networks: each reaches the other's Service by its name.

The cluster has no DNS; a server on the node plays it, which the machines are told of as any Pod is, by ``dnsConfig``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import VMIS, Shell, shell, until
from tests.e2e.installation import eventually
from tests.e2e.nodes import TOP, NodesCluster
from tests.e2e.pods.machines import PREFIX, SECONDS, claim, get, gone, image, pod_of, why
from tests.e2e.pods.test_networks import fetch
from tests.e2e.test_networks import forwarded

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
DOMAIN = "default.svc.cluster.local"
PORT = 8080
ROOTS: dict[str, dict[str, Any]] = {
    "masquerade": {"containerDisk": image("demo-rootfs")},
    "bridge": {"persistentVolumeClaim": {"claimName": "container-root"}},
}
"""Where the container with each binding has its root from."""


def name_of(binding: str) -> str:
    return f"box-{binding}"


def machine(binding: str, server: str) -> dict[str, Any]:
    card = {"name": "default", binding: {}}
    if binding == "masquerade":
        card["ports"] = [{"port": PORT}]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name_of(binding), "labels": {"app": name_of(binding)}},
        "spec": {
            "hypervisor": {"driver": "lxc"},
            "terminationGracePeriodSeconds": 0,
            "domain": {"memory": {"guest": "96Mi"}, "devices": {"interfaces": [card]}},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", **ROOTS[binding]}],
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": [server], "searches": [DOMAIN]},
        },
    }


@pytest.fixture(scope="module")
def services(pods: NodesCluster) -> Iterator[dict[str, str]]:
    """Make the machines' Services; give their addresses, which the name server knows too."""
    found = {}
    for binding in ROOTS:
        pods.kubectl("create", "service", "clusterip", name_of(binding), f"--tcp=80:{PORT}")
        found[binding] = str(get(pods, "service", name_of(binding))["spec"]["clusterIP"])
    node = pods.nodes[0]
    names = [f"--address=/{name_of(binding)}.{DOMAIN}/{address}" for binding, address in found.items()]
    only = ("--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={node.address}")
    pid = node.folder / "names.pid"
    node.run("dnsmasq", "--conf-file=/dev/null", f"--pid-file={pid}", "--user=root", *only, *names)
    yield found
    node.run("kill", pid.read_text().strip())
    for binding in ROOTS:
        pods.kubectl("delete", "service", name_of(binding))


@pytest.fixture(scope="module")
def client(pods: NodesCluster, services: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run the machines; the claim's root is the demo container's, which knows of no name server."""
    node = pods.nodes[0]
    tree = ImageStore(TOP / "build/images", tmp_path_factory.mktemp("cache")).tree(f"{PREFIX}demo-rootfs:1")
    root = node.folder / "lib/polyvisor/claims/container-root"
    root.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", "-T", tree, root], check=True)
    pods.kubectl("apply", "--filename=-", stdin=claim("container-root"))
    for binding in ROOTS:
        pods.kubectl("apply", "--filename=-", stdin=json.dumps(machine(binding, node.address)))
    client = Client(from_kubeconfig(Path(pods.kubeconfig)))
    for binding in ROOTS:
        name = name_of(binding)

        def running(name: str = name) -> bool:
            status = client.get(f"{VMIS}/{name}").get("status") or {}
            return status.get("phase") == "Running" and bool(status["interfaces"][0].get("ipAddress"))

        eventually(running, SECONDS, lambda name=name: why(pods, name))
        with shell(client, name) as console:
            serve = f"mkdir -p /w; echo page of {name} >/w/index.html; httpd -p {PORT} -h /w; httpd -p 9090 -h /w"
            console.says(f"{serve}; echo serv''ing", rb"serving")
    yield client
    for binding in ROOTS:
        gone(pods, "vmi", name_of(binding))


def awaits(console: Shell, command: str, said: str) -> None:
    """Repeat a command in a container until it says what is wanted."""
    console.says(f"until {command} | grep '{said}'; do sleep 0.2; done; echo se''en", rb"seen")


@pytest.mark.parametrize(("binding", "other"), [("masquerade", "bridge"), ("bridge", "masquerade")])
def test_a_container_reaches_a_service_by_its_name(client: Client, binding: str, other: str) -> None:
    with shell(client, name_of(binding)) as console:
        awaits(console, f"timeout 5 wget -q -O - http://{name_of(other)}", f"page of {name_of(other)}")
        awaits(console, f"timeout 5 wget -q -O - http://{name_of(other)}.{DOMAIN}", f"page of {name_of(other)}")


@pytest.mark.parametrize("binding", ROOTS)
def test_a_container_is_reached_as_its_pod_is(
    pods: NodesCluster, services: dict[str, str], client: Client, binding: str
) -> None:
    name = name_of(binding)
    (card,) = until(client, name, lambda status: status["interfaces"])["interfaces"]
    address, address6 = (one["ip"] for one in pod_of(pods, name)["status"]["podIPs"])
    assert (card["ipAddress"], card["podInterfaceName"]) == (address, "eth0")
    inner = "10.0.2.2" if binding == "masquerade" else address
    said = f"page of {name}\n"
    with shell(client, name) as console:
        awaits(console, "ip -4 -o address show eth0", f"inet {inner}/24")
        if binding == "masquerade":
            awaits(console, "ip -6 -o address show eth0", "inet6 fd10:0:2::2/120")
            awaits(console, f"busybox ping6 -c 1 -w 5 {IPv6Network(pods.nodes[0].pods6)[1]}", "1 packets received")
    assert card["ipAddresses"] == ([address, address6] if binding == "masquerade" else [address])
    if binding == "masquerade":
        assert fetch(pods, f"[{address6}]", PORT) == said
        assert fetch(pods, f"[{address6}]", 9090) == ""
    assert fetch(pods, address, PORT) == said
    assert fetch(pods, address, 9090) == ("" if binding == "masquerade" else said)
    eventually(lambda: fetch(pods, services[binding], 80) == said, SECONDS)
    assert said.strip() in forwarded(client, name, PORT)


def test_a_root_in_a_claim_is_told_of_the_name_server(pods: NodesCluster, client: Client) -> None:
    root = pods.nodes[0].folder / "lib/polyvisor/claims/container-root"
    assert f"nameserver {pods.nodes[0].address}\nsearch {DOMAIN}\n" in (root / "etc/resolv.conf").read_text()
