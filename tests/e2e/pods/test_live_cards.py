"""Network cards of a machine in a launcher Pod that runs: its link, and one that comes once the Pod has its network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.names import NETWORK_STATUS_ANNOTATION, NETWORKS_ANNOTATION, pod_interface
from polyvisor.cli.client import MERGE, Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import Shell, shell, until
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster
from tests.e2e.pods.machines import SECONDS, pod_of
from tests.e2e.pods.test_networks import machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
VM = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines/cards"
FIRST, POD = {"name": "default", "masquerade": {}}, {"name": "default", "pod": {}}
MORE, NETWORK = {"name": "more", "bridge": {}}, {"name": "more", "multus": {"networkName": "more"}}


def change(client: Client, cards: list[dict[str, Any]], networks: list[dict[str, Any]]) -> None:
    body = {"spec": {"template": {"spec": {"networks": networks, "domain": {"devices": {"interfaces": cards}}}}}}
    client.request("PATCH", VM, body, content_type=MERGE)


def awaits(console: Shell, condition: str) -> None:
    console.says(f"until {condition}; do sleep 0.2; done; echo se''en", rb"seen")


def process_of(pod: dict[str, Any]) -> int:
    """Return a process of the Pod's launcher."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, group = (entry / "cmdline").read_bytes(), (entry / "cgroup").read_text()
        except OSError:
            continue
        if b"polyvisor.launcher" in command and pod["metadata"]["uid"] in group:
            return int(entry.name)
    raise AssertionError("the launcher is not there")


def test_a_link_is_set_and_a_card_comes_with_its_network(pods: NodesCluster) -> None:
    vmi = machine("cards", {"masquerade": {}})
    template = {"metadata": {"labels": {"app": "cards"}}, "spec": vmi["spec"]}
    vm = vmi | {"kind": "VirtualMachine", "spec": {"runStrategy": "Always", "template": template}}
    pods.kubectl("apply", "-f", "-", stdin=json.dumps(vm | {"metadata": {"name": "cards"}}))
    pods.kubectl("wait", "--for=create", "vmi/cards", "--timeout=100s")
    client = Client(from_kubeconfig(Path(pods.kubeconfig)))
    until(client, "cards", lambda s: s.get("phase") == "Running" and s["interfaces"][0].get("ipAddress"), 240)
    pod = pod_of(pods, "cards")
    with shell(client, "cards") as console:
        awaits(console, "grep 1 /sys/class/net/eth0/carrier")
        change(client, [FIRST | {"state": "down"}], [POD])
        until(client, "cards", lambda s: s["interfaces"][0]["linkState"] == "down")
        awaits(console, "grep 0 /sys/class/net/eth0/carrier")
        change(client, [FIRST, MORE], [POD, NETWORK])
        awaits(console, "grep 1 /sys/class/net/eth0/carrier")
        outer = pod_interface(NETWORK)
        lacks = f"interface more: the Pod has no interface {outer}"
        until(client, "cards", lambda s: any(lacks in c.get("message", "") for c in s["conditions"]))
        (asked,) = json.loads(pod_of(pods, "cards")["metadata"]["annotations"][NETWORKS_ANNOTATION])
        assert asked == {"name": "more", "namespace": "default", "interface": outer}
        # what Multus's dynamic networks controller does
        inside = ("nsenter", f"--net=/proc/{process_of(pod)}/ns/net")
        made = ("ip", "link", "add", outer, "type", "veth", "peer", "name", "pvcards0")
        subprocess.run([*inside, *made], check=True)
        done = json.dumps([{"name": "default/more", "interface": outer}])
        pods.kubectl("annotate", "pod", pod["metadata"]["name"], f"{NETWORK_STATUS_ANNOTATION}={done}")
        status = until(client, "cards", lambda s: len(s["interfaces"]) == 2)
        assert status["interfaces"][1]["infoSource"] == "domain, multus-status"
        awaits(console, f"grep {status['interfaces'][1]['mac']} /sys/class/net/eth1/address")
        change(client, [FIRST, MORE | {"state": "absent"}], [POD, NETWORK])
        until(client, "cards", lambda s: len(s["interfaces"]) == 1)
        eventually(lambda: pod_of(pods, "cards")["metadata"]["annotations"][NETWORKS_ANNOTATION] == "[]", SECONDS)
    assert pod_of(pods, "cards")["metadata"]["uid"] == pod["metadata"]["uid"]
    conditions = client.get(VM)["status"]["conditions"]
    assert not [c for c in conditions if c["type"] == "RestartRequired"]
    pods.kubectl("delete", "vm", "cards", "--wait=false")
    eventually(lambda: not pods.kubectl("get", "pods", "-l", "app=cards", "-o", "name"), seconds=120)
