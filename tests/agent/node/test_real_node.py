"""virt-handler as a process on a node that a kubelet keeps; the test plays the kubelet, launchers are real."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyvisor.agent.live import render
from polyvisor.agent.platform.pod_launchers import EMPTY_DIRS
from polyvisor.agent.process import Handler
from polyvisor.api import names
from polyvisor.api.resources import KUBEVIRTS, LEASES, NODES, PODS, VMIS
from polyvisor.drivers.base import Cpus, ProbeResult
from polyvisor.kube.tasks import end_task
from polyvisor.process.certificates import issue_client, make_authority
from polyvisor.server.node import NodeError
from polyvisor.server.remote_node import RemoteNode

from ...cluster import KUBEVIRT, TOKEN, shown_by, told_version
from ..conftest import PlainDriver
from ..played_kubelet import DAY, Kubelet
from ..test_machines import xml

Obj = dict[str, Any]


async def test_the_node_is_labelled_and_otherwise_left_alone(kubelet: Kubelet, handler: Handler) -> None:
    node = await kubelet.until(NODES, "n1", lambda n: n["metadata"]["labels"].get("kubevirt.io/schedulable") == "true")
    labels = node["metadata"]["labels"]
    assert labels["hypervisor.kubevirt.io/plain"] == "true"
    assert labels["kept"] == "yes"
    assert labels["cpumanager"] == "false"
    assert node["metadata"]["annotations"]["kubevirt.io/heartbeat"]
    assert {c["type"] for c in (node.get("status") or {}).get("conditions", [])} <= {"HypervisorsWork"}
    assert not await kubelet.client.list(LEASES), "so is the Lease"


async def test_what_stops_working_is_told_on_node_and_machines_and_taken_back(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "device"
    device.touch()

    def probe(_: PlainDriver, scratch: Path) -> ProbeResult:
        if not device.exists():
            return ProbeResult(False, "the device is not there")
        return ProbeResult(True, version="1.2", virt_types=("plain",), cpus=Cpus(models=("Nehalem",)))

    monkeypatch.setattr(PlainDriver, "watched", (str(device),))
    monkeypatch.setattr(PlainDriver, "probe", probe)
    label, model = "hypervisor.kubevirt.io/plain", "cpu-model.node.kubevirt.io/Nehalem"
    task = asyncio.create_task(kubelet.handler(tmp_path).run())
    await kubelet.until(NODES, "n1", lambda n: {label, model} <= set(n["metadata"]["labels"]))
    await kubelet.machine("one")
    await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    device.unlink()
    node = await kubelet.until(NODES, "n1", lambda n: label not in n["metadata"]["labels"])
    assert model not in node["metadata"]["labels"]
    node = await kubelet.until(NODES, "n1", lambda n: condition(n, "HypervisorsWork").get("status") == "False")
    assert condition(node, "HypervisorsWork")["message"] == "plain: the device is not there"
    vmi = await kubelet.until(VMIS, "one", lambda v: condition(v, "HypervisorAvailable"))
    said = "Plain no longer works on node n1: the device is not there; the guest goes on"
    assert condition(vmi, "HypervisorAvailable")["message"].startswith(said)
    assert vmi["status"]["phase"] == "Running"
    assert condition(vmi, "Ready")["status"] == "True"
    device.touch()
    await kubelet.until(NODES, "n1", lambda n: condition(n, "HypervisorsWork").get("status") == "True")
    await kubelet.until(VMIS, "one", lambda v: not condition(v, "HypervisorAvailable"))
    await end_task(task)


async def test_a_stopped_agent_takes_no_more_machines(kubelet: Kubelet, tmp_path: Path) -> None:
    task = asyncio.create_task(kubelet.handler(tmp_path).run())
    await kubelet.until(NODES, "n1", lambda n: n["metadata"]["labels"].get("kubevirt.io/schedulable") == "true")
    await end_task(task)
    node = await kubelet.client.get(NODES, "n1")
    assert node["metadata"]["labels"]["kubevirt.io/schedulable"] == "false"


async def test_a_launcher_in_its_pod_gets_its_plan_runs_its_machine_and_ends_with_it(
    kubelet: Kubelet, handler: Handler
) -> None:
    await kubelet.machine("one")
    vmi = await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    shown = (await shown_by(handler.health_port, "/metrics", TOKEN)).text
    labels = 'hypervisor="plain",name="one",namespace="default",node="n1"'
    assert f"kubevirt_vmi_memory_domain_bytes{{{labels}}}" in shown
    assert "kubevirt_virt_handler_ready_status 1.0" in shown
    await told_version(handler.health_port, await kubelet.client.create(KUBEVIRTS, KUBEVIRT))
    assert 'kubevirt_workqueue_adds_total{name="virt-handler-vmi"}' in shown
    pod = await kubelet.client.get(PODS, "virt-launcher-one", "default")
    assert set(pod["status"]) == {"phase", "containerStatuses"}, "the Pod's status is the kubelet's"
    folder = kubelet.pods / pod["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/polyvisor"
    assert oct((folder / "plan.json").stat().st_mode)[-3:] == "644"
    await kubelet.client.delete(VMIS, "one", "default")
    await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] in ("Succeeded", "Failed"))
    assert await kubelet.ended(pod["metadata"]["uid"]) == 0
    assert vmi["status"]["hypervisor"]["driver"] == "plain"


async def test_the_domain_names_folders_as_the_launcher_sees_them(
    kubelet: Kubelet, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []

    def noted(vmi: Obj, driver: Any, prepared: Any, folder: Path, cards: Any, cpus: Any) -> str:
        given.append(folder)
        return xml(vmi)

    monkeypatch.setattr(render, "domain_xml", noted)
    await kubelet.machine("one")
    await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    assert given == [Path("/var/run/polyvisor")]


async def test_the_agent_comes_back_to_a_machine_that_went_on(kubelet: Kubelet, tmp_path: Path) -> None:
    first = asyncio.create_task(kubelet.handler(tmp_path).run())
    await kubelet.machine("one")
    await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    await end_task(first)
    second = asyncio.create_task(kubelet.handler(tmp_path).run())
    await kubelet.client.delete(VMIS, "one", "default")
    await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] in ("Succeeded", "Failed"))
    assert await end_task(second) is None


async def test_a_pod_deleted_by_force_has_its_guest_ended_and_is_over_when_the_kubelet_has_cleared_it_away(
    kubelet: Kubelet, handler: Handler
) -> None:
    await kubelet.machine("one")
    await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    pod = await kubelet.client.get(PODS, "virt-launcher-one", "default")
    uid = pod["metadata"]["uid"]
    await kubelet.client.delete(PODS, "virt-launcher-one", "default", grace_period_seconds=0)
    await kubelet.ended(uid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] != "Running")
    await asyncio.to_thread(shutil.rmtree, kubelet.pods / uid)
    await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] == "Failed")


async def test_a_condition_of_the_node_s_trouble_is_left_alone(kubelet: Kubelet, handler: Handler) -> None:
    await kubelet.machine("one")
    vmi = await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    trouble = {"type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "m"}
    ready = {"conditions": [trouble if c["type"] == "Ready" else c for c in vmi["status"]["conditions"]]}
    await kubelet.client.patch(VMIS, "one", {"status": ready}, "default")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await kubelet.until(VMIS, "one", lambda v: condition(v, "Ready").get("reason") != "NodeNotReady")
    others = {"conditions": [c for c in vmi["status"]["conditions"] if c["type"] != "Ready"]}
    await kubelet.client.patch(VMIS, "one", {"status": others}, "default")
    await kubelet.until(VMIS, "one", lambda v: condition(v, "Ready").get("status") == "True")


def condition(obj: Obj, kind: str) -> Obj:
    return next((c for c in (obj.get("status") or {}).get("conditions") or [] if c["type"] == kind), {})


@pytest.mark.root
async def test_a_machine_gets_its_disks_and_its_pods_other_containers_end_with_it(
    kubelet: Kubelet, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Any] = []

    def noted(vmi: Obj, driver: Any, found: Any, folder: Path, cards: Any, cpus: Any) -> str:
        prepared.append(found)
        return xml(vmi)

    monkeypatch.setattr(render, "domain_xml", noted)
    await kubelet.machine("one", others=("volumex",), volumes=[{"name": "d", "emptyDisk": {"capacity": "1Mi"}}])
    running = await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    assert running["status"]["volumeStatus"] == [{"name": "d", "target": "", "size": 1 << 20}]
    assert str(prepared[0].files["d"].path) == "/var/run/polyvisor-machine/disks/d.qcow2"
    (uid,) = kubelet.launchers
    assert "/run/polyvisor-machine/disks/d.qcow2" in kubelet.mounts(uid)
    assert (kubelet.pods / uid / EMPTY_DIRS / names.MACHINE_VOLUME / "disks/d.qcow2").exists()
    other = kubelet.container(uid, "ab" * 32)
    states = [
        {"name": "compute", "state": {"terminated": {"exitCode": 0}}},
        {"name": "volumex", "state": {"running": {}}, "containerID": f"containerd://{'ab' * 32}"},
    ]
    status = {"status": {"containerStatuses": states}}
    await kubelet.client.patch(PODS, "virt-launcher-one", status, "default", subresource="status")
    async with asyncio.timeout(20):
        await asyncio.to_thread(other.wait)


async def test_a_stranger_in_the_folder_gets_nothing(
    kubelet: Kubelet, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    start = kubelet.start
    kubelet.start = lambda uid, pod="": start(uid, "6f0c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a")  # type: ignore[method-assign]
    await kubelet.machine("one")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] != "Scheduled")


async def test_virt_api_reaches_the_machines_and_nobody_else_does(kubelet: Kubelet, handler: Handler) -> None:
    vmi = await kubelet.machine("one")
    await kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")
    metadata = {"name": "virt-handler-x", "namespace": "kubevirt", "labels": {"kubevirt.io": "virt-handler"}}
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    await kubelet.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    status = {"status": {"podIP": "127.0.0.1"}}
    await kubelet.client.patch(PODS, metadata["name"], status, "kubevirt", subresource="status")
    context = kubelet.client_context(issue_client(kubelet.ca, names.API_CLIENT_NAME, DAY))
    node = RemoteNode(kubelet.client, "kubevirt", context, handler.port)
    assert await node.ask(vmi, "pause") == {}
    await kubelet.until(VMIS, "one", lambda v: any(c["type"] == "Paused" for c in v["status"].get("conditions", [])))
    assert await node.ask(vmi, "unpause") == {}
    with pytest.raises(NodeError, match="does not run on node n1") as gone:
        await node.open({**vmi, "metadata": {**vmi["metadata"], "name": "two"}}, "console")
    assert gone.value.code == 503
    with pytest.raises(NodeError, match="unknown operation") as unknown:
        await node.ask(vmi, "nonsense")
    assert unknown.value.code == 409
    for pair in (issue_client(kubelet.ca, "somebody", DAY), issue_client(make_authority("x", DAY), "x", DAY)):
        with pytest.raises((NodeError, httpx.HTTPError)):
            await RemoteNode(kubelet.client, "kubevirt", kubelet.client_context(pair), handler.port).ask(vmi, "pause")
    elsewhere = {**vmi, "status": {"nodeName": "n2"}}
    with pytest.raises(NodeError, match="no virt-handler runs on node 'n2'"):
        await node.ask(elsewhere, "pause")
