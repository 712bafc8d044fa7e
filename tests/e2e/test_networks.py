"""Real guests on real networks: two of QEMU's and a container, on bridges in a network namespace of the test's own."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import trial
from polyvisor.cli.client import Client
from polyvisor.cli.streams import options
from polyvisor.cli.websocket import Websocket
from polyvisor.kube.config import from_kubeconfig
from tests.needs import unmet

from .guest_shell import Shell, shell, until
from .standalone import KERNEL, Standalone, standalone

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
]

BASE = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances"
MORE = {"name": "more", "multus": {"networkName": "more"}}
POD = {"name": "default", "pod": {}}
MACHINES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "nat": (
        "qemu",
        {"interfaces": [{"name": "default", "masquerade": {}, "ports": [{"port": 8080}]}]},
        [{"name": "default", "pod": {"vmNetworkCIDR": "10.11.12.0/24"}}],
    ),
    "flat": (
        "qemu",
        {
            "networkInterfaceMultiqueue": True,
            "interfaces": [
                {"name": "default", "bridge": {}, "dhcpOptions": {"privateOptions": [{"option": 240, "value": "tea"}]}},
                {"name": "more", "bridge": {}, "macAddress": "02:00:00:00:00:77"},
            ],
        },
        [POD, MORE],
    ),
    "box": (
        "lxc",
        {"interfaces": [{"name": "default", "masquerade": {}}, {"name": "more", "bridge": {}}]},
        [POD, MORE],
    ),
}
WEB = "mkdir -p /tmp/w; echo page of {name} >/tmp/w/index.html; httpd -p {port} -h /tmp/w; echo serv''ing"


def manifest(name: str) -> dict[str, Any]:
    driver, devices, networks = MACHINES[name]
    domain: dict[str, Any] = {"memory": {"guest": "96Mi"}, "devices": devices}
    spec: dict[str, Any] = {"hypervisor": {"driver": driver}, "domain": domain, "networks": networks}
    if driver == "lxc":
        root = {"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}}
        spec["volumes"] = [root]
    else:
        domain["cpu"] = {"cores": 2}
        domain["firmware"] = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}}
    metadata = {"name": name}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and all that it starts, into an empty network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    old = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(0x40000000) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(old, 0x40000000) == 0
        os.close(old)


def define_network(home: Standalone, name: str, bridge: str) -> None:
    """Make a further network, on a bridge."""
    config = json.dumps({"type": "bridge", "bridge": bridge})
    definition = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    definition |= {"metadata": {"name": name, "namespace": "default"}, "spec": {"config": config}}
    home.run("create", "-f", "-", stdin=json.dumps(definition))


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    if why := trial():
        unmet(f"networks of Pods cannot be made here: {why}")
    with standalone() as home, own_network():
        home.run("up", "--network", "bridge")
        try:
            define_network(home, "more", "pvtest0")
            home.run_machines(*map(manifest, MACHINES))
            yield home
        finally:
            home.run("down")


def cards(client: Client, name: str) -> list[dict[str, Any]]:
    status = until(client, name, lambda status: status.get("interfaces"))
    found: list[dict[str, Any]] = status["interfaces"]
    return found


def address(client: Client, name: str) -> str:
    return str(until(client, name, lambda s: s["interfaces"][0].get("ipAddress"))["interfaces"][0]["ipAddress"])


def seen(console: Shell, command: str, pattern: bytes) -> str:
    """Type a command again and again until what it says is as wanted."""
    for _ in range(30):
        console.type(f"{command}; echo e''nd")
        said = console.until(rb"([^\0]*?)\r?\nend")[1]
        if found := re.search(pattern, said):
            return found[0].decode()
        time.sleep(0.5)
    raise AssertionError(said)


def page(host: str, port: int) -> str:
    """Fetch a page from outside all machines."""
    with socket.create_connection((host, port), 10) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = b""
        while data := peer.recv(4096):
            said += data
    return said.partition(b"\r\n\r\n")[2].decode().strip()


def forwarded(client: Client, name: str, port: int) -> str:
    """Fetch a page through the API."""
    url, arguments = options(client, f"{BASE}/{name}/portforward/{port}", 20)
    with Websocket(url, **arguments) as websocket:
        websocket.send(b"GET / HTTP/1.0\r\n\r\n")
        said = b""
        while b"page of" not in said:
            said += websocket.recv(timeout=20)
    return said.decode()


def test_a_guest_behind_its_pods_address(home: Standalone, client: Client) -> None:
    pod = address(client, "nat")
    with shell(client, "nat") as console:
        assert seen(console, "ip -4 -o address", rb"eth0 +inet [0-9./]+").split()[-1] == "10.11.12.2/24"
        for port in (8080, 9090):
            console.says(WEB.format(name="nat", port=port), rb"serving")
        assert seen(console, f"ping -c 1 {pod.rpartition('.')[0]}.1", rb"1 packets received")
    (card,) = cards(client, "nat")
    assert (card["podInterfaceName"], card["queueCount"], card["linkState"]) == ("eth0", 1, "up")
    assert page(pod, 8080) == "page of nat"
    with pytest.raises(ConnectionRefusedError):
        page(pod, 9090)
    assert "page of nat" in forwarded(client, "nat", 8080)
    with pytest.raises(Exception, match="HTTP 409"):
        forwarded(client, "nat", 9090)
    pods = json.loads(home.run("get", "pods", "-o", "json"))["items"]
    assert pod in [item["status"]["podIP"] for item in pods]


def test_a_guest_with_its_pods_address_and_a_further_network(client: Client) -> None:
    pod = address(client, "flat")
    first, second = cards(client, "flat")
    assert (first["queueCount"], second["infoSource"]) == (2, "domain, multus-status")
    assert second["mac"] == "02:00:00:00:00:77"
    with shell(client, "flat") as console:
        assert seen(console, "ip -4 -o address", rb"eth0 +inet [0-9./]+").split()[-1] == f"{pod}/24"
        assert seen(console, "cat /sys/class/net/eth0/address", rb"([0-9a-f]{2}:){5}..") == first["mac"]
        assert len(seen(console, "ls /sys/class/net/eth0/queues", rb"rx-0[^\0]*tx-1").split()) == 4
        script = "printf '#!/bin/sh\\necho of=$opt240\\n' >/tmp/s; chmod +x /tmp/s"
        console.says(f"{script}; udhcpc -i eth0 -q -n -O 240 -s /tmp/s; echo don''e", b"of=" + b"tea".hex().encode())
        console.says(WEB.format(name="flat", port=9090), rb"serving")
        assert seen(console, f"wget -q -O - http://{address(client, 'nat')}:8080", b"page of nat")
        console.says("ip address add 172.31.0.1/24 dev eth1; ip link set eth1 up; echo read''y", rb"ready")
    with shell(client, "box") as console:
        console.says("ip address add 172.31.0.2/24 dev eth1; ip link set eth1 up; echo read''y", rb"ready")
        assert seen(console, "ping -c 1 172.31.0.1", rb"1 packets received")
    assert page(pod, 9090) == "page of flat"
    assert "page of flat" in forwarded(client, "flat", 9090)


def test_a_container(client: Client) -> None:
    pod = address(client, "box")
    with shell(client, "box") as console:
        assert seen(console, "ip -4 -o address", rb"eth0 +inet [0-9./]+").split()[-1] == "10.0.2.2/24"
        for server in Resolver.read().servers[:3]:
            console.says("cat /etc/resolv.conf", b"nameserver " + server.encode())
        console.says(WEB.format(name="box", port=9090), rb"serving")
        assert seen(console, f"wget -q -O - http://{address(client, 'flat')}:9090", b"page of flat")
    assert page(pod, 9090) == "page of box"
    assert "page of box" in forwarded(client, "box", 9090)


def test_everything_is_killed_and_found_again(home: Standalone, client: Client) -> None:
    before = {name: address(client, name) for name in MACHINES}
    servers = [int(path.read_text()) for path in home.folder.glob("networks/*/dnsmasq.pid")]
    assert len(servers) == len(MACHINES)
    for pid in [home.pid, *home.launchers().values(), *servers]:
        os.kill(pid, signal.SIGKILL)
    home.run("up")
    client = Client(from_kubeconfig(home.kubeconfig))
    for name in MACHINES:
        until(client, name, lambda status: status["phase"] == "Running")
    assert {name: address(client, name) for name in MACHINES} == before
    for name in MACHINES:
        found_again(client, name, 8080 if name == "nat" else 9090)
    deadline = time.monotonic() + 30
    while not all(alive(int(p.read_text())) for p in home.folder.glob("networks/*/dnsmasq.pid")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with shell(client, "flat") as console:
        console.says("udhcpc -i eth0 -q -n -s /tmp/s; echo don''e", rb"lease of [0-9.]+ obtained")


def found_again(client: Client, name: str, port: int, seconds: float = 60) -> None:
    """Wait until a machine can be reached through the API again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            assert f"page of {name}" in forwarded(client, name, port)
            return
        except InvalidStatus as error:
            if error.response.status_code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def links() -> set[str]:
    said = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout
    return {entry["ifname"] for entry in json.loads(said)}


def test_a_machine_leaves_nothing_and_down_takes_the_rest(home: Standalone) -> None:
    assert {"polyvisor0", "pvtest0"} < links()
    folders = {path.name for path in home.folder.glob("networks/*") if path.is_dir()}
    servers = [int(path.read_text()) for path in home.folder.glob("networks/*/dnsmasq.pid")]
    home.run("delete", "vmi", "flat")
    deadline = time.monotonic() + 60
    while len(left := [path for path in home.folder.glob("networks/*") if path.is_dir()]) == len(folders):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    gone = folders - {path.name for path in left}
    assert not any(Path("/run/netns", f"pv-{name}").exists() for name in gone)
    home.run("down")
    assert links() == {"lo", "pvtest0"}, "a bridge that a user named is the user's"
    assert not any(Path("/run/netns", f"pv-{name}").exists() for name in folders)
    assert not any(alive(pid) for pid in servers)
    assert subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True).stdout == b""
