from __future__ import annotations

import asyncio
import json

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import KUBEVIRTS, NODES, PODS, PVCS, VMIS
from polyvisor.controllers.objects import condition
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import LauncherPlan
from tests.controllers.conftest import NAMESPACE, World, compute, instance
from tests.drivers_for_tests import node


async def test_a_machine_gets_a_pod_of_kubevirts_shape(world: World) -> None:
    vmi = await world.create_vmi("m", labels={"app": "x"}, annotations={"note": "y"})
    pod = await world.pod("m")
    uid = vmi["metadata"]["uid"]
    assert pod["metadata"]["name"].startswith("virt-launcher-m-")
    assert pod["metadata"]["labels"] == {
        "app": "x",
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": uid,
        "vm.kubevirt.io/name": "m",
        "vmi.kubevirt.io/id": "m",
    }
    assert pod["metadata"]["annotations"]["note"] == "y"
    owner = pod["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("VirtualMachineInstance", uid, True)
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["readinessGates"] == [{"conditionType": "kubevirt.io/virtual-machine-unpaused"}]
    assert spec["terminationGracePeriodSeconds"] == 30
    container, log = spec["containers"]
    assert container["name"] == "compute"
    assert log["name"] == "guest-console-log"
    assert log["image"] == container["image"]
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "104Mi"}
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [e["key"] for e in terms[0]["matchExpressions"]] == [
        "hypervisor.kubevirt.io/alpha",
        "hypervisor.kubevirt.io/alpha.fast",
        "hypervisor.kubevirt.io/endpoint",
    ]


async def test_what_the_user_says_of_placement_and_names_reaches_the_pod(world: World) -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    spread["labelSelector"] = {"matchLabels": {"app": "m"}}
    given: Obj = {
        "topologySpreadConstraints": [spread],
        "subdomain": "machines",
        "hostname": "first",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["example.org"], "options": [{"name": "ndots"}]},
        "priorityClassName": "high",
        "schedulerName": "mine",
    }
    tolerates = {"key": "lab", "operator": "Exists"}
    more = {"architecture": "amd64", "tolerations": [tolerates], "nodeSelector": {"kubernetes.io/arch": "amd64"}}
    await world.create_vmi("m", given | more)
    spec = (await world.pod("m"))["spec"]
    assert {key: spec[key] for key in given} == given
    assert tolerates in spec["tolerations"]
    assert spec["nodeSelector"] == {"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64"}
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]} in term["matchExpressions"]


async def test_the_phases_up_to_the_hand_over(world: World) -> None:
    await world.create_vmi("m")
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduling")
    assert "kubevirt.io/foregroundDeleteVirtualMachine" in vmi["metadata"]["finalizers"]
    assert vmi["status"]["hypervisor"]["driver"] == "alpha"
    assert vmi["status"]["hypervisor"]["virtType"] == "fast"
    assert [(c["driver"], c["verdict"]) for c in vmi["status"]["hypervisor"]["candidates"]] == [
        ("alpha", "Chosen"),
        ("beta", "Eligible"),
    ]
    pod = await world.pod("m")
    await world.run_pod(pod)
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduled")
    assert vmi["status"]["nodeName"] == "n1"
    assert vmi["metadata"]["labels"]["kubevirt.io/nodeName"] == "n1"
    assert vmi["status"]["activePods"] == {pod["metadata"]["uid"]: "n1"}
    phases = [e["phase"] for e in vmi["status"]["phaseTransitionTimestamps"]]
    assert phases == ["Pending", "Scheduling", "Scheduled"]
    event = await world.event("SuccessfulCreate")
    assert event["message"].startswith(f"Created virtual machine pod {pod['metadata']['name']}")


async def test_a_running_machine_opens_the_pods_readiness_gate_and_a_paused_one_closes_it(world: World) -> None:
    await world.create_vmi("m")
    await world.running("m")
    gate = "kubevirt.io/virtual-machine-unpaused"
    await world.pod("m", lambda p: (condition(p, gate) or {}).get("status") == "True")
    await world.vmi_status("m", conditions=[{"type": "Paused", "status": "True"}])
    await world.pod("m", lambda p: (condition(p, gate) or {}).get("status") == "False")


async def test_without_any_driver_it_waits_says_why_and_goes_on_when_a_node_comes(world: World) -> None:
    await world.create_vmi("m", {"hypervisor": {"driver": "beta", "virtType": "box"}, "nodeSelector": {"zone": "z"}})
    vmi = await world.vmi("m", lambda v: condition(v, "Synchronized"))
    assert vmi["status"]["phase"] == "Pending"
    found = condition(vmi, "Synchronized")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "NoDriver")
    assert "beta" in found["message"]
    assert vmi["status"]["hypervisor"]["candidates"][0]["verdict"] == "NoNode"
    assert (await world.event("NoDriver"))["type"] == "Warning"
    assert not world.pods.items()
    await world.client.create(NODES, node("n3", "beta", "beta.box", zone="z"))
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduling")
    assert condition(vmi, "Synchronized") is None
    assert vmi["status"]["hypervisor"]["driver"] == "beta"


async def test_a_missing_claim_holds_the_machine_up_until_it_is_there(world: World) -> None:
    volume = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
    await world.create_vmi("m", {"volumes": [volume]})
    vmi = await world.vmi("m", lambda v: condition(v, "Synchronized"))
    assert (condition(vmi, "Synchronized") or {})["reason"] == "FailedPvcNotFound"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    await world.client.create(PVCS, claim)
    await world.pod("m")


async def deployed(world: World) -> Obj:
    """Wait until the controllers have said that they know the configuration as it is."""
    async with asyncio.timeout(20):
        while True:
            found = await world.client.get(KUBEVIRTS, "kubevirt", NAMESPACE)
            if (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]:
                return found


async def test_a_configuration_change_takes_effect_on_waiting_machines(world: World) -> None:
    kubevirt = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
        "spec": {"configuration": {"hypervisors": [{"name": "beta", "launcherImage": "reg/beta:1"}]}},
    }
    made = await world.client.create(KUBEVIRTS, kubevirt)
    await deployed(world)  # the controllers know the configuration
    await world.create_vmi("m", {"hypervisor": {"driver": "alpha"}})
    await world.vmi("m", lambda v: v["status"]["hypervisor"]["candidates"][0]["verdict"] == "NotEnabled")
    await world.change(KUBEVIRTS, "kubevirt", spec={"configuration": {"hypervisors": [{"name": "alpha"}]}})
    await world.pod("m")
    found = await deployed(world)
    assert found["status"]["phase"] == "Deployed"
    assert made["metadata"]["uid"] == found["metadata"]["uid"]
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]} == {
        "Created": "True",
        "Available": "True",
        "Progressing": "False",
        "Degraded": "False",
    }


def unschedulable(since: str) -> dict[str, str]:
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
        "lastTransitionTime": since,
    }


async def test_a_pod_that_finds_no_node_is_shown_in_the_machine(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    await world.pod_status(pod, conditions=[unschedulable("2999-01-01T00:00:00Z")])
    vmi = await world.vmi("m", lambda v: condition(v, "PodScheduled"))
    assert "Insufficient memory" in (condition(vmi, "PodScheduled") or {})["message"]
    await world.run_pod(pod)
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduled")


async def test_a_node_that_takes_no_launchers_advertises_in_vain(world: World) -> None:
    away = node("dark", "alpha", "alpha.fast", **{"kubevirt.io/schedulable": "false", "place": "dark"})
    await world.client.create(NODES, away)
    await world.create_vmi("m", {"nodeSelector": {"place": "dark"}, "hypervisor": {"driver": "alpha"}})
    held = await world.vmi("m", lambda v: condition(v, "Synchronized"))
    assert [(c["driver"], c["verdict"]) for c in held["status"]["hypervisor"]["candidates"]] == [("alpha", "NoNode")]
    await world.client.patch(NODES, "dark", {"metadata": {"labels": {"kubevirt.io/schedulable": "true"}}})
    await world.pod("m")


async def test_a_pod_unschedulable_too_long_gives_way_to_the_next_driver(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    await world.pod_status(pod, conditions=[unschedulable("2026-01-01T00:00:00Z")])
    other = await world.pod("m", lambda p: p["metadata"]["annotations"]["hypervisor.kubevirt.io/driver"] == "beta")
    assert other["metadata"]["name"] != pod["metadata"]["name"]
    vmi = await world.vmi("m", lambda v: v["status"]["hypervisor"].get("driver") == "beta")
    assert {c["driver"]: c["verdict"] for c in vmi["status"]["hypervisor"]["candidates"]} == {
        "alpha": "Unschedulable",
        "beta": "Chosen",
    }
    assert vmi["status"]["activePods"] == {other["metadata"]["uid"]: ""}
    await world.pods.wait_until(lambda i: len(i.items()) == 1, 10)
    assert (await world.event("DriverPassedOver"))["message"].startswith("driver alpha gives way to beta")
    await world.pod_status(other, conditions=[unschedulable("2026-01-01T00:00:00Z")])
    await world.vmi("m", lambda v: condition(v, "PodScheduled"))
    assert world.pods.get(NAMESPACE, other["metadata"]["name"]), "the last driver's Pod goes on waiting"


async def test_an_image_that_cannot_be_pulled_is_reported(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no"}}
    disk = compute(running={}) | {"name": "volumedisk", "state": waiting}
    await world.pod_status(pod, containerStatuses=[compute(running={}), disk])
    vmi = await world.vmi("m", lambda v: condition(v, "Synchronized"))
    assert (condition(vmi, "Synchronized") or {})["reason"] == "ErrImagePull"


async def test_deletion_waits_for_the_pod(world: World) -> None:
    await world.create_vmi("m", {"terminationGracePeriodSeconds": 7})
    pod = await world.running("m")
    await world.client.delete(VMIS, "m", NAMESPACE)
    leaving = await world.pod("m", lambda p: p["metadata"].get("deletionTimestamp"))
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 7
    for moment, phase in enumerate(("Running", "Succeeded")):
        await world.pod_status(pod, phase=phase)
        await world.create_vmi(f"later-{moment}")
        await world.vmi(f"later-{moment}", lambda v: v["status"]["phase"] == "Scheduling")
        assert (await world.client.get(VMIS, "m", NAMESPACE))["metadata"]["deletionTimestamp"]
    await world.end_pod(pod)
    await world.gone(world.vmis, "m")


async def test_a_machine_without_a_pod_is_deleted_at_once(world: World) -> None:
    await world.create_vmi("m", {"hypervisor": {"driver": "gamma"}})
    await world.vmi("m", lambda v: condition(v, "Synchronized"))
    await world.client.delete(VMIS, "m", NAMESPACE)
    await world.gone(world.vmis, "m")


async def test_few_writes(world: World) -> None:
    made = await world.create_vmi("m", finalizers=["kubevirt.io/foregroundDeleteVirtualMachine"])
    seen: list[str] = []

    def note(old: object, new: dict[str, dict[str, str]] | None) -> None:
        if new is not None:
            seen.append(new["metadata"]["resourceVersion"])

    world.vmis.on_change(note)
    await world.running("m")
    gate = "kubevirt.io/virtual-machine-unpaused"
    await world.pod("m", lambda p: (condition(p, gate) or {}).get("status") == "True")
    await world.vmi("m", lambda v: v["status"]["phase"] == "Running")
    versions = {*seen, made["metadata"]["resourceVersion"]}
    assert len(versions) <= 4, "created, Scheduling, Scheduled and the agent's Running"


async def test_a_machine_is_scheduling_as_soon_as_its_pod_is_there(world: World) -> None:
    await world.create_vmi("m")
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduling")
    passed = vmi["status"]["phaseTransitionTimestamps"]
    assert [one["phase"] for one in passed] == ["Pending", "Scheduling"]
    pod = await world.pod("m")
    assert not pod["spec"].get("nodeName")
    assert passed[1]["phaseTransitionTimestamp"] == pod["metadata"]["creationTimestamp"]
    assert vmi["status"]["activePods"] == {pod["metadata"]["uid"]: ""}
    assert [(c["driver"], c["verdict"]) for c in vmi["status"]["hypervisor"]["candidates"]] == [
        ("alpha", "Chosen"),
        ("beta", "Eligible"),
    ]


async def test_trouble_of_a_pod_is_told_of_at_once(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    await world.pod_status(pod, conditions=[unschedulable("2999-01-01T00:00:00Z")])
    vmi = await world.vmi("m", lambda v: condition(v, "PodScheduled"))
    assert vmi["status"]["phase"] == "Scheduling"
    assert vmi["status"]["hypervisor"]["candidates"][0]["verdict"] == "Chosen"


@pytest.mark.parametrize("count", [20])
async def test_many_machines_get_exactly_one_pod_each(world: World, count: int) -> None:
    await asyncio.gather(*(world.create_vmi(f"m{n}") for n in range(count)))
    await world.vmis.wait_until(
        lambda i: len([v for v in i.items() if (v.get("status") or {}).get("phase") == "Scheduling"]) == count, 30
    )
    owners = [p["metadata"]["ownerReferences"][0]["name"] for p in await world.client.list(PODS, NAMESPACE)]
    assert sorted(owners) == sorted(f"m{n}" for n in range(count))


@pytest.mark.parametrize(
    ("emulation", "cards", "asked"),
    [(False, 0, ["kvm"]), (True, 0, []), (False, 1, ["kvm", "tun", "vhost-net"]), (True, 1, ["tun"])],
)
async def test_the_pod_asks_for_the_devices_that_its_virt_type_and_cards_need(
    world: World, drivers: DriverRegistry, emulation: bool, cards: int, asked: list[str]
) -> None:
    alpha = drivers.get("alpha")
    assert alpha is not None
    plan = LauncherPlan(uri="test:///default", devices=("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/other"))
    alpha.launcher = lambda *_: plan  # type: ignore[method-assign]
    alpha.accelerators = ("/dev/kvm", "/dev/vhost-net")
    if emulation:
        await world.client.patch(NODES, "n1", {"metadata": {"labels": {"hypervisor.kubevirt.io/alpha.fast": None}}})
        labels = {"hypervisor.kubevirt.io/alpha.soft": "true"}
        await world.client.patch(NODES, "n1", {"metadata": {"labels": labels}})
        allowed = {"configuration": {"developerConfiguration": {"useEmulation": True}}}
        metadata = {"name": "kubevirt", "namespace": NAMESPACE}
        body = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": metadata, "spec": allowed}
        await world.client.create(KUBEVIRTS, body)
    spec = instance("m", {"hypervisor": {"driver": "alpha"}})["spec"]
    spec["domain"]["devices"] = {"interfaces": [{"name": "default", "masquerade": {}}] * cards}
    spec["networks"] = [{"name": "default", "pod": {}}] * cards
    await world.create_vmi("m", spec)
    resources = (await world.pod("m"))["spec"]["containers"][0]["resources"]
    for kind in ("requests", "limits"):
        found = {key: value for key, value in (resources.get(kind) or {}).items() if key.startswith("devices.")}
        assert found == {f"devices.kubevirt.io/{name}": "1" for name in asked}


async def test_multus_is_told_of_further_networks(world: World) -> None:
    networks = [
        {"name": "default", "pod": {}},
        {"name": "one", "multus": {"networkName": "blue"}},
        {"name": "two", "multus": {"networkName": "other/red"}},
    ]
    cards = [{"name": "default", "masquerade": {}}, {"name": "one", "bridge": {}}, {"name": "two", "bridge": {}}]
    spec = instance("m")["spec"] | {"networks": networks}
    spec["domain"]["devices"] = {"interfaces": cards}
    await world.create_vmi("m", spec)
    annotations = (await world.pod("m"))["metadata"]["annotations"]
    assert json.loads(annotations["k8s.v1.cni.cncf.io/networks"]) == [
        {"name": "blue", "namespace": "default", "interface": "pod7692c3ad354"},
        {"name": "red", "namespace": "other", "interface": "pod3fc4ccfe745"},
    ]


async def test_multus_is_told_of_networks_that_come_and_go_while_a_machine_runs(world: World) -> None:
    def asked(pod: Obj) -> list[str]:
        text = pod["metadata"]["annotations"].get("k8s.v1.cni.cncf.io/networks") or "[]"
        return [element["name"] for element in json.loads(text)]

    first, pod_network = {"name": "default", "masquerade": {}}, {"name": "default", "pod": {}}
    one, network = {"name": "one", "bridge": {}}, {"name": "one", "multus": {"networkName": "blue"}}
    spec = instance("m", {"hypervisor": {"driver": "alpha"}})["spec"] | {"networks": [pod_network]}
    spec["domain"]["devices"] = {"interfaces": [first]}
    await world.create_vmi("m", spec)
    await world.running("m")
    devices = {"devices": {"interfaces": [first, one]}}
    await world.change(VMIS, "m", spec={"domain": devices, "networks": [pod_network, network]})
    assert asked(await world.pod("m", asked)) == ["blue"]
    cards = [{"name": "default"}, {"name": "one"}]
    await world.vmi_status("m", interfaces=cards)
    devices = {"devices": {"interfaces": [first, one | {"state": "absent"}]}}
    await world.change(VMIS, "m", spec={"domain": devices})
    await world.vmi("m", lambda v: v["spec"]["domain"]["devices"]["interfaces"][1].get("state"))
    assert asked(await world.pod("m")) == ["blue"], "the guest has the card still"
    await world.vmi_status("m", interfaces=cards[:1])
    await world.pod("m", lambda pod: not asked(pod))
