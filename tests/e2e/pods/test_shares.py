"""A guest in a launcher Pod mounts a claim and a ConfigMap as folders, each shared by a container of the Pod."""

from __future__ import annotations

import pytest
import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

from .machines import FIRMWARE, SECONDS, claim, gone, machine, phase, pod_of, sights, why

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SEED = """#cloud-config
runcmd:
- mkdir -p /mnt/data /mnt/texts
- mount -t virtiofs data /mnt/data
- mount -t virtiofs texts /mnt/texts
- echo "SAW text $(cat /mnt/texts/key)"
- echo "SAW readonly $(touch /mnt/texts/new 2>/dev/null || echo yes)"
- echo "of the guest" > /mnt/data/file
- chown 1234 /mnt/data/file
- echo "SAW end"
"""
TEXTS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared-texts"}, "data": {"key": "a-value"}}


def guest() -> str:
    volumes = [
        {"name": "seed", "cloudInitNoCloud": {"userData": SEED}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "shared-data"}},
        {"name": "texts", "configMap": {"name": "shared-texts"}},
    ]
    folders = [{"name": name, "virtiofs": {}} for name in ("data", "texts")]
    return machine("shares", "qemu", {"filesystems": folders}, volumes, firmware=FIRMWARE)


def test_a_claim_and_texts_are_folders_of_the_guest(pods: NodesCluster) -> None:
    pods.kubectl("apply", "--filename=-", stdin=claim("shared-data"))
    pods.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(TEXTS))
    pods.kubectl("apply", "--filename=-", stdin=guest())
    eventually(lambda: phase(pods, "vmi", "shares") == "Running", SECONDS, lambda: why(pods, "shares"))
    seen = sights(pods, "shares")
    assert (seen["text"], seen["readonly"]) == ("a-value", "yes")
    file = pods.nodes[0].root / "var/lib/polyvisor/claims/shared-data/file"
    assert (file.read_text(), file.stat().st_uid) == ("of the guest\n", 1234)
    compute = next(one for one in pod_of(pods, "shares")["spec"]["containers"] if one["name"] == "compute")
    assert compute["securityContext"]["runAsNonRoot"]
    assert "data" not in {mount["name"] for mount in compute["volumeMounts"]}
    gone(pods, "vmi", "shares")
