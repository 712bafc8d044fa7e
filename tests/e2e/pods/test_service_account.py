"""A guest in a launcher Pod is given a service account's token, which the launcher's container has nowhere."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, get, gone, machine, phase, pod_of, sights, why

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SEED = """#cloud-config
runcmd:
- mkdir -p /mnt/account
- mount -o ro $(findfs LABEL=cfgdata) /mnt/account
- echo "SAW files $(ls /mnt/account | tr '\\n' ' ')"
- echo "SAW namespace $(cat /mnt/account/namespace)"
- echo "SAW token $(cat /mnt/account/token)"
- echo "SAW end"
"""
ACCOUNT = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: worker}
"""


def guest() -> str:
    volumes = [
        {"name": "seed", "cloudInitNoCloud": {"userData": SEED}},
        {"name": "account", "serviceAccount": {"serviceAccountName": "worker"}},
    ]
    disks = [{"name": volume["name"], "disk": {"bus": "virtio"}} for volume in volumes]
    return machine("account", "qemu", {"disks": disks}, volumes, firmware=FIRMWARE)


def test_the_guest_has_the_token_and_the_launcher_has_not(pods: NodesCluster) -> None:
    pods.kubectl("apply", "--filename=-", stdin=ACCOUNT)
    pods.kubectl("apply", "--filename=-", stdin=guest())
    eventually(lambda: phase(pods, "vmi", "account") == "Running", SECONDS, lambda: why(pods, "account"))
    seen = sights(pods, "account")
    assert seen["files"].split() == ["ca.crt", "namespace", "token"]
    assert seen["namespace"] == "default"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": seen["token"]}}
    made = pods.kubectl("create", "--filename=-", "--output=json", stdin=yaml.safe_dump(review))
    assert json.loads(made)["status"]["user"]["username"] == "system:serviceaccount:default:worker"
    pod = pod_of(pods, "account")
    assert pod["spec"]["serviceAccountName"] == "worker"
    mounts = {mount["name"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]}
    assert mounts == {"hotplug-disks", "polyvisor", "polyvisor-machine", "polyvisor-programs"}
    assert get(pods, "serviceaccounts", "worker")
    gone(pods, "vmi", "account")
