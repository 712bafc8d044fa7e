"""The whole agent against a real API server and real launchers, over libvirt's in-memory test driver."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent import identity, settings
from polyvisor.agent.agent import Agent
from polyvisor.agent.launchers.processes import folder_id, process_of
from polyvisor.agent.live import render
from polyvisor.agent.node.probing import driver_report
from polyvisor.api import names
from polyvisor.api.launcher_pods import DRIVER_ANNOTATION
from polyvisor.api.resources import CONFIGMAPS, EVENTS, LEASES, NODES, PODS, PVCS, VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import ApiError, Informer, KubeClient

from ..cluster import running
from .conftest import Layout, PlainDriver, member, tar

Obj = dict[str, Any]
NODE = "here"


def xml(vmi: Obj, *_: object) -> str:
    name, uuid = identity.domain_name(vmi), identity.domain_uuid(vmi)
    cards = "".join(
        f"<interface type='user'><alias name='ua-nic_{card['name']}'/></interface>"
        for card in vmi["spec"]["domain"]["devices"].get("interfaces") or []
    )
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory>"
        f"<os><type>hvm</type></os><devices>{cards}</devices></domain>"
    )


class Home:
    """A state folder, an API server, and an agent that can be stopped and started."""

    def __init__(self, client: KubeClient, state: Path) -> None:
        self.client = client
        self.state = state
        self.registry = DriverRegistry([PlainDriver()])
        self.agent: Agent | None = None

    @asynccontextmanager
    async def agent_running(self) -> AsyncIterator[Agent]:
        agent = Agent(self.client, self.registry, settings.Settings(NODE, self.state))
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def machine(self, name: str, *volumes: Obj, **spec: Any) -> Obj:
        disks = [{"name": volume["name"]} for volume in volumes]
        vmi = await self.client.create(
            VMIS,
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachineInstance",
                "metadata": {"name": name, "namespace": "default", "finalizers": ["test.example/hold"]},
                "spec": {"domain": {"devices": {"disks": disks}}, "volumes": list(volumes), **spec},
            },
        )
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "controller": True}
        await self.client.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"virt-launcher-{name}",
                    "namespace": "default",
                    "annotations": {DRIVER_ANNOTATION: "plain"},
                    "labels": {names.APP_LABEL: names.LAUNCHER_APP, names.CREATED_BY_LABEL: vmi["metadata"]["uid"]},
                    "ownerReferences": [{**owner, "uid": vmi["metadata"]["uid"]}],
                },
                "spec": {"nodeName": NODE, "containers": [{"name": "compute", "image": "x"}]},
            },
        )
        pod = await self.until(PODS, f"virt-launcher-{name}", lambda pod: pod["status"].get("phase") == "Running")
        vmi["status"] = {"phase": "Scheduled", "nodeName": NODE, "hypervisor": {"driver": "plain"}}
        vmi["status"]["activePods"] = {pod["metadata"]["uid"]: NODE}
        return await self.client.update_status(VMIS, vmi)

    async def until(self, resource: Any, name: str, holds: Callable[[Obj], Any]) -> Obj:
        """Wait until an object is as wanted."""
        last: Obj | None = None

        def look(informer: Informer) -> Obj | None:
            nonlocal last
            last = next((item for item in informer.items() if item["metadata"]["name"] == name), None)
            return last if last is not None and last.get("status", last) and holds(last) else None

        try:
            async with Informer(self.client, resource) as informer:
                found: Obj | None = await informer.wait_until(look, 20)
        except TimeoutError:
            raise AssertionError(f"not in time: {last}") from None
        assert found is not None
        return found

    async def gone(self, resource: Any, name: str) -> None:
        async with Informer(self.client, resource) as informer:
            await informer.wait_until(lambda informer: informer.get("default", name) is None, 20)

    async def folder(self, name: str) -> Path:
        pod = await self.client.get(PODS, f"virt-launcher-{name}", "default")
        return self.state / "l" / folder_id(pod["metadata"]["uid"])

    async def removed(self, folder: Path) -> None:
        async with asyncio.timeout(20):
            while folder.exists():  # noqa: ASYNC110, ASYNC240 - nothing tells when a folder goes
                await asyncio.sleep(0.02)

    def launchers(self) -> list[int]:
        return [pid for folder in sorted((self.state / "l").iterdir()) if (pid := process_of(folder))]

    def kill_all(self) -> None:
        for pid in self.launchers() if (self.state / "l").exists() else []:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    monkeypatch.setattr(render, "domain_xml", xml)
    async with running(tmp_path) as client:
        home = Home(client, tmp_path / "s")
        try:
            yield home
        finally:
            home.kill_all()


@pytest.fixture
def images(home: Home) -> Layout:
    layout = Layout(home.state / "images")
    layout.image("disk:1", tar(member("disk/d.img", b"x" * 4096)))
    return layout


def phase(wanted: str) -> Callable[[Obj], bool]:
    return lambda obj: (obj.get("status") or {}).get("phase") == wanted


def condition(obj: Obj, type_: str) -> Obj:
    return next((c for c in obj["status"].get("conditions") or [] if c["type"] == type_), {})


async def told(home: Home, name: str, wanted: set[str]) -> None:
    """Wait until Events with these reasons are there; they are written some time after they are recorded."""
    async with Informer(home.client, EVENTS) as events:
        await events.wait_until(
            lambda i: wanted <= {e["reason"] for e in i.items() if e["involvedObject"]["name"] == name}, 20
        )


async def test_node_shows_what_works(home: Home) -> None:
    async with home.agent_running():
        node = await home.until(
            NODES, NODE, lambda n: driver_report(n) and {"allocatable", "conditions"} <= n.get("status", {}).keys()
        )
        labels = node["metadata"]["labels"]
        assert labels["hypervisor.kubevirt.io/plain"] == "true"
        assert labels["hypervisor.kubevirt.io/plain.version"] == "1.2"
        assert labels["hypervisor.kubevirt.io/plain.plain"] == "true"
        assert labels["feature.hypervisor.kubevirt.io/plain.tpm"] == "true"
        assert labels["kubevirt.io/schedulable"] == "true"
        assert labels["cpumanager"] == ("true" if len(os.sched_getaffinity(0)) > 1 else "false")
        assert {"cpu", "memory", "ephemeral-storage", "pods"} <= node["status"]["allocatable"].keys()
        assert condition(node, "Ready")["status"] == "True"
        assert driver_report(node)[0]["virtTypes"] == ["plain"]
        assert (await home.until(LEASES, NODE, lambda lease: True))["spec"]["holderIdentity"] == NODE


async def test_life_of_a_machine(home: Home, images: Layout) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "root", "containerDisk": {"image": "disk:1"}})
        vmi = await home.until(VMIS, "one", phase("Running"))
        assert condition(vmi, "Ready")["status"] == "True"
        assert vmi["status"]["hypervisor"]["libvirtVersion"]
        assert vmi["status"]["phaseTransitionTimestamps"][-1]["phase"] == "Running"
        folder = await home.folder("one")
        assert (folder / "disks" / "root.qcow2").exists()
        await home.client.delete(VMIS, "one", "default")
        await home.until(VMIS, "one", phase("Succeeded"))
        await home.until(PODS, "virt-launcher-one", phase("Succeeded"))
        assert not (folder / "disks").exists()
        assert home.launchers() == []
        await home.client.delete(PODS, "virt-launcher-one", "default")
        await home.gone(PODS, "virt-launcher-one")
        await home.removed(folder)  # the API server removes a finished Pod at once, and the agent follows
        await told(home, "one", {"Created", "Started", "ShuttingDown", "Stopped", "Deleted", "Preparing"})


async def test_what_has_no_effect_without_a_kubelet_is_told(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", subdomain="machines", dnsPolicy="Default")
        await home.until(VMIS, "one", phase("Running"))
        await told(home, "one", {"NoEffect"})


async def test_deleting_the_pod_takes_the_machine_down(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        folder = await home.folder("one")
        await home.client.delete(PODS, "virt-launcher-one", "default")
        await home.until(VMIS, "one", phase("Succeeded"))  # long before the 30 s that the Pod has
        await home.gone(PODS, "virt-launcher-one")
        assert (await home.until(VMIS, "one", phase("Succeeded")))["status"]["phase"] == "Succeeded"
        assert not folder.exists()


async def test_missing_image_is_shown_and_tried_again(home: Home, images: Layout) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "root", "containerDisk": {"image": "later:1"}})
        vmi = await home.until(VMIS, "one", lambda v: "conditions" in v["status"])
        assert condition(vmi, "Synchronized")["reason"] in ("ErrImagePull", "ImagePullBackOff")
        assert "no image later:1" in condition(vmi, "Synchronized")["message"]
        await home.until(VMIS, "one", lambda v: condition(v, "Synchronized")["reason"] == "ImagePullBackOff")
        images.image("later:1", tar(member("disk/d.img", b"y" * 4096)))
        vmi = await home.until(VMIS, "one", phase("Running"))
        assert not [c for c in vmi["status"]["conditions"] if c["type"] == "Synchronized"]


async def test_missing_texts_are_waited_for(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "maps", "configMap": {"name": "m"}})
        vmi = await home.until(VMIS, "one", lambda v: "conditions" in v["status"])
        assert "ConfigMap m does not exist yet" in condition(vmi, "Synchronized")["message"]
        assert vmi["status"]["phase"] == "Scheduled"
        named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}}
        await home.client.create(CONFIGMAPS, {**named, "data": {"key": "value"}})
        await home.until(VMIS, "one", phase("Running"))
        assert (await home.folder("one") / "disks" / "maps.iso").exists()


async def test_hopeless_image_fails_the_machine(home: Home, images: Layout) -> None:
    images.image("none:1", tar(member("etc/motd", b"x")))
    async with home.agent_running():
        await home.machine("one", {"name": "root", "containerDisk": {"image": "none:1"}})
        vmi = await home.until(VMIS, "one", phase("Failed"))
        assert vmi["status"]["reason"] == "ErrImagePull"
        await home.until(PODS, "virt-launcher-one", phase("Failed"))


async def test_claim_is_bound(home: Home) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    metadata = {"name": "c", "namespace": "default"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    async with home.agent_running():
        await home.machine("one", {"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
        vmi = await home.until(VMIS, "one", lambda v: "conditions" in v["status"])
        assert condition(vmi, "Synchronized")["reason"] == "FailedPvcNotFound"
        await home.client.create(PVCS, claim)
        await home.until(VMIS, "one", phase("Running"))
        assert (await home.client.get(PVCS, "c", "default"))["status"]["phase"] == "Bound"
        assert (home.state / "volumes/default/c/disk.img").stat().st_size == 1 << 20


async def test_claims_folder_goes_with_it_once_no_pod_uses_it(home: Home) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    for name in ("c", "other"):
        metadata = {"name": name, "namespace": "default"}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
        await home.client.create(PVCS, claim)
    unknown = home.state / "volumes/default/unknown/disk.img"
    disk = home.state / "volumes/default/c/disk.img"
    async with home.agent_running():
        unknown.parent.mkdir(parents=True)
        unknown.write_bytes(b"somebody's")
        await home.machine("one", {"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
        await home.machine("two", {"name": "data", "persistentVolumeClaim": {"claimName": "other"}})
        await home.until(VMIS, "one", phase("Running"))
        await home.until(VMIS, "two", phase("Running"))
        await home.client.delete(PVCS, "c", "default")
        await home.client.delete(VMIS, "two", "default")
        await home.until(PODS, "virt-launcher-two", phase("Succeeded"))
        await home.until(PVCS, "c", lambda claim: claim["metadata"].get("deletionTimestamp"))
        assert disk.exists()
        await home.machine("late", {"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
        late = await home.until(VMIS, "late", lambda v: "conditions" in v["status"])
        assert "being deleted" in condition(late, "Synchronized")["message"]
        await home.client.delete(PODS, "virt-launcher-late", "default")
        await home.gone(PODS, "virt-launcher-late")
    async with home.agent_running():  # what was begun is finished by the next one
        await home.client.delete(VMIS, "one", "default")
        await home.until(PODS, "virt-launcher-one", phase("Succeeded"))
        await home.gone(PVCS, "c")
        assert not disk.parent.exists()
        assert (home.state / "volumes/default/other/disk.img").exists()
        assert unknown.exists()


async def test_restarted_agent_adopts(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        before = home.launchers()
    assert home.launchers() == before
    async with home.agent_running() as agent:
        async with asyncio.timeout(30):
            await agent.ask("default", "one", "pause")  # asked before it knows what runs here
        vmi = await home.until(VMIS, "one", lambda v: any(c["type"] == "Paused" for c in v["status"]["conditions"]))
        assert condition(vmi, "Ready")["status"] == "False"
        assert home.launchers() == before


async def test_status_tells_what_libvirt_made_of_the_machine(home: Home) -> None:
    volume = {"name": "data", "emptyDisk": {"capacity": "1Mi"}}
    devices = {"disks": [{"name": "data"}], "interfaces": [{"name": "net"}]}
    async with home.agent_running():
        await home.machine("one", volume, domain={"devices": devices})
        vmi = await home.until(VMIS, "one", phase("Running"))
    assert vmi["status"]["volumeStatus"] == [{"name": "data", "target": "", "size": 1 << 20}]
    (card,) = vmi["status"]["interfaces"]
    assert (card["name"], card["infoSource"]) == ("net", "domain")
    assert len(card["mac"].split(":")) == 6
    assert "ipAddress" not in card


async def test_machine_that_shall_wait_is_paused_until_it_is_let_go(home: Home) -> None:
    async with home.agent_running() as agent:
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}}, startStrategy="Paused")
        vmi = await home.until(VMIS, "one", phase("Running"))
        assert condition(vmi, "Paused")["reason"] == "PausedByUser"
        assert condition(vmi, "Ready")["status"] == "False"
        await agent.ask("default", "one", "unpause")
        ready = await home.until(VMIS, "one", lambda v: condition(v, "Ready")["status"] == "True")
        assert not any(c["type"] == "Paused" for c in ready["status"]["conditions"])


async def test_folder_without_a_pod_is_removed(home: Home) -> None:
    async with home.agent_running():
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        folder = await home.folder("one")
    await home.client.delete(PODS, "virt-launcher-one", "default", grace_period_seconds=0)
    with pytest.raises(ApiError):
        await home.client.get(PODS, "virt-launcher-one", "default")
    async with home.agent_running():
        vmi = await home.until(VMIS, "one", phase("Failed"))
        assert condition(vmi, "Ready")["status"] == "False"
        await home.removed(folder)
    assert home.launchers() == []


async def test_drain(home: Home) -> None:
    async with home.agent_running() as agent:
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        await agent.drain(10)
        await home.until(VMIS, "one", phase("Succeeded"))
        node = await home.client.get(NODES, NODE)
        assert condition(node, "Ready")["status"] == "False"


async def test_foreign_pod_fails(home: Home) -> None:
    metadata = {"name": "web", "namespace": "default"}
    spec = {"nodeName": NODE, "containers": [{"name": "web", "image": "nginx"}]}
    await home.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    async with home.agent_running():
        pod = await home.until(PODS, "web", phase("Failed"))
        assert "launcher Pods only" in pod["status"]["message"]


async def test_a_claim_is_one_machines_at_a_time(home: Home) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}}
    await home.client.create(PVCS, {**claim, "spec": spec})
    volume = {"name": "root", "persistentVolumeClaim": {"claimName": "c"}}
    async with home.agent_running():
        await home.machine("first", volume)
        await home.until(VMIS, "first", phase("Running"))
        await home.machine("second", volume)
        waits = await home.until(VMIS, "second", lambda v: condition(v, "Synchronized"))
        told_why = condition(waits, "Synchronized")
        assert (told_why["reason"], waits["status"]["phase"]) == ("VolumeInUse", "Scheduled")
        assert "in use by VirtualMachineInstance default/first" in told_why["message"]
    async with home.agent_running():  # the next agent knows it too
        await home.until(VMIS, "first", phase("Running"))
        await home.client.delete(VMIS, "first", "default", grace_period_seconds=0)
        await home.until(VMIS, "second", phase("Running"))
