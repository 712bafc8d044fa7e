"""A namespace that enforces the Pod security standard ``restricted`` runs a QEMU machine with all that is common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, Obj, claim, image, machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SPACE, NAME = "restricted", "kept-in"
HERE = f"--namespace={SPACE}"
SEED = """#cloud-config
runcmd:
- echo "SAW claim $(dd if=/dev/vdb bs=4 count=1 2>/dev/null | tr -d '\\0')."
- printf kept | dd of=/dev/vdb conv=notrunc 2>/dev/null
- sync
- echo "SAW end"
"""


def manifest() -> str:
    volumes = [
        {"name": "root", "containerDisk": image("demo-disk")},
        {"name": "data", "persistentVolumeClaim": {"claimName": SPACE}},
        {"name": "seed", "cloudInitNoCloud": {"userData": SEED}},
    ]
    devices: Obj = {"disks": [{"name": volume["name"], "disk": {"bus": "virtio"}} for volume in volumes]}
    devices["interfaces"] = [{"name": "default", "masquerade": {}}]
    found = yaml.safe_load(machine(NAME, "qemu", devices, volumes, firmware=FIRMWARE))
    found["spec"]["networks"] = [{"name": "default", "pod": {}}]
    return yaml.safe_dump(found)


@pytest.fixture
def nodes(pods: NodesCluster) -> Iterator[NodesCluster]:
    label = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": label}}
    pods.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(space))
    pods.kubectl("apply", HERE, "--filename=-", stdin=claim(SPACE))
    yield pods
    pods.kubectl("delete", "namespace", SPACE, "--wait=true", "--timeout=100s")
    pods.kubectl("delete", "persistentvolume", SPACE)


def test_a_machine_in_a_restricted_namespace(nodes: NodesCluster) -> None:
    probe = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "open"}}
    probe["spec"] = {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}
    refused = nodes.kubectl("create", HERE, "--filename=-", stdin=json.dumps(probe), check=False)
    assert "violates PodSecurity" in refused, "the namespace restricts nothing"
    nodes.kubectl("apply", HERE, "--filename=-", stdin=manifest())

    def said() -> str:
        log = (HERE, "logs", f"--selector=vm.kubevirt.io/name={NAME}", "--container=guest-console-log", "--tail=-1")
        return nodes.kubectl(*log, check=False)

    def why() -> str:
        return nodes.kubectl("describe", HERE, "vmi,pods", check=False)[-4000:] + said()[-2000:]

    eventually(lambda: "SAW end" in said(), SECONDS, why)
    eventually(
        lambda: bool(re.search(r"eth0 has address 10\.0\.2\.2\s", said())), SECONDS, why
    )  # asked for once that is done
    words = [line.strip().partition("SAW ")[2].partition(" ") for line in said().splitlines() if "SAW " in line]
    seen = {name: value for name, _, value in words}
    assert seen["claim"] == "."
    (pod,) = json.loads(nodes.kubectl("get", HERE, "pods", "--output=json"))["items"]
    assert pod["metadata"]["labels"]["kubevirt.io"] == "virt-launcher"
    nodes.kubectl("delete", HERE, "vmi", NAME, "--wait=true", "--timeout=100s")
