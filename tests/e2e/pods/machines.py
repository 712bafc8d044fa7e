"""What tests of machines in launcher Pods share: claims, machines, and what is seen of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tests.e2e.installation import eventually
from tests.e2e.nodes import NodesCluster

Obj = dict[str, Any]
SECONDS = 300
PREFIX = "localhost/polyvisor/"


def claim(name: str, mode: str = "Filesystem", size: str = "4Mi", access: str = "ReadWriteOnce", **place: Any) -> str:
    """Return a claim and the volume for it, by default a folder of the node; nothing here provisions volumes."""
    room = {"storage": size}
    common = {"accessModes": [access], "storageClassName": "", "volumeMode": mode}
    folder = {"hostPath": {"path": f"/var/lib/polyvisor/claims/{name}", "type": "DirectoryOrCreate"}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    wanted = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
    return yaml.safe_dump_all(
        [
            {**volume, "spec": {**common, "capacity": room, **(place or folder)}},
            {**wanted, "spec": {**common, "volumeName": name, "resources": {"requests": room}}},
        ]
    )


@contextmanager
def block_claim(nodes: NodesCluster, name: str) -> Iterator[str]:
    """Make a block device of the node, and a claim for it; give the device."""
    node, file = nodes.nodes[0], f"/var/lib/polyvisor/{name}.img"
    node.run("truncate", "--size=4M", file)
    device = node.run("losetup", "--find", "--show", file).stdout.strip()
    here = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}]
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": here}]}}
    nodes.kubectl("apply", "-f-", stdin=claim(name, "Block", local={"path": device}, nodeAffinity=affinity))
    try:
        yield device
    finally:
        node.run("losetup", "--detach", device)


def machine(name: str, driver: str, devices: Obj, volumes: list[Obj], **domain: Any) -> str:
    spec = {
        "hypervisor": {"driver": driver},
        "terminationGracePeriodSeconds": 10,
        "domain": {"memory": {"guest": "96Mi"}, "devices": devices, **domain},
        "volumes": volumes,
    }
    return yaml.safe_dump(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def image(name: str) -> Obj:
    return {"image": name if "/" in name else f"{PREFIX}{name}:1", "imagePullPolicy": "Never"}


KERNEL: Obj = {**image("demo-kernel"), "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
FIRMWARE: Obj = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}}
"""What boots the demo's guest, quietly."""


def get(nodes: NodesCluster, *what: str) -> Obj:
    return dict(json.loads(nodes.kubectl("get", *what, "--output=json")))


def phase(nodes: NodesCluster, kind: str, name: str) -> str:
    return str(get(nodes, kind, name).get("status", {}).get("phase"))


def pod_of(nodes: NodesCluster, name: str) -> Obj:
    (pod,) = get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
    return dict(pod)


def why(nodes: NodesCluster, name: str) -> str:
    """Tell what a machine is stuck at, the least telling first: what is long is cut at its beginning."""
    pods = nodes.kubectl("describe", "pods", f"--selector=vm.kubevirt.io/name={name}")
    states = [one.get("state") for one in pod_of(nodes, name)["status"].get("containerStatuses", [])]
    status = get(nodes, "vmi", name).get("status", {})
    compute = nodes.kubectl("logs", pod_of(nodes, name)["metadata"]["name"], "--container=compute", check=False)
    found = (nodes.nodes[0].root / "var/lib/kubelet/pods").glob("*/volumes/*/*/console.log")
    consoles = "".join(f"{file}: {file.read_text()}" for file in found)
    return f"{pods[-3000:]}\n{consoles}\n{said(nodes, name)[-2000:]}\n{compute[-2000:]}\n{states}\n{status}"


def said(nodes: NodesCluster, name: str) -> str:
    pods = get(nodes, "pods", f"--selector=vm.kubevirt.io/name={name}")["items"]
    log = ("--container=guest-console-log",)
    return "".join(str(nodes.kubectl("logs", pod["metadata"]["name"], *log, check=False)) for pod in pods)


def sights(nodes: NodesCluster, name: str) -> dict[str, str]:
    """Wait until a guest has said all that it saw; return that."""
    eventually(lambda: "SAW end" in said(nodes, name), SECONDS, lambda: why(nodes, name))
    lines = [line.strip().partition("SAW ")[2] for line in said(nodes, name).splitlines() if "SAW " in line]
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def gone(nodes: NodesCluster, kind: str, name: str) -> None:
    nodes.kubectl("delete", kind, name, "--wait=true", "--timeout=100s")
    selector = f"--selector=vm.kubevirt.io/name={name}"
    eventually(lambda: not get(nodes, "pods", selector)["items"], SECONDS)
