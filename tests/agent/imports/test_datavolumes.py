"""DataVolumes against a real API server: every source, with CDI's phases; failures that are tried again or not."""

from __future__ import annotations

import asyncio
import base64
import gzip
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.agent import Agent
from polyvisor.agent.imports.datavolumes import Progress
from polyvisor.agent.settings import Settings
from polyvisor.api.resources import CDICONFIGS, DATAVOLUMES, EVENTS, PVCS, SECRETS
from polyvisor.kube import Informer

from ...cluster import running
from ..conftest import Layout, member, tar
from ..registry_server import serving
from ..test_machines import NODE, Home
from ..web_server import Answer, Web, web

Obj = dict[str, Any]
CONTENT = (b"a disk" + bytes(4090)) * 16


class Importer(Home):
    @asynccontextmanager
    async def agent_running(self) -> AsyncIterator[Agent]:
        agent = Agent(self.client, self.registry, Settings(NODE, self.state, imports=True))
        task = asyncio.create_task(agent.run())
        try:
            await asyncio.wait([task, asyncio.ensure_future(agent.synced.wait())], return_when="FIRST_COMPLETED")
            yield agent
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def volume(self, source: Obj, name: str = "dv", size: str = "1Mi", **spec: Any) -> Obj:
        storage = {"resources": {"requests": {"storage": size}}} if size else {}
        return await self.client.create(
            DATAVOLUMES,
            {
                "apiVersion": DATAVOLUMES.api_version,
                "kind": DATAVOLUMES.kind,
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"source": source, "storage": storage, **spec},
            },
        )

    async def until(self, resource: Any, name: str, holds: Callable[[Obj], Any]) -> Obj:
        return await super().until(resource, name, lambda obj: "status" in obj and holds(obj))

    async def reaches(self, phase: str, name: str = "dv") -> Obj:
        return await self.until(DATAVOLUMES, name, lambda volume: volume["status"].get("phase") == phase)

    def disk(self, name: str = "dv") -> bytes:
        return (self.state / "volumes/default" / name / "disk.img").read_bytes()


@pytest.fixture
async def importer(tmp_path: Path) -> AsyncIterator[Importer]:
    async with running(tmp_path) as client:
        yield Importer(client, tmp_path / "s")


@pytest.fixture
def site() -> Iterator[Web]:
    with web() as server:
        yield server


def conditions(volume: Obj) -> dict[str, str]:
    return {one["type"]: one["status"] for one in volume["status"]["conditions"]}


async def test_an_import_from_the_web(importer: Importer, site: Web) -> None:
    hold = threading.Event()
    site.answers["/disk.gz"] = Answer(gzip.compress(CONTENT, 0), hold=hold)
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk.gz")}})
        volume = await importer.until(
            DATAVOLUMES, "dv", lambda v: v["status"].get("progress", "N/A") not in ("N/A", "0.00%")
        )
        assert volume["status"]["phase"] == "ImportInProgress"
        assert 0 < float(volume["status"]["progress"].rstrip("%")) < 100
        assert conditions(volume) == {"Bound": "True", "Ready": "False", "Running": "True"}
        claim = await importer.until(PVCS, "dv", lambda claim: claim["status"]["phase"] == "Bound")
        assert claim["metadata"]["ownerReferences"][0]["uid"] == volume["metadata"]["uid"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        hold.set()
        volume = await importer.reaches("Succeeded")
        assert (volume["status"]["progress"], volume["status"]["claimName"]) == ("100.0%", "dv")
        assert conditions(volume) == {"Bound": "True", "Ready": "True", "Running": "False"}
        assert importer.disk() == CONTENT.ljust(1 << 20, b"\0")
        await importer.client.delete(DATAVOLUMES, "dv", "default")
        await importer.gone(PVCS, "dv")
        assert not (importer.state / "volumes/default/dv").exists()


async def test_a_claim_is_bound_before_a_machine_uses_it(importer: Importer) -> None:
    """Tools make a claim, wait until it is bound, and make the machine then."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}}
    async with importer.agent_running():
        await importer.client.create(PVCS, {**claim, "spec": spec})
        bound = await importer.until(PVCS, "c", lambda claim: claim["status"]["phase"] == "Bound")
        assert bound["status"]["capacity"] == {"storage": "1Mi"}
        assert bound["metadata"]["annotations"] == {"pv.kubernetes.io/bind-completed": "yes"}
        await importer.client.delete(PVCS, "c", "default")
        await importer.gone(PVCS, "c")


async def test_a_block_device_is_filled_with_a_disk(importer: Importer, site: Web) -> None:
    site.answers["/disk"] = Answer(CONTENT)
    storage = {"volumeMode": "Block", "resources": {"requests": {"storage": "1Mi"}}}
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk")}}, storage=storage)
        await importer.reaches("Succeeded")
        claim = await importer.client.get(PVCS, "dv", "default")
        assert claim["spec"]["volumeMode"] == "Block"
        assert importer.disk() == CONTENT.ljust(1 << 20, b"\0")


async def test_what_fails_for_now_is_tried_again(importer: Importer, site: Web) -> None:
    site.answers["/disk"] = Answer(CONTENT, hang_up_after=5000)
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk")}})
        volume = await importer.until(DATAVOLUMES, "dv", lambda v: v["status"].get("restartCount"))
        said = next(one for one in volume["status"]["conditions"] if one["type"] == "Running")
        assert said["reason"] == "Error"
        assert "cannot be fetched" in said["message"]
        assert not (importer.state / "volumes/default/dv/disk.img").exists()
        site.answers["/disk"] = Answer(CONTENT)
        await importer.reaches("Succeeded")
        assert importer.disk().startswith(CONTENT)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(bytes(2 << 20)), "larger than its claim"),
        (Answer(b"QFI\xfb" + bytes(2000)), "version 0; 2 and 3"),
    ],
)
async def test_what_cannot_be_helped_fails(importer: Importer, site: Web, answer: Answer, message: str) -> None:
    site.answers["/disk"] = answer
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk")}})
        volume = await importer.reaches("Failed")
        said = next(one for one in volume["status"]["conditions"] if one["type"] == "Running")
        assert message in said["message"]
        async with Informer(importer.client, EVENTS) as events:
            await events.wait_until(
                lambda seen: [e for e in seen.items() if e["reason"] == "ImportFailed" and message in e["message"]], 20
            )


async def test_credentials_and_headers(importer: Importer, site: Web) -> None:
    site.answers["/disk"] = Answer(CONTENT)
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk"), "secretRef": "s", "extraHeaders": ["X-One: 1"]}})
        volume = await importer.until(DATAVOLUMES, "dv", lambda v: v["status"].get("restartCount"))
        assert "Secret s does not exist yet" in str(volume["status"]["conditions"])
        await importer.client.create(
            SECRETS,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "s", "namespace": "default"},
                "stringData": {"accessKeyId": "me", "secretKey": "s3cret"},
            },
        )
        await importer.reaches("Succeeded")
        assert site.asked[-1]["Authorization"] == f"Basic {base64.b64encode(b'me:s3cret').decode()}"
        assert site.asked[-1]["X-One"] == "1"


async def test_blank_clone_and_no_overwriting(importer: Importer) -> None:
    async with importer.agent_running():
        await importer.volume({"blank": {}}, "first", "2Mi")
        await importer.reaches("Succeeded", "first")
        assert importer.disk("first") == bytes(2 << 20)
        (importer.state / "volumes/default/first/disk.img").write_bytes(b"written".ljust(2 << 20, b"\0"))
        await importer.volume({"pvc": {"namespace": "default", "name": "first"}}, "second", "")
        await importer.reaches("Succeeded", "second")
        assert importer.disk("second") == importer.disk("first")
        claim = await importer.client.get(PVCS, "second", "default")
        assert claim["spec"]["resources"]["requests"]["storage"] == "2Mi"
        named = {"apiVersion": "v1", "kind": PVCS.kind, "metadata": {"name": "taken", "namespace": "default"}}
        await importer.client.create(PVCS, {**named, "spec": claim["spec"]})
        await importer.volume({"blank": {}}, "taken")
        volume = await importer.until(DATAVOLUMES, "taken", lambda v: v["status"].get("restartCount"))
        assert "exists and is not this DataVolume's" in str(volume["status"]["conditions"])
        assert not (importer.state / "volumes/default/taken").exists()


async def test_registry(importer: Importer, tmp_path: Path) -> None:
    remote = Layout(tmp_path / "remote")
    qcow2, raw = tmp_path / "d.qcow2", tmp_path / "d.img"
    raw.write_bytes(CONTENT)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2], check=True)  # noqa: ASYNC221
    remote.image("team/disk:1", tar(member("disk/d.qcow2", qcow2.read_bytes())))
    with serving(remote.root) as registry:
        config: Obj = {"apiVersion": CDICONFIGS.api_version, "kind": CDICONFIGS.kind, "metadata": {"name": "config"}}
        await importer.client.create(CDICONFIGS, {**config, "spec": {"insecureRegistries": [registry.host]}})
        async with importer.agent_running():
            await importer.volume({"registry": {"url": f"docker://{registry.host}/team/disk:1"}})
            await importer.reaches("Succeeded")
            assert importer.disk() == CONTENT.ljust(1 << 20, b"\0")


async def test_an_archive_is_a_tree(importer: Importer, site: Web) -> None:
    site.answers["/tree.tar"] = Answer(tar(member("sbin/init", b"#!", mode=0o755)))
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/tree.tar")}}, contentType="archive")
        await importer.reaches("Succeeded")
        assert (importer.state / "volumes/default/dv/sbin/init").read_bytes() == b"#!"


async def test_deleting_a_volume_ends_its_import(importer: Importer, site: Web) -> None:
    site.answers["/disk"] = Answer(CONTENT, hold=threading.Event())
    async with importer.agent_running():
        await importer.volume({"http": {"url": site.url("/disk")}})
        await importer.reaches("ImportInProgress")
        await importer.client.delete(DATAVOLUMES, "dv", "default")
        site.answers["/disk"].hold.set()  # type: ignore[union-attr]
        await importer.gone(PVCS, "dv")
        for name in ("dv", ".import.dv"):
            await importer.removed(importer.state / "volumes/default" / name)
        assert not list((importer.state / "volumes/default").iterdir())


def test_progress_reads_as_with_cdi() -> None:
    progress = Progress()
    assert progress.text == "N/A"
    progress.tell(0.12345)
    assert progress.text == "12.35%"
