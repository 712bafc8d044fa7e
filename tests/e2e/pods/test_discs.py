"""Discs in the CD-ROM drive of a machine in a launcher Pod: the one it began with, others, and none."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, Obj, claim, get, image, said

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
WATCH = (
    "(last=-; while :; do now=$(dd if=/dev/sr0 bs=4 count=1 2>/dev/null); "
    '[ "$now" = "$last" ] || echo "DISC $now."; last=$now; sleep 0.2; done) &'
)
"""What the guest does: say what its disc begins with whenever that changes."""


def vm(disc: Obj | None) -> str:
    seed = {"name": "seed", "cloudInitNoCloud": {"userData": f"#cloud-config\nruncmd:\n- {WATCH}\n"}}
    disks = [{"name": "seed", "disk": {"bus": "virtio"}}, {"name": "drive", "cdrom": {"bus": "scsi"}}]
    spec = {
        "hypervisor": {"driver": "qemu"},
        "terminationGracePeriodSeconds": 0,
        "domain": {
            "memory": {"guest": "96Mi"},
            "firmware": FIRMWARE,
            "devices": {"disks": disks, "autoattachPodInterface": False},
        },
        "volumes": [seed, *([{"name": "drive", **disc}] if disc else [])],
    }
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": spec}}
    kind = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    return yaml.safe_dump({**kind, "metadata": {"name": "discs"}, "spec": body})


def disc(name: str) -> Obj:
    return {"persistentVolumeClaim": {"claimName": name, "hotpluggable": True}}


def apply(nodes: NodesCluster, found: Obj | None) -> None:
    nodes.kubectl("apply", "--filename=-", stdin=vm(found))


def drive(nodes: NodesCluster) -> Obj:
    told = get(nodes, "vmi", "discs").get("status", {}).get("volumeStatus") or []
    return next((entry for entry in told if entry["name"] == "drive"), {})


def holds(nodes: NodesCluster, word: str, attached: list[str]) -> None:
    """Wait until the guest reads ``word`` off its disc, and attachment Pods have these claims and no others."""

    def claims() -> list[str]:
        pods = get(nodes, "pods", "--selector=kubevirt.io=hotplug-disk")["items"]
        return [v["persistentVolumeClaim"]["claimName"] for pod in pods for v in pod["spec"]["volumes"]]

    def heard() -> str:
        return str((re.findall(r"DISC ([^.]*)\.", said(nodes, "discs")) or ["-"])[-1])

    def why() -> str:
        events = nodes.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return f"{heard()} {claims()} {drive(nodes)}\n{events[-3000:]}"

    eventually(lambda: (heard(), claims()) == (word, attached), SECONDS, why)


def test_discs_are_put_in_and_taken_out(pods: NodesCluster) -> None:
    for name in ("one", "two"):
        folder = f"/var/lib/polyvisor/claims/disc-{name}"
        fill = f"mkdir -p {folder} && printf {name}! >{folder}/disk.img && truncate -s 1M {folder}/disk.img"
        pods.nodes[0].run("sh", "-c", fill)
        pods.kubectl("apply", "--filename=-", stdin=claim(f"disc-{name}"))
    apply(pods, disc("disc-one"))
    holds(pods, "one!", [])  # it may be what the machine boots from, so its own Pod has it
    assert drive(pods)["phase"] == "Ready"
    apply(pods, disc("disc-two"))
    holds(pods, "two!", ["disc-two"])
    told = drive(pods)
    assert (told["persistentVolumeClaimInfo"]["claimName"], told["phase"]) == ("disc-two", "Ready")
    assert told["hotplugVolume"]["attachPodName"].startswith("hp-volume-")
    apply(pods, None)
    holds(pods, "", [])
    assert not drive(pods)
    apply(pods, {"containerDisk": image("demo-disk")})

    def conditions() -> set[str]:
        return {one["type"] for one in get(pods, "vm", "discs")["status"]["conditions"]}

    eventually(lambda: "RestartRequired" in conditions(), SECONDS, lambda: str(conditions()))
    assert not drive(pods), "an image comes with the next start"
    pods.kubectl("delete", "vm", "discs", "--wait=true", "--timeout=100s")
