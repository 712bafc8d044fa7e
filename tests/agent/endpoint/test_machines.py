"""Machines on real hosts: libvirt's daemon, guests that boot from images which were uploaded to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from polyvisor.agent.images import ImageStore
from polyvisor.api import Obj
from polyvisor.api.resources import PODS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import boot_sector
from polyvisor.standalone.local_node import LocalNode
from tests.agent.conftest import Layout, folder, member, tar
from tests.agent.endpoint.hosts import HypervisorHost
from tests.agent.endpoint.test_hosts import by_socket, by_ssh, by_tls, ssh_secret, tls_secret
from tests.agent.endpoint.world import World, installed
from tests.folders import short_folder

pytestmark = pytest.mark.root
IMAGE = "localhost/tests/boot-sector:1"
DISK = {"name": "root", "containerDisk": {"image": IMAGE}}
POOL = {"storageClass": "images", "pool": "images", "defaultForImages": True}


@pytest.fixture(scope="session")
def pool(host: HypervisorHost) -> str:
    """A storage pool of the host."""
    host.virsh("pool-define-as", "images", "dir", "--target", "/var/lib/libvirt/images")
    host.virsh("pool-build", "images")
    host.virsh("pool-start", "images")
    return "images"


@pytest.fixture
async def world(drivers: DriverRegistry, tmp_path: Path) -> AsyncIterator[World]:
    layout = Layout(tmp_path / "images")
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
    async with asyncio.timeout(90):
        async for chunk in node.read_log(pod, "guest-console-log", follow=True, tail=None):
            said += chunk
            if wanted in said:
                return said
    raise AssertionError(said)


@pytest.mark.parametrize("transport", ["unix", "ssh", "tls"])
async def test_a_guest_boots_from_an_image_that_was_brought_to_its_host(
    world: World, host: HypervisorHost, pool: str, transport: str
) -> None:
    ways = {
        "unix": (by_socket(host), None),
        "ssh": (by_ssh(host), ssh_secret(host)),
        "tls": (by_tls(host), tls_secret(host.authority)),
    }
    endpoint, secret = ways[transport]
    await world.add(mapped(endpoint), secret)
    await world.create("web", "rack4", volumes=[DISK])
    vmi = await world.running("web")
    assert vmi["status"]["nodeName"] == "endpoint-rack4"
    hypervisor = vmi["status"]["hypervisor"]
    assert (hypervisor["driver"], hypervisor["endpoint"]) == ("qemu", "rack4")
    assert hypervisor["domain"]["name"] == "default_web"
    assert hypervisor["version"]
    assert boot_sector.DONE in await console_of(world, vmi, boot_sector.DONE)
    assert domains(host) == ["default_web"]
    uid = vmi["metadata"]["uid"]
    assert f"polyvisor-{uid}-root.qcow2" in volumes(host)
    await world.delete("web")
    await world.gone("web")
    assert domains(host) == []
    assert not [name for name in volumes(host) if uid in name]
