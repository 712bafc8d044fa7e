"""What is done to a machine in a launcher Pod from outside: its memory is dumped, it is reset and asked to reboot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from tests.e2e.guest_shell import shell
from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, Obj, claim, get, pod_of

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
MEMORY = 96 << 20
INSTANCES = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances"


def vm(name: str) -> str:
    spec = {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "96Mi"},
            "firmware": FIRMWARE,
            "devices": {"autoattachPodInterface": False},
        },
    }
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": spec}}
    kind = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    return yaml.safe_dump({**kind, "metadata": {"name": name}, "spec": body})


def request(nodes: NodesCluster) -> Obj:
    return dict(get(nodes, "vm", "dumped")["status"].get("memoryDumpRequest") or {})


def told(nodes: NodesCluster) -> list[Obj]:
    return list(get(nodes, "vmi", "dumped")["status"].get("volumeStatus") or [])


def dumped(nodes: NodesCluster) -> str:
    """Wait until the dump is done; return its file's name."""

    def why() -> str:
        events = nodes.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return f"{request(nodes)}\n{told(nodes)}\n{events[-3000:]}"

    def done() -> bool:
        found = request(nodes)
        assert found.get("phase") != "Failed", why()
        return found.get("phase") == "Completed"

    eventually(done, SECONDS, why)
    return str(request(nodes)["fileName"])


@pytest.fixture(scope="module")
def machine(pods: NodesCluster) -> Iterator[str]:
    for text in (claim("memory", size="220Mi"), claim("small"), vm("dumped")):
        pods.kubectl("apply", "--filename=-", stdin=text)
    eventually(lambda: get(pods, "vm", "dumped").get("status", {}).get("ready") is True, SECONDS)
    yield "dumped"
    pods.kubectl("delete", "vm", "dumped", "--wait=true", "--timeout=100s")


def test_memory_is_dumped_into_a_claim(pods: NodesCluster, machine: str) -> None:
    refused = pods.polyvisor("memory-dump", "get", "dumped", "--claim-name", "small", check=False)
    assert "pvc size [4194304] should be bigger then" in refused
    pods.polyvisor("memory-dump", "get", "dumped", "--claim-name", "memory")
    name = dumped(pods)
    (file,) = (pods.nodes[0].root / "var/lib/polyvisor/claims/memory").iterdir()
    assert (file.name, head(file), file.stat().st_size > MEMORY) == (name, b"\x7fELF", True)
    (volume,) = get(pods, "vm", "dumped")["spec"]["template"]["spec"]["volumes"]
    assert volume == {"name": "memory", "memoryDump": {"claimName": "memory", "hotpluggable": True}}
    assert get(pods, "pvc", "memory")["metadata"]["annotations"]["kubevirt.io/memory-dump"] == name
    attached = "--selector=kubevirt.io=hotplug-disk"
    eventually(lambda: not told(pods) and not get(pods, "pods", attached)["items"], SECONDS)
    launcher = pod_of(pods, "dumped")["metadata"]["name"]
    assert pods.kubectl("exec", launcher, "--", "ls", "/var/run/kubevirt/hotplug-disks") == ""
    pods.polyvisor("memory-dump", "remove", "dumped")
    eventually(lambda: not request(pods), SECONDS, lambda: json.dumps(request(pods)))
    assert not get(pods, "vm", "dumped")["spec"]["template"]["spec"].get("volumes")
    assert file.exists(), "the claim is given up, and what was dumped is not"


def test_it_starts_anew_in_the_same_pod(pods: NodesCluster, machine: str) -> None:
    client = Client(from_kubeconfig(Path(pods.kubeconfig)))
    before = get(pods, "vmi", machine)["metadata"]["uid"]
    with shell(client, machine) as console:
        for action in ("reset", "softreboot"):
            console.says("touch /run/mark; ls /run", rb"mark")
            client.request("PUT", f"{INSTANCES}/{machine}/{action}", {})
            console.until(rb"login: ", SECONDS)
            console.type("root")
            console.until(rb"# ", SECONDS)  # what is typed before that is thrown away
            console.says("ls -A /run | grep -c mark", rb"\n0")
    found = get(pods, "vmi", machine)
    assert (found["metadata"]["uid"], found["status"]["phase"]) == (before, "Running")


def head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(4)
