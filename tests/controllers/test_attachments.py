"""The Pod that has the claims which came to a running machine: when it is made, replaced and removed."""

from __future__ import annotations

from typing import Any

from polyvisor.api.resources import NODES, PODS, PVCS, VMIS
from polyvisor.controllers.attachment_pod import attachment_name, build_attachment
from polyvisor.controllers.objects import uid
from tests.drivers_for_tests import node

from .conftest import NAMESPACE, World

Obj = dict[str, Any]
CLAIM = "persistentVolumeClaim"
LABEL = "kubevirt.io=hotplug-disk"
LAUNCHER: Obj = {
    "metadata": {"name": "virt-launcher-m", "namespace": NAMESPACE, "uid": "u"},
    "spec": {
        "nodeName": "n1",
        "priorityClassName": "high",
        "containers": [{"name": "guest-console-log", "image": "b"}, {"name": "compute", "image": "a"}],
    },
}


def claim(name: str, mode: str = "ReadWriteOnce") -> Obj:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def plug(*names: str) -> Obj:
    """Return the part of a machine's spec with these volumes."""
    disks = [{"name": name, "disk": {"bus": "scsi"}} for name in names]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name, "hotpluggable": True}} for name in names]
    return {"volumes": volumes, "domain": {"devices": {"disks": disks}, "memory": {"guest": "64Mi"}}}


def told(*names: str) -> list[Obj]:
    return [{"name": name, "target": "sda", "phase": "Ready", "hotplugVolume": {}} for name in names]


async def attachment(world: World, *volumes: str) -> Obj:
    """Wait until the machine has one living attachment Pod, with these volumes."""

    def look(pods: Any) -> Obj | None:
        found = [pod for pod in pods.items() if pod["metadata"].get("labels", {}).get("kubevirt.io") == "hotplug-disk"]
        living = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
        names = [[volume["name"] for volume in pod["spec"]["volumes"]] for pod in living]
        return living[0] if names == [list(volumes)] else None

    found = await world.pods.wait_until(look, 10)
    assert found is not None
    return found


async def none(world: World) -> None:
    def look(pods: Any) -> bool:
        return not [
            pod for pod in pods.items() if pod["metadata"].get("labels", {}).get("kubevirt.io") == "hotplug-disk"
        ]

    await world.pods.wait_until(look, 10)


async def runs(world: World, pod: Obj) -> None:
    state = {"name": "hotplug-disk", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    await world.pod_status(pod, phase="Running", containerStatuses=[state | {"state": {"running": {}}}])


async def spec(world: World, part: Obj) -> None:
    await world.client.patch(VMIS, "m", {"spec": part}, NAMESPACE)


def test_it_is_as_bare_as_can_be() -> None:
    block = {"spec": {"volumeMode": "Block"}}
    pod = build_attachment(LAUNCHER, {"raw": "b", "data": "c"}, {"b": block, "c": claim("c")}, {})
    assert pod["metadata"]["labels"] == {"kubevirt.io": "hotplug-disk"}
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", "u", True)
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "a"
    assert container["volumeMounts"] == [{"name": "data", "mountPath": "/path/data"}]
    assert container["volumeDevices"] == [{"name": "raw", "devicePath": "/path/raw"}]
    assert container["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not spec["automountServiceAccountToken"]
    assert spec["priorityClassName"] == "high"
    assert spec["terminationGracePeriodSeconds"] > 0, "its object stays until the kubelet has unmounted its claims"
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    assert spec["tolerations"] == [{"operator": "Exists"}], "a cordoned node's machines go on"


def test_its_name_is_its_set_of_volumes() -> None:
    one = attachment_name(LAUNCHER, {"a": "c", "b": "d"})
    assert one == attachment_name(LAUNCHER, {"b": "d", "a": "c"})
    assert len({one, attachment_name(LAUNCHER, {"a": "c"}), attachment_name(LAUNCHER, {"a": "d", "b": "c"})}) == 3
    assert one.startswith("hp-volume-")


async def test_it_comes_is_replaced_and_goes_with_the_volumes(world: World) -> None:
    for name in ("a", "b"):
        await world.client.create(PVCS, claim(name))
    await world.create_vmi("m", {"evictionStrategy": "None"})
    launcher = await world.running("m")
    await spec(world, plug("a"))
    first = await attachment(world, "a")
    assert first["metadata"]["ownerReferences"][0]["uid"] == launcher["metadata"]["uid"]
    assert (await world.event("SuccessfulCreate", "VirtualMachineInstance"))["message"]
    await runs(world, first)
    await world.vmi_status("m", volumeStatus=told("a"))

    await spec(world, plug("a", "b"))
    second = await world.pods.wait_until(
        lambda pods: next(
            (p for p in pods.items() if len(p["spec"].get("volumes") or []) == 2 and "hp-" in name_of(p)), None
        ),
        10,
    )
    assert world.pods.get(NAMESPACE, name_of(first)) is not None, "it keeps the claim here until the next one does"
    await runs(world, second)
    await attachment(world, "a", "b")

    await world.vmi_status("m", volumeStatus=told("a", "b"))
    await spec(world, plug("b"))
    await world.vmi("m", lambda v: len(v["spec"]["volumes"]) == 1)
    await attachment(world, "a", "b")
    await world.vmi_status("m", volumeStatus=told("b"))
    third = await world.pods.wait_until(
        lambda pods: next((p for p in pods.items() if "hp-" in name_of(p) and name_of(p) != name_of(second)), None), 10
    )
    await runs(world, third)
    await attachment(world, "b")
    await spec(world, plug())
    await world.vmi_status("m", volumeStatus=[])
    await none(world)


def name_of(pod: Obj) -> str:
    return str(pod["metadata"]["name"])


async def test_a_claim_that_one_pod_alone_may_have_stays_where_it_is(world: World) -> None:
    for one in (claim("a"), claim("b"), claim("one", "ReadWriteOncePod")):
        await world.client.create(PVCS, one)
    await world.create_vmi("m")
    await world.running("m")
    await spec(world, plug("one"))
    alone = await attachment(world, "one")
    await runs(world, alone)
    for wanted in (["a"], ["a", "b"]):
        await spec(world, plug("one", *wanted))
        await runs(world, await holding(world, *wanted))
        await only(world, ["one"], wanted)
    await spec(world, plug("one"))
    await world.vmi_status("m", volumeStatus=told("one"))
    assert uid(await attachment(world, "one")) == uid(alone)


async def holding(world: World, *volumes: str) -> Obj:
    """Wait until there is an attachment Pod with these volumes."""

    def look(pods: Any) -> Obj | None:
        found = [pod for pod in pods.items() if "hp-" in name_of(pod)]
        return next((pod for pod in found if [v["name"] for v in pod["spec"]["volumes"]] == list(volumes)), None)

    found = await world.pods.wait_until(look, 10)
    assert found is not None
    return found


async def only(world: World, *sets: list[str]) -> None:
    """Wait until the living attachment Pods are those with these volumes."""

    def look(pods: Any) -> bool:
        living = [p for p in pods.items() if "hp-" in name_of(p) and not p["metadata"].get("deletionTimestamp")]
        return sorted([v["name"] for v in pod["spec"]["volumes"]] for pod in living) == sorted(sets)

    await world.pods.wait_until(look, 10)


def drive(claim: str) -> Obj:
    disc = {"name": "cd", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": True}}
    disks = [{"name": "cd", "cdrom": {"bus": "sata"}}]
    volumes = [disc] if claim else []
    return {"volumes": volumes, "domain": {"devices": {"disks": disks}, "memory": {"guest": "64Mi"}}}


def holds_disc(claim: str, phase: str = "Ready") -> list[Obj]:
    info = {"persistentVolumeClaimInfo": {"claimName": claim}} if claim else {}
    return [{"name": "cd", "target": "sda", "phase": phase, "hotplugVolume": {}, **info}]


async def test_a_disc_stays_until_the_drive_does_not_hold_it(world: World) -> None:
    for name in ("first", "a", "b"):
        await world.client.create(PVCS, claim(name))
    await world.create_vmi("m", drive("first"))
    launcher = await world.running("m")
    assert "first" in str(launcher["spec"]["volumes"]), "the machine may boot from it"
    await spec(world, drive("a"))
    await runs(world, await of_claims(world, "a"))
    await world.vmi_status("m", volumeStatus=holds_disc("a"))
    await spec(world, drive("b"))
    await runs(world, await of_claims(world, "a", "b"))
    await world.vmi_status("m", volumeStatus=holds_disc("b"))
    await runs(world, await of_claims(world, "b"))
    await spec(world, drive(""))
    await world.vmi_status("m", volumeStatus=holds_disc("", "Detaching"))
    await of_claims(world, "b")
    await world.vmi_status("m", volumeStatus=[])
    await none(world)


async def of_claims(world: World, *claims: str) -> Obj:
    """Wait until there is a living attachment Pod with these claims."""

    def look(pods: Any) -> Obj | None:
        for pod in pods.items():
            found = sorted(
                v["persistentVolumeClaim"]["claimName"] for v in pod["spec"].get("volumes") or [] if CLAIM in v
            )
            if "hp-" in name_of(pod) and not pod["metadata"].get("deletionTimestamp") and found == list(claims):
                return dict(pod)
        return None

    found = await world.pods.wait_until(look, 10)
    assert found is not None
    return found


async def test_a_claim_for_a_memory_dump_comes_and_goes_too(world: World) -> None:
    await world.create_vmi("m")
    await world.running("m")
    dump = {"name": "d", "memoryDump": {"claimName": "d", "hotpluggable": True}}
    await spec(world, {"volumes": [dump]})
    await world.client.create(PVCS, claim("d"))
    await runs(world, await attachment(world, "d"))
    await world.vmi_status("m", volumeStatus=[{"name": "d", "target": "", "memoryDumpVolume": {}, "hotplugVolume": {}}])
    await spec(world, {"volumes": []})
    await world.vmi("m", lambda v: not v["spec"]["volumes"])
    await attachment(world, "d")
    await world.vmi_status("m", volumeStatus=[])
    await none(world)


async def test_a_claim_that_is_missing_holds_no_other_up(world: World) -> None:
    await world.client.create(PVCS, claim("a"))
    await world.create_vmi("m")
    await world.running("m")
    await spec(world, plug("a", "missing"))
    await attachment(world, "a")
    await world.client.create(PVCS, claim("missing"))
    await attachment(world, "a", "missing")


async def test_one_that_failed_is_made_again(world: World) -> None:
    await world.client.create(PVCS, claim("a"))
    await world.create_vmi("m")
    await world.running("m")
    await spec(world, plug("a"))
    first = await attachment(world, "a")
    await world.pod_status(first, phase="Failed", reason="Evicted")
    await world.pods.wait_until(
        lambda pods: any(
            name_of(p) == name_of(first) and p["metadata"]["uid"] != first["metadata"]["uid"] for p in pods.items()
        ),
        10,
    )


async def test_it_goes_when_the_machine_is_over(world: World) -> None:
    await world.client.create(PVCS, claim("a"))
    await world.create_vmi("m")
    await world.running("m")
    await spec(world, plug("a"))
    await attachment(world, "a")
    await world.vmi_status("m", phase="Succeeded")
    await none(world)


async def test_a_node_without_a_kubelet_needs_none(world: World) -> None:
    taint = {"key": "hypervisor.kubevirt.io/virtual-node", "effect": "NoSchedule"}
    virtual = node("n3", "alpha", "alpha.fast")
    virtual["spec"] = {**(virtual.get("spec") or {}), "taints": [taint]}
    await world.client.create(NODES, virtual)
    await world.client.create(PVCS, claim("a"))
    for name, where in (("m", "n3"), ("other", "n1")):
        await world.create_vmi(name, plug("a"))
        await world.run_pod(await world.pod(name), where)
        await world.vmi(name, lambda v: v["status"]["phase"] == "Scheduled")
        await world.vmi_status(name, phase="Running")
    pod = await attachment(world, "a")
    launcher = await world.pod("other")
    assert pod["metadata"]["ownerReferences"][0]["uid"] == launcher["metadata"]["uid"]
    assert len(await world.client.list(PODS, NAMESPACE, label_selector=LABEL)) == 1
