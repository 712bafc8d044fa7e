"""Disks that come to and go from a machine in a launcher Pod of a real node, as its guest sees them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster
from tests.needs import absent

from .machines import FIRMWARE, SECONDS, Obj, block_claim, claim, get, image

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
WATCH = (
    "(last=-; while :; do now=; for one in /sys/block/sd* /sys/block/vd[c-z]; do "
    '[ -e $one ] || continue; disk=${one##*/}; word=$(dd if=/dev/$disk bs=4 count=1 2>/dev/null | tr -d "\\0"); '
    '[ -n "$word" ] || printf mark | dd of=/dev/$disk conv=notrunc 2>/dev/null; '
    'now="$now $disk=$(cat $one/size)=$word"; done; [ "$now" = "$last" ] || echo "DISKS$now."; '
    "last=$now; sleep 0.2; done) &"
)
"""What the guest does: say which disks it has whenever that changes, and mark each that is empty."""


def vm(name: str) -> str:
    seed = {"userData": f"#cloud-config\nruncmd:\n- {WATCH}\n"}
    volumes = [{"name": "root", "containerDisk": image("demo-disk")}, {"name": "seed", "cloudInitNoCloud": seed}]
    spec = {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "96Mi"},
            "firmware": FIRMWARE,
            "devices": {"disks": [{"name": volume["name"], "disk": {"bus": "virtio"}} for volume in volumes]},
        },
        "volumes": volumes,
    }
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": spec}}
    kind = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    return yaml.safe_dump({**kind, "metadata": {"name": name}, "spec": body})


@pytest.fixture(scope="module")
def nodes(pods: NodesCluster) -> NodesCluster:
    return pods


def volumes(nodes: NodesCluster, name: str) -> dict[str, Obj]:
    found = get(nodes, "vmi", name).get("status", {}).get("volumeStatus") or []
    return {entry["name"]: entry for entry in found}


def attachments(nodes: NodesCluster) -> list[Obj]:
    return list(get(nodes, "pods", "--selector=kubevirt.io=hotplug-disk")["items"])


def launcher(nodes: NodesCluster, name: str) -> Obj:
    found = get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
    (pod,) = [pod for pod in found if pod["status"]["phase"] == "Running"]
    return dict(pod)


def said(nodes: NodesCluster, name: str) -> str:
    """Return the last thing that a guest said of its disks."""
    pods = get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
    logs = [
        str(nodes.kubectl("logs", pod["metadata"]["name"], "--container=guest-console-log", check=False))
        for pod in pods
        if pod["status"]["phase"] == "Running"
    ]
    # it may stand behind a login prompt
    found = re.findall(r"DISKS[^.]*\.", "".join(logs))
    return str(found[-1]) if found else ""


def says(nodes: NodesCluster, name: str, wanted: str) -> None:
    def why() -> str:
        pods = nodes.kubectl("describe", "pods", "--selector=kubevirt.io=hotplug-disk")
        events = nodes.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return f"{said(nodes, name)!r}\n{volumes(nodes, name)}\n{pods[-3000:]}\n{events[-3000:]}"

    eventually(lambda: said(nodes, name) == wanted, SECONDS, why)


def ready(nodes: NodesCluster, name: str, *wanted: str) -> dict[str, Obj]:
    """Wait until these volumes and no others have come, all from one Pod; return what the status tells of them."""

    def settled() -> bool:
        found = {k: v for k, v in volumes(nodes, name).items() if "hotplugVolume" in v}
        pods = [pod["metadata"]["uid"] for pod in attachments(nodes)]
        told = {v["hotplugVolume"].get("attachPodUID") for v in found.values()}
        return found.keys() == set(wanted) and all(v["phase"] == "Ready" for v in found.values()) and told == set(pods)

    def why() -> str:
        pods = nodes.kubectl("describe", "pods", "--selector=kubevirt.io=hotplug-disk")
        events = nodes.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return f"{volumes(nodes, name)}\n{pods[-3000:]}\n{events[-3000:]}"

    eventually(settled, SECONDS, why)
    return volumes(nodes, name)


def mounts(nodes: NodesCluster, name: str) -> str:
    """Return the mounts that a machine's launcher sees."""
    return nodes.kubectl("exec", launcher(nodes, name)["metadata"]["name"], "--", "cat", "/proc/mounts")


def restart_agent(nodes: NodesCluster) -> None:
    nodes.kubectl("delete", "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-handler")
    nodes.kubectl("rollout", "status", "daemonset/virt-handler", "--namespace=kubevirt", "--timeout=100s")


def gone(nodes: NodesCluster, name: str, *pods: str) -> None:
    """Delete a machine; nothing of it may be left, nor of the Pods with these uids."""
    pods = (*pods, launcher(nodes, name)["metadata"]["uid"])
    nodes.kubectl("delete", "vm", name, "--wait=true", "--timeout=100s")
    eventually(lambda: not attachments(nodes), SECONDS, lambda: str(attachments(nodes)))
    eventually(lambda: not get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"], SECONDS)

    def mounted() -> list[str]:
        seen = Path(f"/proc/{nodes.nodes[0].pid}/mountinfo").read_text()
        return [line for line in seen.splitlines() if any(uid in line for uid in pods)]

    eventually(lambda: not mounted(), SECONDS, lambda: "\n".join(mounted()))


def test_claims_come_to_a_guest_and_go(nodes: NodesCluster) -> None:
    for text in (claim("one"), claim("two"), vm("plug")):
        nodes.kubectl("apply", "--filename=-", stdin=text)
    says(nodes, "plug", "DISKS.")
    nodes.polyvisor("addvolume", "plug", "--volume-name", "one")
    told = ready(nodes, "plug", "one")["one"]
    says(nodes, "plug", "DISKS sda=8192=mark.")
    assert (told["target"], told["persistentVolumeClaimInfo"]["claimName"]) == ("sda", "one")
    (pod,) = attachments(nodes)
    assert pod["metadata"]["name"] == told["hotplugVolume"]["attachPodName"]
    (owner,) = pod["metadata"]["ownerReferences"]
    assert owner["uid"] == launcher(nodes, "plug")["metadata"]["uid"]

    nodes.polyvisor("addvolume", "plug", "--volume-name", "two", "--persist", "--bus", "virtio")
    ready(nodes, "plug", "one", "two")
    says(nodes, "plug", "DISKS sda=8192=mark vdc=8192=mark.")
    (second,) = attachments(nodes)
    assert second["metadata"]["uid"] != pod["metadata"]["uid"]
    assert [volume["name"] for volume in second["spec"]["volumes"]] == ["one", "two"]

    restart_agent(nodes)
    nodes.polyvisor("removevolume", "plug", "--volume-name", "one")
    ready(nodes, "plug", "two")
    says(nodes, "plug", "DISKS vdc=8192=mark.")
    assert "hotplug-disks/one" not in mounts(nodes, "plug")
    assert "hotplug-disks/two" in mounts(nodes, "plug")

    old = launcher(nodes, "plug")["metadata"]["uid"]
    nodes.polyvisor("restart", "plug", "--force", "--wait")
    says(nodes, "plug", "DISKS vdc=8192=mark.")
    assert ready(nodes, "plug", "two")["two"]["target"] == "vdc"
    nodes.polyvisor("addvolume", "plug", "--volume-name", "one")
    says(nodes, "plug", "DISKS sda=8192=mark vdc=8192=mark.")
    uids = [pod["metadata"]["uid"] for pod in attachments(nodes)]
    gone(nodes, "plug", old, second["metadata"]["uid"], *uids)
    for name in ("one", "two"):
        assert nodes.nodes[0].run("head", "-c4", f"/var/lib/polyvisor/claims/{name}/disk.img").stdout == "mark"


@pytest.fixture
def device(nodes: NodesCluster) -> Iterator[str]:
    with block_claim(nodes, "hot") as found:
        yield found


def rights(nodes: NodesCluster, name: str) -> str:
    """Return what the launcher of a machine may open, as the kernel has it."""
    uid = launcher(nodes, name)["metadata"]["uid"]
    found = Path("/sys/fs/cgroup/devices").glob(f"**/*pod{uid}/*/devices.list")
    return "".join(file.read_text() for file in found)


def test_a_block_device_comes_to_a_guest_and_goes(nodes: NodesCluster, device: str) -> None:
    if not Path("/sys/fs/cgroup/devices").is_dir():
        absent("control groups v1", "this machine has version 2, where it is refused")
    nodes.kubectl("apply", "--filename=-", stdin=vm("hot"))
    says(nodes, "hot", "DISKS.")
    number = Path(device).stat().st_rdev
    right = f"b {os.major(number)}:{os.minor(number)} "
    assert right not in rights(nodes, "hot")
    nodes.polyvisor("addvolume", "hot", "--volume-name", "hot")
    ready(nodes, "hot", "hot")
    says(nodes, "hot", "DISKS sda=8192=mark.")
    assert right in rights(nodes, "hot")
    restart_agent(nodes)
    nodes.polyvisor("removevolume", "hot", "--volume-name", "hot")
    says(nodes, "hot", "DISKS.")
    eventually(lambda: not attachments(nodes), SECONDS, lambda: str(volumes(nodes, "hot")))
    assert right not in rights(nodes, "hot")
    pod = launcher(nodes, "hot")["metadata"]["name"]
    assert nodes.kubectl("exec", pod, "--", "ls", "/var/run/kubevirt/hotplug-disks") == ""
    assert nodes.nodes[0].run("head", "-c4", device).stdout == "mark"
    nodes.polyvisor("addvolume", "hot", "--volume-name", "hot")
    says(nodes, "hot", "DISKS sda=8192=mark.")
    gone(nodes, "hot", *[pod["metadata"]["uid"] for pod in attachments(nodes)])
