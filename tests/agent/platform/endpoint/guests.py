"""Machines of tests on real hosts: their images, the pool that these go to, their consoles."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.link.streams import ByteStream
from polyvisor.api import Obj
from polyvisor.api.resources import PODS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import boot_sector
from polyvisor.standalone.local_node import LocalNode
from tests import kept
from tests.agent.conftest import Layout, folder, member, tar
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.world import World, installed
from tests.folders import short_folder

IMAGE = "localhost/tests/boot-sector:1"
KERNEL = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
DEMO = {
    "domain": {
        "memory": {"guest": "128Mi"},
        "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}},
    },
    "volumes": [
        {"name": "data", "containerDisk": {"image": "localhost/polyvisor/demo-disk:1"}},
        {"name": "scratch", "emptyDisk": {"capacity": "16Mi"}},
        {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\nhostname: from-afar\n"}},
    ],
}
DISK = {"name": "root", "containerDisk": {"image": IMAGE}}
POOL = {"storageClass": "images", "pool": "images", "defaultForImages": True}


@pytest.fixture(autouse=True)
def clean(host: HypervisorHost) -> Iterator[None]:
    """Leave no domain to the next test, whatever became of this one."""
    yield
    for name in domains(host):
        host.run("virsh", "-q", "-c", "qemu:///system", "destroy", name)
        host.run("virsh", "-q", "-c", "qemu:///system", "undefine", name)


@pytest.fixture
async def world(drivers: DriverRegistry, tmp_path: Path) -> AsyncIterator[World]:
    shutil.copytree(kept.guest_images(), tmp_path / "images")
    layout = Layout(tmp_path / "images")
    layout.manifests = json.loads((tmp_path / "images" / "index.json").read_text())["manifests"]
    disk = boot_sector.write_disk(tmp_path / "disk.img").read_bytes()
    layout.image(IMAGE, tar(folder("disk"), member("disk/disk.img", disk)))
    images = ImageStore(tmp_path / "images", tmp_path / "cache")
    with short_folder() as short:
        async with installed(short, drivers, images) as found:
            yield found


def mapped(endpoint: Obj) -> Obj:
    return {**endpoint, "spec": {**endpoint["spec"], "storage": [POOL]}}


def volumes(host: HypervisorHost) -> list[str]:
    return sorted(line.split()[0] for line in host.virsh("vol-list", "images").splitlines())


def domains(host: HypervisorHost, scheme: str = "qemu") -> list[str]:
    return host.virsh("list", "--all", "--name", scheme=scheme).split()


async def console_of(world: World, vmi: Obj, wanted: bytes) -> bytes:
    """Read a console's log until it says what is wanted."""
    node = LocalNode()
    node.endpoints = world.agent
    pods = await world.client.list(PODS, "default")
    pod = next(one for one in pods if one["metadata"]["uid"] in vmi["status"]["activePods"])
    said = b""
    try:
        async with asyncio.timeout(120):
            async for chunk in node.read_log(pod, "guest-console-log", follow=True, tail=None):
                said += chunk
                if wanted in said:
                    return said
    except TimeoutError:
        pytest.fail(f"the console does not say {wanted!r}: {said[-2000:]!r}")
    raise AssertionError(said)


class Shell:
    """A guest's console as one who types there has it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._heard = b""

    async def until(self, pattern: bytes) -> re.Match[bytes]:
        async with asyncio.timeout(60):
            while not (found := re.search(pattern, self._heard)):
                data = await self._stream.read()
                assert data, self._heard
                self._heard += data
        self._heard = self._heard[found.end() :]
        return found

    async def says(self, command: str, pattern: bytes) -> re.Match[bytes]:
        await self._stream.write(command.encode() + b"\n")
        return await self.until(pattern)


def node_of(world: World) -> LocalNode:
    node = LocalNode()
    node.endpoints = world.agent
    return node


def vmi_pod(vmi: Obj, pods: list[Obj]) -> str:
    return next(str(p["metadata"]["name"]) for p in pods if p["metadata"]["uid"] in vmi["status"]["activePods"])
