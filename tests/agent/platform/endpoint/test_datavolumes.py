"""DataVolumes of mapped classes: brought to a real host from each source, copied there, and fetched from there."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint.pools import Pools
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS, STORAGE_CLASSES
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.resources import DATAVOLUMES, PVCS
from polyvisor.drivers.qemu import boot_sector
from polyvisor.kube.tasks import end_task
from polyvisor.standalone.volume_binder import run_binder
from tests.agent.platform.endpoint.guests import clean as clean
from tests.agent.platform.endpoint.guests import console_of, mapped, volumes
from tests.agent.platform.endpoint.guests import world as world
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket
from tests.agent.platform.endpoint.world import World, phase
from tests.agent.web_server import Answer
from tests.agent.web_server import web as web_server

pytestmark = pytest.mark.root


@pytest.fixture
async def ready(world: World, host: HypervisorHost, pool: str) -> AsyncIterator[World]:
    binder = asyncio.create_task(run_binder(world.client))
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "images"}}
    await world.client.create(STORAGE_CLASSES, {**made, "provisioner": ENDPOINT_CSI_DRIVER})
    try:
        await world.add(mapped(by_socket(host)))
        yield world
    finally:
        await end_task(binder)


async def make(world: World, name: str, source: Obj, size: str = "8Mi") -> Obj:
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "images"}
    spec = {"source": source, "pvc": {**claim, "resources": {"requests": {"storage": size}}}}
    whole = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "spec": spec}
    return await world.client.create(DATAVOLUMES, {**whole, "metadata": {"name": name, "namespace": "default"}})


async def filled(world: World, name: str) -> Path:
    """Wait for a DataVolume; return the place of its claim's volume on the host."""
    await world.until(DATAVOLUMES, name, lambda one: phase(one) == "Succeeded")
    claim = await world.until(PVCS, name, lambda one: phase(one) == "Bound")
    volume = await world.client.get(PVS, claim["spec"]["volumeName"])
    return Path(volume["spec"]["csi"]["volumeAttributes"]["path"])


async def test_a_disk_of_a_web_server_is_brought_and_boots_and_is_copied_by_the_host(
    ready: World, host: HypervisorHost, tmp_path: Path
) -> None:
    disk = boot_sector.write_disk(tmp_path / "served.img").read_bytes()
    with web_server() as web:
        web.answers["/disk.img"] = Answer(disk)
        await make(ready, "web", {"http": {"url": web.url("/disk.img")}})
        await filled(ready, "web")
    told = await ready.client.get(DATAVOLUMES, "web", "default")
    assert told["status"]["progress"] == "100.0%"
    await make(ready, "copy", {"pvc": {"namespace": "default", "name": "web"}}, "16Mi")
    await filled(ready, "copy")
    data = {"name": "root", "persistentVolumeClaim": {"claimName": "copy"}}
    await ready.create("guest", "rack4", volumes=[data])
    vmi = await ready.running("guest")
    assert boot_sector.DONE in await console_of(ready, vmi, boot_sector.DONE)
    await ready.delete("guest")
    await ready.gone("guest")


async def test_a_claim_of_a_host_is_fetched_as_it_is(ready: World, tmp_path: Path) -> None:
    disk = boot_sector.write_disk(tmp_path / "served.img").read_bytes()
    with web_server() as web:
        web.answers["/disk.img"] = Answer(disk)
        await make(ready, "web", {"http": {"url": web.url("/disk.img")}})
        await filled(ready, "web")
    assert ready.agent is not None
    file, agent = tmp_path / "fetched", ready.agent
    form = await asyncio.to_thread(agent.fetch, "default", "web", file, lambda _: None, threading.Event())
    assert form == "qcow2"
    done = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(file), str(tmp_path / "raw")]
    await asyncio.to_thread(subprocess.run, done, check=True)
    assert (tmp_path / "raw").read_bytes()[: len(disk)] == disk


async def test_an_upload_is_taken_and_one_that_is_cut_leaves_nothing(
    ready: World, host: HypervisorHost, tmp_path: Path
) -> None:
    disk = boot_sector.write_disk(tmp_path / "given.img").read_bytes()
    await make(ready, "given", {"upload": {}})
    await ready.until(DATAVOLUMES, "given", lambda one: phase(one) == "UploadReady")
    assert ready.agent is not None
    uploads = ready.agent.importing.uploads
    assert await uploads.has("default", "given")

    async def pieces(last: bytes) -> AsyncIterator[bytes]:
        yield disk[:1000]
        if not last:
            raise ConnectionError("cut")
        yield last

    with pytest.raises(ConnectionError):
        await uploads.receive("default", "given", pieces(b""))
    assert (await ready.client.get(DATAVOLUMES, "given", "default"))["status"]["phase"] == "UploadReady"
    await uploads.receive("default", "given", pieces(disk[1000:]))
    place = await filled(ready, "given")
    assert (host.folder / "lib" / "images" / place.name).stat().st_size > 0


async def test_an_upload_to_the_host_that_fails_is_begun_again(
    ready: World, host: HypervisorHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Pools.upload
    failed: list[list[str]] = []

    async def once(self: Pools, pool: str, name: str, *rest: object, **more: object) -> None:
        if not failed:
            (host.folder / "lib" / "images" / name).write_bytes(b"cut")
            failed.append(volumes(host))
            raise AgentError("cut off")
        await real(self, pool, name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Pools, "upload", once)
    disk = boot_sector.write_disk(tmp_path / "served.img").read_bytes()
    with web_server() as web:
        web.answers["/disk.img"] = Answer(disk)
        await make(ready, "web", {"http": {"url": web.url("/disk.img")}})
        place = await filled(ready, "web")
    assert failed
    assert (host.folder / "lib" / "images" / place.name).read_bytes()[:4] == b"QFI\xfb"


async def test_what_does_not_fit_is_refused_before_anything_is_sent(ready: World, tmp_path: Path) -> None:
    disk = bytes(20 << 20)
    with web_server() as web:
        web.answers["/disk.img"] = Answer(disk)
        await make(ready, "small", {"http": {"url": web.url("/disk.img")}}, "8Mi")
        found = await ready.until(DATAVOLUMES, "small", lambda one: phase(one) == "Failed")
    running = next(one for one in found["status"]["conditions"] if one["type"] == "Running")
    assert "larger than its claim" in running["message"]


async def test_an_archive_is_refused_by_name(ready: World) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "images"}
    spec = {
        "source": {"http": {"url": "http://127.0.0.1:1/a.tar"}},
        "contentType": "archive",
        "pvc": {**claim, "resources": {"requests": {"storage": "8Mi"}}},
    }
    whole = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "spec": spec}
    await ready.client.create(DATAVOLUMES, {**whole, "metadata": {"name": "tree", "namespace": "default"}})
    found = await ready.until(DATAVOLUMES, "tree", lambda one: phase(one) == "Failed")
    running = next(one for one in found["status"]["conditions"] if one["type"] == "Running")
    assert "a claim on a host is a disk" in running["message"]
