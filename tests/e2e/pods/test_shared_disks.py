"""A claim under machines in launcher Pods of one node: one machine's at a time, or shared by disks that say so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, claim, get, gone, machine, phase, sights, why

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SEED = """#cloud-config
runcmd:
- printf {word} | dd of=/dev/vda bs=4096 seek={place} conv=notrunc,fsync 2>/dev/null
- while [ "$(dd if=/dev/vda bs=4096 skip={other} count=1 2>/dev/null | tr -cd a-z)" != {awaited} ]; do sleep 1; done
- echo "SAW other {awaited}"
- echo "SAW end"
"""
WAIT = "#cloud-config\nruncmd:\n- echo 'SAW end'\n"


def guest(name: str, claimed: str, seed: str, **disk: Any) -> str:
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": claimed}},
        {"name": "seed", "cloudInitNoCloud": {"userData": seed}},
    ]
    disks = [{"name": "data", "disk": {"bus": "virtio"}, **disk}, {"name": "seed", "disk": {"bus": "virtio"}}]
    return machine(name, "qemu", {"disks": disks}, volumes, firmware=FIRMWARE)


@pytest.fixture(scope="module")
def nodes(pods: NodesCluster) -> NodesCluster:
    for name in ("shared", "single"):
        pods.kubectl("apply", "--filename=-", stdin=claim(name))
    return pods


def test_each_guest_sees_what_the_other_writes(nodes: NodesCluster) -> None:
    words = {"one": 1, "two": 2}
    for word, place in words.items():
        awaited = next(other for other in words if other != word)
        seed = SEED.format(word=word, place=place, other=words[awaited], awaited=awaited)
        nodes.kubectl("apply", "--filename=-", stdin=guest(f"share-{word}", "shared", seed, shareable=True))
    assert sights(nodes, "share-one")["other"] == "two"
    assert sights(nodes, "share-two")["other"] == "one"
    for word in words:
        gone(nodes, "vmi", f"share-{word}")


def test_a_claim_is_one_machines_at_a_time(nodes: NodesCluster) -> None:
    def synchronized(name: str) -> Any:
        conditions = get(nodes, "vmi", name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == "Synchronized"), {})

    nodes.kubectl("apply", "--filename=-", stdin=guest("first", "single", WAIT))
    eventually(lambda: phase(nodes, "vmi", "first") == "Running", SECONDS, lambda: why(nodes, "first"))
    nodes.kubectl("apply", "--filename=-", stdin=guest("second", "single", WAIT))
    eventually(lambda: synchronized("second").get("reason") == "VolumeInUse", SECONDS, lambda: why(nodes, "second"))
    assert "default/first" in synchronized("second")["message"]
    assert phase(nodes, "vmi", "second") == "Scheduled"
    gone(nodes, "vmi", "first")
    eventually(lambda: phase(nodes, "vmi", "second") == "Running", SECONDS, lambda: why(nodes, "second"))
    gone(nodes, "vmi", "second")
