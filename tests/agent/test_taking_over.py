"""A node's agent takes a machine over once its launcher is reached, which the kubelet reports later."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.live import render, status
from polyvisor.agent.network.plan import Card
from polyvisor.agent.platform.pod_launchers import PodLaunchers
from polyvisor.agent.platform.pod_machines import is_complete
from polyvisor.agent.platform.pod_node import BRISK_PAUSE, PodNode
from polyvisor.agent.process import Handler
from polyvisor.api.resources import PODS, VMIS

from .played_kubelet import Kubelet

Obj = dict[str, Any]
RUNS = {"running": {}}


def phases(vmi: Obj) -> list[str]:
    return [one["phase"] for one in vmi["status"]["phaseTransitionTimestamps"]]


async def test_a_machine_runs_before_the_kubelet_reports_its_launcher(kubelet: Kubelet, handler: Handler) -> None:
    made = await kubelet.machine("one", reported=False)
    assert made["status"]["phase"] == "Scheduling"
    vmi = await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] == "Running")
    assert phases(vmi) == ["Scheduled", "Running"], "one write tells of both"


async def test_a_machine_waits_for_the_containers_that_it_is_made_from(kubelet: Kubelet, handler: Handler) -> None:
    await kubelet.machine("one", reported=False, others=("volumed", "guest-console-log"))
    await kubelet.machine("two", reported=False)
    await kubelet.until(VMIS, "two", lambda v: v["status"]["phase"] == "Running")
    assert (await kubelet.client.get(VMIS, "one", "default"))["status"]["phase"] == "Scheduling"
    state = {"name": "volumed", "state": RUNS, "containerID": f"containerd://{'ab' * 32}"}
    body = {"status": {"containerStatuses": [state]}}
    await kubelet.client.patch(PODS, "virt-launcher-one", body, "default", subresource="status")
    await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] == "Running")


async def test_a_machine_whose_start_fails_has_been_taken_over(
    kubelet: Kubelet, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> str:
        raise AgentError("not today")

    monkeypatch.setattr(render, "domain_xml", fails)
    await kubelet.machine("one", reported=False)
    vmi = await kubelet.until(VMIS, "one", lambda v: v["status"].get("conditions"))
    assert vmi["status"]["phase"] == "Scheduled"


async def test_a_machine_whose_pod_vanished_before_it_was_reported_is_over(kubelet: Kubelet, handler: Handler) -> None:
    await kubelet.machine("one", reported=False, others=("volumed",))
    await kubelet.client.delete(PODS, "virt-launcher-one", "default", grace_period_seconds=0)
    (uid,) = kubelet.launchers
    kubelet.launchers[uid].kill()
    await kubelet.ended(uid)
    await asyncio.to_thread(kubelet.clear, uid)
    await kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] == "Failed")


async def test_a_launcher_that_is_not_there_yet_costs_nearly_nothing(tmp_path: Path) -> None:
    """It is looked for twenty times a second, for each Pod of a burst."""
    made: list[str] = []
    driver = SimpleNamespace(launcher=lambda *_: made.append("plan"), name="plain")
    registry: Any = SimpleNamespace(get=lambda _: driver)
    uid = "6f0c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a"
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "m", "uid": "u"}
    labels = {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "u"}
    metadata = {"name": "p", "namespace": "default", "uid": uid, "labels": labels}
    pod = {"metadata": metadata | {"ownerReferences": [owner | {"controller": True}]}}
    pod |= {"spec": {"nodeName": "n1", "containers": []}, "status": {}}
    vmi = {"metadata": {"name": "m", "namespace": "default", "uid": "u"}, "spec": {"domain": {"devices": {}}}}
    vmi["status"] = {"activePods": {uid: "n1"}}
    pods: Any = SimpleNamespace(by_index=lambda *_: [pod], on_change=lambda _: None)
    vmis: Any = SimpleNamespace(by_index=lambda *_: [vmi], on_change=lambda _: None)
    launchers = PodLaunchers(tmp_path, lambda _: None, lambda _: uid)
    events: Any = SimpleNamespace()
    node = PodNode(events, registry, launchers, pods, vmis, look=lambda _: None)
    assert await node.reconcile("6f0c6d0e3d1b") == BRISK_PAUSE
    assert not made
    launchers.folder("x").mkdir(parents=True)
    with pytest.raises(TypeError):  # what was made is no plan
        await node.reconcile("6f0c6d0e3d1b")
    assert made == ["plan"]


@pytest.mark.parametrize(
    ("running", "complete"),
    [((), False), (("compute",), False), (("compute", "volumed"), True), (("volumed",), True)],
)
def test_a_pod_is_complete_once_its_images_are_there(running: tuple[str, ...], complete: bool) -> None:
    names = ("compute", "guest-console-log", "volumed")
    states = [{"name": name, "state": RUNS, "containerID": f"containerd://{'ab' * 32}"} for name in running]
    pod = {"spec": {"containers": [{"name": name} for name in names]}, "status": {"containerStatuses": states}}
    assert is_complete(pod) is complete


@pytest.mark.parametrize("phase", ["Scheduled", "Running", "Failed"])
def test_what_is_the_agents_already_stays_in_its_phase(phase: str) -> None:
    found = {"phase": phase}
    status.take_over(found)
    assert found == {"phase": phase}


def test_a_card_has_the_addresses_of_its_pod() -> None:
    found: Obj = {"interfaces": [{"name": "default"}]}
    card = Card(
        "default", True, "eth0", "k6t-eth0", "tap0", "02:00:00:00:00:02", 1500, address=IPv4Interface("10.0.2.2/24")
    )
    status.networked(found, [card], {"metadata": {}}, ["192.0.2.7"])
    assert found["interfaces"][0]["ipAddress"] == "192.0.2.7"
