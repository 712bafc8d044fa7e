"""A machine's TPM and UEFI variables outlive its launcher Pods, in a claim of the cluster."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.drivers.feature_guest import Facts, facts, kernel_and_initrd
from tests.e2e.installation import eventually
from tests.e2e.nodes import TOP, NodesCluster
from tests.e2e.test_kept_state import CLAIM, IMAGE, manifest

from .machines import SECONDS, get, said

sys.path.insert(0, str(TOP / "tools"))
from oci_layout import Entry, Layout

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
NAME = "keeper"
VOLUME = f"""
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {CLAIM}}}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {{storage: 16Mi}}
  claimRef: {{namespace: default, name: {CLAIM}}}
  hostPath: {{path: /var/lib/polyvisor/claims/{CLAIM}, type: DirectoryOrCreate}}
"""


def kernel_image(folder: Path) -> Path:
    """Make an image of the guest that tells what it finds; return its tar file."""
    kernel, initrd = kernel_and_initrd()
    boot = {"boot/vmlinuz": Entry(0o644, kernel.read_bytes()), "boot/initrd.img": Entry(0o644, initrd.read_bytes())}
    layout = Layout(folder / "image")
    layout.name({IMAGE: layout.image(boot, "test")}, "test")
    with tarfile.open(folder / "image.tar", "w") as tar:
        tar.add(folder / "image", ".")
    return folder / "image.tar"


def keeper() -> dict[str, Any]:
    found = manifest()
    boot = found["spec"]["template"]["spec"]["domain"]["firmware"]["kernelBoot"]
    boot["container"]["imagePullPolicy"] = "Never"
    return found


def told(nodes: NodesCluster) -> str:
    """Tell what the machine is stuck at."""
    objects = nodes.kubectl("get", "vmi,pods,pvc", "--output=yaml")
    return f"{objects[-9000:]}\n{said(nodes, NAME)[-3000:]}"


def report(nodes: NodesCluster, besides: str = "") -> tuple[str, Facts]:
    """Return the uid of the machine's instance, another one than ``besides``, and what its guest reports."""

    def uids() -> list[str]:
        found = get(nodes, "vmis")["items"]
        ours = [one["metadata"]["uid"] for one in found if one["metadata"]["name"] == NAME]
        return [uid for uid in ours if uid != besides]

    eventually(lambda: uids(), SECONDS, lambda: str(nodes.kubectl("describe", "vm", NAME)))
    (uid,) = uids()
    pods = f"--selector=kubevirt.io/created-by={uid}"

    def console() -> str:
        (name,) = [one["metadata"]["name"] for one in get(nodes, "pods", pods)["items"]] or [""]
        return nodes.kubectl("logs", name, "--container=guest-console-log", check=False) if name else ""

    eventually(lambda: "FACT end" in console(), SECONDS, lambda: told(nodes))
    return uid, facts(console().encode())


def test_tpm_and_variables_outlive_the_pod_and_the_claim_goes_with_the_machine(
    pods: NodesCluster, tmp_path: Path
) -> None:
    pods.nodes[0].load(kernel_image(tmp_path))
    for text in (VOLUME, yaml.safe_dump(keeper())):
        pods.kubectl("apply", "--filename=-", stdin=text)
    uid, first = report(pods)
    assert first["efi.kept"] == ""
    pods.kubectl("delete", "vmi", NAME, "--wait=false")
    _, second = report(pods, uid)
    assert second["efi.kept"] == "kept"
    starts = [int(facts["tpm.starts"].replace(" ", "")) for facts in (first, second)]
    assert starts[1] > starts[0]
    pods.kubectl("delete", "vm", NAME, "--wait=true", "--timeout=100s")
    eventually(lambda: not pods.kubectl("get", "pvc", CLAIM, "--ignore-not-found"), SECONDS)
