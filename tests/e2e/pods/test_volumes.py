"""Machines in real launcher Pods on a real node: their images, claims, seeds and texts, as the guests see them."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from polyvisor.agent.images.store import ImageStore
from tests.e2e.installation import eventually
from tests.e2e.nodes import TOP, NodesCluster

from .machines import (
    FIRMWARE,
    PREFIX,
    SECONDS,
    block_claim,
    claim,
    get,
    gone,
    image,
    machine,
    phase,
    pod_of,
    said,
    sights,
    why,
)

sys.path.insert(0, str(TOP / "tools"))
import guest_images
from oci_layout import Entry, Layout

pytestmark = pytest.mark.e2e
TREE = f"{PREFIX}pod-tree:1"
SEED = """#cloud-config
runcmd:
- mkdir -p /mnt/cm /mnt/words
- echo "SAW key $(grep -o first-key /mnt/cidata/meta-data)"
- mount -o ro $(findfs LABEL=cfgdata) /mnt/cm
- echo "SAW text $(cat /mnt/cm/greeting)"
- mount -o ro $(findfs LABEL=words) /mnt/words
- echo "SAW secret $(cat /mnt/words/word)"
- echo "SAW claim $(dd if=/dev/vdb bs=4 count=1 2>/dev/null | tr -d '\\0')."
- echo "SAW size $(cat /sys/block/vdb/size) $(cat /sys/block/vdc/size)"
- printf kept | dd of=/dev/vdb conv=notrunc 2>/dev/null
- printf gone | dd of=/dev/vda conv=notrunc 2>/dev/null
- sync
- echo "SAW end"
- poweroff -f
"""
INIT = """#!/bin/sh
export PATH=/bin:/sbin
exec </dev/console >/dev/console 2>&1
trap "exit 0" TERM INT PWR USR2
echo "SAW root $(cat /marker)"
echo "SAW text $(cat /mnt/cm/greeting)"
echo "SAW claim $(cat /mnt/claim/marker 2>/dev/null)."
echo kept >/mnt/claim/marker
echo written >/marker
sync
echo "SAW end"
while :; do sleep 1000 & wait $!; done
"""
OBJECTS = """
apiVersion: v1
kind: Secret
metadata: {name: words}
stringData: {word: a-secret}
---
apiVersion: v1
kind: Secret
metadata: {name: first}
stringData: {key: ssh-ed25519 AAAA first-key}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: texts}
data: {greeting: from-a-configmap}
"""


def qemu(name: str) -> str:
    volumes = [
        {"name": "root", "containerDisk": image("demo-disk")},
        {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}},
        {"name": "empty", "emptyDisk": {"capacity": "2Mi"}},
        {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "seed"}}},
        {"name": "texts", "configMap": {"name": "texts"}},
        {"name": "words", "secret": {"secretName": "words", "volumeLabel": "words"}},
    ]
    disks = [{"name": volume["name"], "disk": {"bus": "virtio"}} for volume in volumes]
    found = yaml.safe_load(machine(name, "qemu", {"disks": disks}, volumes, firmware=FIRMWARE))
    key = {"source": {"secret": {"secretName": "first"}}, "propagationMethod": {"noCloud": {}}}
    found["spec"]["accessCredentials"] = [{"sshPublicKey": key}]
    return yaml.safe_dump(found)


def lxc(name: str) -> str:
    volumes = [
        {"name": "root", "containerDisk": image(TREE)},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "folder"}},
        {"name": "cm", "configMap": {"name": "texts"}},
    ]
    disks = [{"name": volume["name"]} for volume in volumes]
    return machine(name, "lxc", {"disks": disks, "autoattachPodInterface": False}, volumes)


def tree_image(folder: Path) -> Path:
    """Make a container's root file system that looks about itself; return the image's tar file."""
    shutil.copytree(TOP / "build" / "images", folder / "guests")
    busybox = ImageStore(folder / "guests", folder / "cache").file(f"{PREFIX}demo-rootfs:1", "/bin/busybox")
    tree = guest_images.userland(busybox.read_bytes())
    tree |= {"sbin/init": Entry(0o755, INIT.encode()), "marker": Entry(0o644, b"the tree")}
    store = Layout(folder / "guests")
    store.name({TREE: store.image(tree, "test")}, "test")
    with tarfile.open(folder / "guests.tar", "w") as tar:
        tar.add(folder / "guests", ".")
    return folder / "guests.tar"


@pytest.fixture(scope="module")
def nodes(pods: NodesCluster, tmp_path_factory: pytest.TempPathFactory) -> NodesCluster:
    pods.nodes[0].load(tree_image(tmp_path_factory.mktemp("guests")))
    seed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "seed"}, "stringData": {"userdata": SEED}}
    for text in (OBJECTS, yaml.safe_dump(seed), claim("disk"), claim("folder")):
        pods.kubectl("apply", "--filename=-", stdin=text)
    return pods


def test_a_machine_with_disks_of_every_kind(nodes: NodesCluster) -> None:
    for before in ("", "kept"):
        nodes.kubectl("apply", "--filename=-", stdin=qemu("disks"))
        seen = sights(nodes, "disks")
        assert seen["text"] == "from-a-configmap"
        assert seen["secret"] == "a-secret"
        assert seen["key"] == "first-key"
        assert seen["claim"] == f"{before}.", "a claim's data outlives the machine"
        assert seen["size"] == f"{4 << 11} {2 << 11}"
        assert guest_images.WELCOME in said(nodes, "disks"), "what a guest writes to an image is its own"
        eventually(lambda: phase(nodes, "vmi", "disks") == "Succeeded", SECONDS, lambda: why(nodes, "disks"))
        pod = pod_of(nodes, "disks")
        names = [container["name"] for container in pod["spec"]["containers"]]
        assert names == ["compute", "volumeroot", "volumekernel-boot-volume", "guest-console-log"]
        eventually(lambda: pod_of(nodes, "disks")["status"]["phase"] == "Succeeded", SECONDS)
        gone(nodes, "vmi", "disks")
        assert pod["metadata"]["uid"] not in Path(f"/proc/{nodes.nodes[0].pid}/mountinfo").read_text()


@pytest.fixture
def loop(nodes: NodesCluster) -> Iterator[str]:
    with block_claim(nodes, "raw") as device:
        yield device


def test_a_claim_that_is_a_block_device(nodes: NodesCluster, loop: str) -> None:
    vmi = yaml.safe_load(qemu("raw"))
    vmi["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] = "raw"
    nodes.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(vmi))
    seen = sights(nodes, "raw")
    assert (seen["claim"], seen["size"].split()[0]) == (".", str(4 << 11))
    eventually(lambda: phase(nodes, "vmi", "raw") == "Succeeded", SECONDS, lambda: why(nodes, "raw"))
    gone(nodes, "vmi", "raw")
    assert nodes.nodes[0].run("head", "-c4", loop).stdout == "kept"


def test_a_machine_with_a_root_file_system(nodes: NodesCluster) -> None:
    for before in ("", "kept"):
        nodes.kubectl("apply", "--filename=-", stdin=lxc("tree"))
        seen = sights(nodes, "tree")
        assert seen["root"] == "the tree", "what a guest writes to an image is its own"
        assert seen["text"] == "from-a-configmap"
        assert seen["claim"] == f"{before}.", "a claim's data outlives the machine"
        gone(nodes, "vmi", "tree")


def test_an_agent_that_comes_back_finds_machines_as_they_were(nodes: NodesCluster) -> None:
    nodes.kubectl("apply", "--filename=-", stdin=lxc("stays"))
    sights(nodes, "stays")
    nodes.kubectl("delete", "pods", "--namespace=kubevirt", "--selector=kubevirt.io=virt-handler")
    nodes.kubectl("rollout", "status", "daemonset/virt-handler", "--namespace=kubevirt", "--timeout=100s")
    assert phase(nodes, "vmi", "stays") == "Running"
    gone(nodes, "vmi", "stays")


def test_what_cannot_be_had_is_said(nodes: NodesCluster) -> None:
    spec = yaml.safe_load(qemu("none"))["spec"]
    spec["volumes"][0]["containerDisk"] = image("not-there")
    metadata = {"name": "none", "labels": {}}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata}
    body = {"runStrategy": "Always", "template": {"metadata": {}, "spec": spec}}
    nodes.kubectl("apply", "--filename=-", stdin=yaml.safe_dump({**vm, "spec": body}))

    def printed() -> str:
        return str(get(nodes, "vm", "none").get("status", {}).get("printableStatus"))

    eventually(lambda: printed() == "ErrImagePull", SECONDS, printed)
    gone(nodes, "vm", "none")
