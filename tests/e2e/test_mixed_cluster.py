"""A mixed cluster that changes: full nodes, labels that vanish, cordon, drain, quotas, configuration.

The scheduler, the controllers of Kubernetes and the API server are real; kwok plays the nodes; our controllers run in
this process. Each case makes its own machine and leaves the nodes as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from polyvisor.api import Obj
from polyvisor.api.resources import KUBEVIRTS, NAMESPACES, NODES, PODS, VMIS, VMS, Resource
from polyvisor.controllers.objects import uid
from polyvisor.kube import ApiError, Informer
from tests.e2e.matrices import live
from tests.e2e.mixed import (
    ACCOUNTS,
    BIG,
    GIVE_WAY,
    HOST,
    SECONDS,
    SMALL,
    SPACE,
    Mixed,
    instance,
    phase,
    running,
    verdicts,
    waits,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
EFI = {"firmware": {"bootloader": {"efi": {"secureBoot": False}}}}
KERNEL = {"firmware": {"kernelBoot": {"container": {"image": "k", "kernelPath": "/vmlinuz"}}}}
WATCHED = {"devices": {"watchdog": {"name": "dog", "i6300esb": {"action": "reset"}}}}


def _host(name: str) -> Obj:
    return {"nodeSelector": {HOST: name}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mixed() -> AsyncIterator[Mixed]:
    async with running() as one:
        yield one


TOLERATES = {"tolerations": [{"key": "lab", "operator": "Exists"}]}
STRICT = {"tolerations": [{"key": "strict", "operator": "Exists"}]}
LANDS: dict[str, tuple[Obj | None, Obj, str, set[str]]] = {
    "efi-where-it-is": ({"driver": "qemu"}, {"domain": EFI}, "qemu", {"kvm-efi"}),
    "efi-automatic": (None, {"domain": EFI}, "qemu", {"kvm-efi"}),
    "zone": (None, {"nodeSelector": {"zone": "b"}}, "qemu", {"kvm-plain"}),
    "xen-full-virtualisation": ({"driver": "xen", "virtType": "xen"}, {}, "xen", {"xen-full"}),
    "xen-pv-by-type": ({"driver": "xen", "virtType": "xenpv"}, {"domain": KERNEL}, "xen", {"xen-full", "xen-pv"}),
    "any-of-skips-unsupported": ({"anyOf": ["lxc", "qemu"]}, {"domain": WATCHED}, "qemu", {"kvm-efi", "kvm-plain"}),
    "any-of-skips-cordoned": ({"anyOf": ["vbox", "lxc"]}, {}, "lxc", {"lxc-small"}),
    "any-of-skips-withheld": ({"anyOf": ["hyperv", "qemu"]}, {}, "qemu", {"kvm-efi", "kvm-plain"}),
    "any-of-skips-mute": ({"anyOf": ["bhyve", "qemu"]}, {}, "qemu", {"kvm-efi", "kvm-plain"}),
    "taint-of-virtual-nodes": ({"driver": "esx"}, {}, "esx", {"esx-far"}),
    "taint-tolerated": ({"driver": "vz"}, TOLERATES, "vz", {"vz-lab"}),
    "taint-no-execute": ({"driver": "openvz"}, STRICT, "openvz", {"openvz-strict"}),
    "gives-way-from-taint": ({"anyOf": ["openvz", "lxc"]}, {}, "lxc", {"lxc-small"}),
    "gives-way-twice": (
        {"anyOf": ["openvz", "lxc", "qemu"]},
        {"domain": {"memory": {"guest": "1Gi"}}},
        "qemu",
        {"kvm-efi", "kvm-plain"},
    ),
    "gives-way-from-full": (
        {"anyOf": ["lxc", "qemu"]},
        {"domain": {"memory": {"guest": "1Gi"}}},
        "qemu",
        {"kvm-efi", "kvm-plain"},
    ),
    "own-affinity": (
        {"driver": "qemu"},
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}
                        ]
                    }
                }
            }
        },
        "qemu",
        {"kvm-plain"},
    ),
}


@pytest.mark.parametrize("case", live(LANDS, "efi-where-it-is", "taint-of-virtual-nodes", "gives-way-twice"))
async def test_a_machine_lands_where_it_can_run(mixed: Mixed, case: str) -> None:
    hypervisor, spec, driver, nodes = LANDS[case]
    await mixed.make(case, hypervisor, **spec)
    assert await mixed.lands(case) in nodes
    vmi = await mixed.vmi(case, lambda _: True)
    assert vmi["status"]["hypervisor"]["driver"] == driver
    assert verdicts(vmi)[driver] == "Chosen"
    assert len(mixed.pods_of(vmi)) == 1
    await mixed.gone(case)


HELD: dict[str, tuple[Obj | None, Obj, dict[str, str], str]] = {
    "cordoned": ({"driver": "vbox"}, {}, {"vbox": "NoNode"}, "no suitable node advertises"),
    "withheld": ({"driver": "hyperv"}, {}, {"hyperv": "NoNode"}, "no suitable node advertises"),
    "nobody-advertises": ({"driver": "vmware"}, {}, {"vmware": "NoNode"}, "no suitable node advertises"),
    "no-virt-type-shown": ({"driver": "bhyve"}, {"domain": KERNEL}, {"bhyve": "Unsupported"}, "bhyve"),
    "feature-on-another-node": (
        {"driver": "qemu"},
        {"domain": EFI, **_host("kvm-plain")},
        {"qemu": "NoNode"},
        "no node shows",
    ),
    "unsupported-everywhere": (
        {"anyOf": ["lxc", "ch"]},
        {"domain": WATCHED},
        {"lxc": "Unsupported", "ch": "Unsupported"},
        "spec.domain.devices.watchdog",
    ),
    "unknown-driver": ({"driver": "beowulf"}, {}, {"beowulf": "NotEnabled"}, "there is no driver 'beowulf'"),
    "emulation-only": ({"driver": "qemu", "virtType": "qemu"}, {}, {"qemu": "NoNode"}, "no node runs"),
    "selector-of-another": ({"driver": "xen"}, _host("kvm-efi"), {"xen": "NoNode"}, "no suitable node advertises"),
}


@pytest.mark.parametrize("case", live(HELD, "feature-on-another-node", "unsupported-everywhere", "cordoned"))
async def test_a_machine_that_no_node_can_run_is_held_with_the_reasons(mixed: Mixed, case: str) -> None:
    hypervisor, spec, wanted, words = HELD[case]
    made = await mixed.make(case, hypervisor, **spec)
    vmi = await mixed.vmi(case, verdicts)
    assert verdicts(vmi) == wanted
    assert phase(vmi) == "Pending"
    assert words in waits(vmi)
    assert not mixed.pods_of(made)
    assert words in await mixed.event("NoDriver", case)
    await mixed.gone(case)


async def test_a_full_node_is_waited_for_without_flapping_when_there_is_no_other_driver(mixed: Mixed) -> None:
    made = await mixed.make("patient", {"driver": "lxc"}, domain={"memory": {"guest": "1Gi"}})
    vmi = await mixed.vmi("patient", lambda v: "Insufficient memory" in waits(v))
    (before,) = mixed.pods_of(made)
    with pytest.raises(TimeoutError):
        await mixed.vmis.wait_until(
            lambda seen: verdicts(seen.get(SPACE, "patient") or {}) != verdicts(vmi), GIVE_WAY * 3
        )
    (after,) = mixed.pods_of(made)
    assert uid(after) == uid(before)
    await mixed.client.patch(
        NODES, "lxc-small", {"status": {"allocatable": BIG, "capacity": BIG}}, subresource="status"
    )
    assert await mixed.lands("patient") == "lxc-small"
    await mixed.client.patch(
        NODES, "lxc-small", {"status": {"allocatable": SMALL, "capacity": SMALL}}, subresource="status"
    )
    await mixed.gone("patient")


async def test_the_driver_that_gave_way_is_told_with_the_schedulers_words(mixed: Mixed) -> None:
    made = await mixed.make("told", {"anyOf": ["lxc", "qemu"]}, domain={"memory": {"guest": "1Gi"}})
    await mixed.lands("told")
    vmi = await mixed.vmi("told", lambda _: True)
    assert verdicts(vmi) == {"lxc": "Unschedulable", "qemu": "Chosen"}
    (reason,) = vmi["status"]["hypervisor"]["candidates"][0]["reasons"]
    assert "Insufficient memory" in reason["message"]
    assert "driver lxc gives way to qemu" in await mixed.event("DriverPassedOver", "told")
    await mixed.pods.wait_until(lambda _: len(mixed.pods_of(made)) == 1, SECONDS)
    await mixed.gone("told")


async def test_a_label_that_vanishes_leaves_running_machines_and_holds_new_ones(mixed: Mixed) -> None:
    made = await mixed.make("early", {"driver": "ch"}, domain=KERNEL)
    assert await mixed.lands("early") == "ch-1"
    label = "hypervisor.kubevirt.io/ch"
    await mixed.node("ch-1", metadata={"labels": {label: None}})
    await mixed.make("late", {"driver": "ch"}, domain=KERNEL)
    await mixed.vmi("late", lambda v: verdicts(v) == {"ch": "NoNode"})
    (pod,) = mixed.pods_of(made)
    assert "deletionTimestamp" not in pod["metadata"]
    await mixed.node("ch-1", metadata={"labels": {label: "true"}})
    assert await mixed.lands("late") == "ch-1"
    await mixed.gone("early")
    await mixed.gone("late")


async def test_cordon_keeps_what_runs_and_uncordon_lets_the_waiting_in(mixed: Mixed) -> None:
    await mixed.make("inside", {"driver": "ch"}, domain=KERNEL)
    await mixed.lands("inside")
    mixed.cluster.kubectl("cordon", "ch-1")
    await mixed.make("outside", {"driver": "ch"}, domain=KERNEL)
    await mixed.vmi("outside", lambda v: verdicts(v) == {"ch": "NoNode"})
    assert phase(await mixed.vmi("inside", lambda _: True)) == "Scheduled"
    mixed.cluster.kubectl("uncordon", "ch-1")
    assert await mixed.lands("outside") == "ch-1"
    await mixed.gone("inside")
    await mixed.gone("outside")


async def test_drain_moves_a_machine_that_is_to_run_always(mixed: Mixed) -> None:
    body = instance("mover", {"driver": "xen", "virtType": "xenpv"}, domain=KERNEL)
    vm: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "mover", "namespace": SPACE},
        "spec": {"runStrategy": "Always", "template": {"spec": body["spec"]}},
    }
    await mixed.client.create(VMS, vm)
    first = await mixed.lands("mover")
    made = await mixed.runs("mover")
    try:
        await asyncio.to_thread(
            mixed.cluster.kubectl, "drain", first, "--force", "--ignore-daemonsets", "--delete-emptydir-data"
        )
        moved = await mixed.vmi("mover", lambda v: uid(v) != uid(made) and phase(v) == "Scheduled")
        assert moved["status"]["nodeName"] == ({"xen-full", "xen-pv"} - {first}).pop()
    finally:
        mixed.cluster.kubectl("uncordon", first)
    await mixed.client.delete(VMS, "mover", SPACE)
    await mixed.vms.wait_until(lambda seen: seen.get(SPACE, "mover") is None, SECONDS)
    await mixed.vmis.wait_until(lambda seen: seen.get(SPACE, "mover") is None, SECONDS)
    await mixed.pods.wait_until(lambda _: not mixed.pods_of(moved), SECONDS)


async def test_the_configuration_orders_and_disables_drivers(mixed: Mixed) -> None:
    kubevirt: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": SPACE},
        "spec": {"configuration": {"hypervisors": [{"name": "xen", "launcherImage": "mine/xen:1"}, {"name": "qemu"}]}},
    }
    await mixed.client.create(KUBEVIRTS, kubevirt)
    await mixed.make("first-is-xen")
    assert await mixed.lands("first-is-xen") == "xen-full"
    (pod,) = mixed.pods_of(await mixed.vmi("first-is-xen", lambda _: True))
    assert pod["spec"]["containers"][0]["image"] == "mine/xen:1"
    await mixed.make("disabled", {"driver": "lxc"})
    await mixed.vmi("disabled", lambda v: verdicts(v) == {"lxc": "NotEnabled"})
    await mixed.client.delete(KUBEVIRTS, "kubevirt", SPACE)
    assert await mixed.lands("disabled") == "lxc-small"
    await mixed.gone("first-is-xen")
    await mixed.gone("disabled")


async def test_a_quota_is_told_on_the_machine_and_obeyed(mixed: Mixed) -> None:
    space = "tight"
    await mixed.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    quota: Obj = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pods", "namespace": space},
        "spec": {"hard": {"pods": "0"}},
    }
    await mixed.client.create(QUOTAS, quota)
    async with Informer(mixed.client, ACCOUNTS, space) as accounts, Informer(mixed.client, QUOTAS, space) as quotas:
        await accounts.wait_until(lambda seen: seen.get(space, "default"), SECONDS)
        await quotas.wait_until(lambda seen: (seen.get(space, "pods") or {}).get("status"), SECONDS)
    await mixed.make("poor", {"driver": "lxc"}, space=space)
    vmi = await mixed.vmi("poor", waits, space)
    assert "exceeded quota: pods" in waits(vmi)
    await mixed.client.patch(QUOTAS, "pods", {"spec": {"hard": {"pods": "5"}}}, space)
    assert await mixed.lands("poor", space) == "lxc-small"
    await mixed.client.delete(NAMESPACES, space)
    async with Informer(mixed.client, NAMESPACES) as spaces:
        await spaces.wait_until(lambda seen: seen.get(None, space) is None, SECONDS)
    await mixed.pods.wait_until(lambda seen: not seen.items(space), SECONDS)


async def test_a_pod_that_somebody_deletes_ends_the_machine_and_a_new_one_starts(mixed: Mixed) -> None:
    made = await mixed.make("robbed", {"driver": "lxc"})
    await mixed.lands("robbed")
    (pod,) = mixed.pods_of(made)
    await mixed.client.delete(PODS, pod["metadata"]["name"], SPACE)
    vmi = await mixed.vmi("robbed", lambda v: phase(v) == "Failed")
    assert "launcher Pod is gone" in waits(vmi)
    await mixed.gone("robbed")
    with pytest.raises(ApiError):
        await mixed.client.get(VMIS, "robbed", SPACE)
