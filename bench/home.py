"""An installation of its own for measuring, in a temporary folder, with machines small enough to start in a moment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyvisor.api.resources import PODS, VMIS
from polyvisor.kube import KubeClient

ROOT = Path(__file__).resolve().parents[1]
POLYVISOR = Path(sys.executable).parent / "polyvisor"
Obj = dict[str, Any]

SPECS: dict[str, Obj] = {
    "qemu": {
        "domain": {
            "memory": {"guest": "96Mi"},
            "devices": {"autoattachPodInterface": False},
            "firmware": {
                "kernelBoot": {
                    "kernelArgs": "console=ttyS0 quiet",
                    "container": {
                        "image": "localhost/polyvisor/demo-kernel:1",
                        "kernelPath": "/boot/vmlinuz",
                        "initrdPath": "/boot/initrd.img",
                    },
                }
            },
        }
    },
    "lxc": {
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": False}},
        "volumes": [{"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}}],
    },
}
"""The smallest machine of each driver that is measured."""


class Home:
    """The installation, started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str) -> None:
        """Run one command of the command line."""
        environment = {**os.environ, "POLYVISOR_STATE_DIR": str(self.folder)}
        done = subprocess.run([POLYVISOR, *arguments], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"polyvisor {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def client(self) -> KubeClient:
        """Return a client of the API."""
        return KubeClient.from_kubeconfig(self.folder / "kubeconfig")

    @property
    def pid(self) -> int:
        """The process that everything but launchers and guests runs in."""
        return int(json.loads((self.folder / "up.pid").read_text())["pid"])

    async def launcher_folder(self, client: KubeClient, name: str) -> Path:
        """Return the folder of a machine's launcher."""
        (pod,) = await client.list(PODS, "default", label_selector=f"vm.kubevirt.io/name={name}")
        return self.folder / "l" / pod["metadata"]["uid"].replace("-", "")[:12]


@contextmanager
def home(*options: str) -> Iterator[Home]:
    """Make an installation, start it with the ``options`` of ``up``, and take it away again."""
    folder = Path(tempfile.mkdtemp(prefix="pvb", dir="/tmp"))
    one = Home(folder)
    try:
        subprocess.run(["/usr/bin/python3", "tools/guest_images.py", folder / "images"], cwd=ROOT, check=True)
        one.run("up", *options)
        yield one
    finally:
        one.run("down")
        shutil.rmtree(folder)


def machine(name: str, driver: str) -> Obj:
    """Return a VirtualMachineInstance."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hypervisor": {"driver": driver}, "terminationGracePeriodSeconds": 0, **SPECS[driver]},
    }


async def post_and_wait(client: KubeClient, obj: Obj) -> float:
    """Create a machine and return the seconds until a watch says that it runs."""
    _, version = await client.list_with_version(VMIS, "default")
    watch = client.watch(VMIS, "default", resource_version=version)
    name = obj["metadata"]["name"]
    begin = time.perf_counter()
    posting = asyncio.create_task(client.create(VMIS, obj))
    async for event in watch:
        if event.object["metadata"]["name"] == name and event.object.get("status", {}).get("phase") == "Running":
            break
    seconds = time.perf_counter() - begin
    await posting
    await watch.aclose()  # type: ignore[attr-defined]
    return seconds


async def delete_and_wait(client: KubeClient, name: str) -> None:
    """Delete a machine and wait until it is gone."""
    _, version = await client.list_with_version(VMIS, "default")
    watch = client.watch(VMIS, "default", resource_version=version)
    await client.delete(VMIS, name, "default")
    async for event in watch:
        if event.type == "DELETED" and event.object["metadata"]["name"] == name:
            break
    await watch.aclose()  # type: ignore[attr-defined]
