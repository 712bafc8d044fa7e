"""Network cards of running machines: links that go down and up, cards that come and go, as guests see them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polyvisor.agent.network.pods import trial
from polyvisor.cli.client import MERGE, Client
from polyvisor.kube.config import from_kubeconfig
from tests.needs import unmet

from .guest_shell import Shell, shell, until
from .standalone import KERNEL, Standalone, standalone
from .test_networks import define_network, own_network

pytestmark = [pytest.mark.e2e, pytest.mark.root]
VMS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
POD = {"name": "default", "pod": {}}
FIRST = {"name": "default", "masquerade": {}}
SECONDS = 90


def machine(name: str, cards: list[dict[str, Any]], networks: list[dict[str, Any]]) -> dict[str, Any]:
    boot = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}}
    devices = {"interfaces": cards, "autoattachPodInterface": False}
    domain = {"memory": {"guest": "96Mi"}, "firmware": boot, "devices": devices}
    template = {"spec": {"hypervisor": {"driver": "qemu"}, "domain": domain, "networks": networks}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": template},
    }


def container(name: str) -> dict[str, Any]:
    found = machine(name, [FIRST], [POD])
    spec = found["spec"]["template"]["spec"]
    spec["hypervisor"]["driver"] = "lxc"
    del spec["domain"]["firmware"]
    spec["volumes"] = [{"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}}]
    return found


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    if why := trial():
        unmet(f"networks of Pods cannot be made here: {why}")
    with standalone() as home, own_network():
        home.run("up", "--network", "bridge")
        try:
            define_network(home, "more", "pvlive0")
            home.run_machines(machine("one", [FIRST], [POD]), machine("none", [], []), container("box"))
            yield home
        finally:
            home.run("down")


def change(client: Client, name: str, cards: list[dict[str, Any]], networks: list[dict[str, Any]]) -> None:
    body = {"spec": {"template": {"spec": {"networks": networks, "domain": {"devices": {"interfaces": cards}}}}}}
    client.request("PATCH", f"{VMS}/{name}", body, content_type=MERGE)


def cards(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {card["name"]: card for card in status.get("interfaces") or [] if "name" in card}


def seen(console: Shell, command: str, wanted: Callable[[str], bool]) -> str:
    """Look again and again until the guest sees what is wanted; it is told of it by its own events, at its own time."""
    deadline = time.monotonic() + SECONDS
    while True:
        console.type(f"{command}; echo e''nd")
        said = console.until(rb"([^\0]*?)\r?\nend")[1].decode(errors="replace")
        if wanted(said.partition("e''nd")[2]):
            return said
        assert time.monotonic() < deadline, said


def needs_no_restart(client: Client, name: str) -> None:
    vm = client.get(f"{VMS}/{name}")
    assert not [c for c in vm["status"]["conditions"] if c["type"] == "RestartRequired"], vm["status"]


def test_a_link_goes_down_and_up(client: Client) -> None:
    uid = client.get(f"{VMS}/one")["metadata"]["uid"]
    with shell(client, "one") as console:
        carrier = "cat /sys/class/net/eth0/carrier"
        seen(console, carrier, lambda said: "1" in said)
        change(client, "one", [FIRST | {"state": "down"}], [POD])
        until(client, "one", lambda s: cards(s)["default"]["linkState"] == "down")
        seen(console, carrier, lambda said: "0" in said)
        needs_no_restart(client, "one")
        change(client, "one", [FIRST], [POD])
        until(client, "one", lambda s: cards(s)["default"]["linkState"] == "up")
        seen(console, carrier, lambda said: "1" in said)
    needs_no_restart(client, "one")
    assert client.get(f"{VMS}/one")["metadata"]["uid"] == uid


def test_a_card_comes_and_goes(home: Standalone, client: Client) -> None:
    more, network = {"name": "more", "bridge": {}}, {"name": "more", "multus": {"networkName": "more"}}
    change(client, "one", [FIRST, more], [POD, network])
    told = cards(until(client, "one", lambda s: "more" in cards(s) and cards(s)["more"].get("podInterfaceName")))
    assert (told["more"]["linkState"], told["more"]["infoSource"]) == ("up", "domain, multus-status")
    needs_no_restart(client, "one")
    with shell(client, "one") as console:
        address = "cat /sys/class/net/eth1/address"
        seen(console, address, lambda said: told["more"]["mac"] in said)
        os.kill(home.pid, signal.SIGKILL)  # whoever comes next finds what there is
        home.run("up", "--network", "bridge")
        client = Client(from_kubeconfig(home.kubeconfig))
    with shell(client, "one") as console:
        console.says("ip address add 172.30.0.1/24 dev eth1; ip link set eth1 up; echo read''y", rb"ready")
        change(client, "none", [FIRST, more], [POD, network])
        both = cards(until(client, "none", lambda s: cards(s).keys() == {"default", "more"}))
        with shell(client, "none") as other:
            seen(other, "cat /sys/class/net/eth*/address", lambda said: all(c["mac"] in said for c in both.values()))
            find = f"C=$(grep -l {both['more']['mac']} /sys/class/net/*/address | cut -d/ -f5)"
            other.says(f"{find}; ip address add 172.30.0.2/24 dev $C; ip link set $C up; echo read''y", rb"ready")
            seen(other, "ping -c 1 172.30.0.1", lambda said: "1 packets received" in said)
        change(client, "one", [FIRST, more | {"state": "absent"}], [POD, network])
        until(client, "one", lambda s: "more" not in cards(s))
        seen(console, "ls /sys/class/net", lambda said: "eth1" not in said)
        change(client, "one", [FIRST], [POD])
        needs_no_restart(client, "one")
        change(client, "one", [FIRST, more], [POD, network])
        until(client, "one", lambda s: "more" in cards(s))
        seen(console, "ls /sys/class/net", lambda said: "eth1" in said)
        needs_no_restart(client, "one")


def test_a_container_gets_a_card_and_loses_it(client: Client) -> None:
    more, network = {"name": "more", "bridge": {}}, {"name": "more", "multus": {"networkName": "more"}}
    change(client, "box", [FIRST, more], [POD, network])
    told = cards(until(client, "box", lambda s: "more" in cards(s) and cards(s)["more"].get("podInterfaceName")))
    subprocess.run(["ip", "address", "add", "172.30.0.9/24", "dev", "pvlive0"], check=True)
    addresses = "cat /sys/class/net/*/address"
    with shell(client, "box") as console:
        seen(console, addresses, lambda said: told["more"]["mac"] in said)
        find = f"C=$(grep -l {told['more']['mac']} /sys/class/net/*/address | cut -d/ -f5)"
        console.says(f"{find}; ip address add 172.30.0.3/24 dev $C; ip link set $C up; echo read''y", rb"ready")
        seen(console, "ping -c 1 172.30.0.9", lambda said: "1 packets received" in said)
        needs_no_restart(client, "box")
        change(client, "box", [FIRST, more | {"state": "absent"}], [POD, network])
        until(client, "box", lambda s: "more" not in cards(s))
        seen(console, addresses, lambda said: told["more"]["mac"] not in said)
        seen(console, "ls /sys/class/net", lambda said: "eth0" in said)
    needs_no_restart(client, "box")


def test_what_cannot_be_had_is_told_and_harms_nothing(client: Client) -> None:
    lost, network = {"name": "lost", "bridge": {}}, {"name": "lost", "multus": {"networkName": "nowhere"}}
    before = client.get(f"{VMS}/none")["spec"]["template"]["spec"]
    had, nets = before["domain"]["devices"]["interfaces"], before["networks"]
    change(client, "none", [*had, lost], [*nets, network])

    def said(status: dict[str, Any]) -> bool:
        found = [c for c in status["conditions"] if c["type"] == "Synchronized"]
        return bool(found) and "no NetworkAttachmentDefinition default/nowhere" in found[0]["message"]

    status = until(client, "none", said)
    assert (status["phase"], cards(status).keys()) == ("Running", {"default", "more"})
    change(client, "none", [*had, lost | {"state": "absent"}], [*nets, network])
    until(client, "none", lambda s: not [c for c in s["conditions"] if c["type"] == "Synchronized"])
    change(client, "none", [had[0] | {"model": "e1000"}, *had[1:]], nets)
    deadline = time.monotonic() + SECONDS
    while not [c for c in client.get(f"{VMS}/none")["status"]["conditions"] if c["type"] == "RestartRequired"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
