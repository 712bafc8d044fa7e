from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from polyvisor.api import Obj
from polyvisor.api.figures import BY_NAME
from polyvisor.api.names import PrintableStatus
from polyvisor.api.resources import KUBEVIRTS, NODES, PODS, VMIS, VMS
from polyvisor.controllers.metrics import MachineMetrics
from polyvisor.drivers import registry as drivers
from polyvisor.kube import Informer, KubeClient
from tests.cluster import running
from tests.controllers.conftest import instance

TOOK = "kubevirt_vmi_phase_transition_time"
HERE = {"namespace": "default", "name": "m"}


class Seen:
    """The figures over informers of an API server."""

    def __init__(self, client: KubeClient, registry: CollectorRegistry) -> None:
        self.client = client
        self.registry = registry
        self.informers: dict[str, Informer] = {}

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        found = [sample for family in self.registry.collect() for sample in family.samples if sample.name == name]
        return [({k: v for k, v in sample.labels.items() if v}, sample.value) for sample in found]

    async def vmi(self, obj: Obj, **status: Any) -> Obj:
        """Write a machine's status and wait until it was seen."""
        new = await self.client.update(VMIS, {**obj, "status": {**(obj.get("status") or {}), **status}})
        await self.informers["vmis"].wait_until(
            lambda i: any(one["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"] for one in i.items())
        )
        return new


@asynccontextmanager
async def seen(folder: Path, **objects: Obj) -> AsyncIterator[Seen]:
    resources = {"vms": VMS, "vmis": VMIS, "pods": PODS, "nodes": NODES, "kubevirts": KUBEVIRTS}
    async with running(folder) as client:
        one = Seen(client, CollectorRegistry())
        for name, obj in objects.items():
            made = await client.create(resources[name], obj)
            if "status" in obj:
                await client.update_status(resources[name], {**made, "status": obj["status"]})
        for name, resource in resources.items():
            one.informers[name] = Informer(client, resource)
            await one.informers[name].__aenter__()
        with MachineMetrics(**one.informers, drivers=drivers(), registry=one.registry):
            yield one
        assert list(one.registry.collect()) == [], "nothing is left behind"
        for informer in one.informers.values():
            await informer.stop()


def at(created: str, seconds: str) -> str:
    return created.replace("Z", f"{seconds}Z")


async def test_a_machine_its_hypervisor_and_how_long_it_took(tmp_path: Path) -> None:
    async with seen(tmp_path, vmis=instance("m")) as one:
        made = one.informers["vmis"].items()[0]
        created = made["metadata"]["creationTimestamp"]
        passed = [
            {"phase": "Scheduled", "phaseTransitionTimestamp": at(created, ".100000")},
            {"phase": "Running", "phaseTransitionTimestamp": at(created, ".500000")},
        ]
        hypervisor = {"driver": "qemu", "virtType": "kvm"}
        first = await one.vmi(made, phase="Scheduled", hypervisor=hypervisor, phaseTransitionTimestamps=passed[:1])
        await one.vmi(
            first,
            phase="Running",
            nodeName="n1",
            phaseTransitionTimestamps=passed,
            guestOSInfo={"name": "Debian", "kernelRelease": "6.1"},
            interfaces=[{"name": "default", "ipAddresses": ["10.0.0.1", "fd00::1"]}],
        )
        [(labels, value)] = one.samples("kubevirt_vmi_info")
        assert value == 1
        wanted = HERE | {"node": "n1", "phase": "Running", "hypervisor": "qemu", "virt_type": "kvm"}
        wanted |= {"guest_os_name": "Debian", "guest_os_kernel_release": "6.1"}
        assert labels == wanted | {"evictable": "true", "outdated": "false"}
        phase = {"phase": "Running", "hypervisor": "qemu"}
        assert one.registry.get_sample_value(f"{TOOK}_from_creation_seconds_sum", phase) == 0.5
        last = phase | {"last_phase": "Scheduled"}
        assert round(one.registry.get_sample_value(f"{TOOK}_seconds_sum", last) or 0, 3) == 0.4
        addresses = {labels["address"]: labels["type"] for labels, _ in one.samples("kubevirt_vmi_status_addresses")}
        assert addresses == {"10.0.0.1": "IPv4", "fd00::1": "IPv6"}
        [(_, overhead)] = one.samples("kubevirt_vmi_launcher_memory_overhead_bytes")
        assert overhead > 1024 * 1024
        await one.client.delete(VMIS, "m", "default")
        await one.informers["vmis"].wait_until(lambda i: not i.items())
        assert one.samples("kubevirt_vmi_info") == []


async def test_one_write_may_tell_of_several_phases(tmp_path: Path) -> None:
    async with seen(tmp_path, vmis=instance("m")) as one:
        made = one.informers["vmis"].items()[0]
        created = made["metadata"]["creationTimestamp"]
        steps = (("Pending", ".100000"), ("Scheduling", ".200000"), ("Scheduled", ".500000"))
        passed = [{"phase": phase, "phaseTransitionTimestamp": at(created, seconds)} for phase, seconds in steps]
        first = await one.vmi(made, phase="Pending", phaseTransitionTimestamps=passed[:1])
        await one.vmi(first, phase="Scheduled", hypervisor={"driver": "qemu"}, phaseTransitionTimestamps=passed)
        for phase, last, took in (("Scheduling", "Pending", 0.1), ("Scheduled", "Scheduling", 0.3)):
            labels = {"phase": phase, "last_phase": last, "hypervisor": "qemu"}
            assert round(one.registry.get_sample_value(f"{TOOK}_seconds_sum", labels) or 0, 3) == took


async def test_how_long_an_end_took(tmp_path: Path) -> None:
    held = instance("m")
    held["metadata"]["finalizers"] = ["test/held"]
    async with seen(tmp_path, vmis=held) as one:
        made = one.informers["vmis"].items()[0]
        await one.vmi(made, phase="Running", hypervisor={"driver": "lxc"})
        await one.client.delete(VMIS, "m", "default")
        gone = await one.informers["vmis"].wait_until(
            lambda i: next((one for one in i.items() if one["metadata"].get("deletionTimestamp")), None)
        )
        deleted = gone["metadata"]["deletionTimestamp"]
        stamps = [{"phase": "Succeeded", "phaseTransitionTimestamp": at(deleted, ".250000")}]
        await one.vmi(gone, phase="Succeeded", phaseTransitionTimestamps=stamps)
        labels = {"phase": "Succeeded", "hypervisor": "lxc"}
        assert one.registry.get_sample_value(f"{TOOK}_from_deletion_seconds_count", labels) == 1


async def test_a_machine_that_asks_to_be_moved_and_cannot(tmp_path: Path) -> None:
    stuck = instance("m")
    stuck["spec"]["evictionStrategy"] = "LiveMigrate"
    async with seen(tmp_path, vmis=stuck) as one:
        made = one.informers["vmis"].items()[0]
        condition = {"type": "LiveMigratable", "status": "False"}
        new = await one.vmi(made, phase="Running", nodeName="n1", conditions=[condition])
        assert one.samples("kubevirt_vmi_non_evictable") == [(HERE | {"node": "n1"}, 1)]
        await one.vmi(new, conditions=[condition | {"status": "True"}])
        assert one.samples("kubevirt_vmi_non_evictable") == [(HERE | {"node": "n1"}, 0)]


def machine(status: str) -> Obj:
    domain = {"cpu": {"cores": 2, "sockets": 2}, "memory": {"guest": "1Gi"}, "devices": {}}
    domain["devices"] = {"interfaces": [{"name": "default", "masquerade": {}, "model": "virtio"}]}
    domain["resources"] = {"limits": {"memory": "2Gi"}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": dict(HERE),
        "spec": {
            "runStrategy": "Always",
            "template": {"spec": {"domain": domain, "networks": [{"name": "default", "pod": {}}]}},
        },
        "status": {
            "printableStatus": status,
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:01:40Z"}],
        },
    }


async def test_a_virtual_machine_its_state_and_what_it_asks_for(tmp_path: Path) -> None:
    async with seen(tmp_path, vms=machine("CrashLoopBackOff")) as one:
        [(labels, _)] = one.samples("kubevirt_vm_info")
        assert labels == HERE | {"status": "CrashLoopBackOff", "status_group": "error", "run_strategy": "Always"}
        assert one.samples("kubevirt_vm_error_status_last_transition_timestamp_seconds") == [(HERE, 100)]
        assert one.samples("kubevirt_vm_running_status_last_transition_timestamp_seconds") == []
        cpu = HERE | {"resource": "cpu", "unit": "cores", "source": "domain"}
        memory = HERE | {"resource": "memory", "unit": "bytes", "source": "guest"}
        assert one.samples("kubevirt_vm_resource_requests") == [(cpu, 4), (memory, 2**30)]
        assert one.samples("kubevirt_vm_resource_limits") == [(memory | {"source": "limits"}, 2**31)]
        [(card, _)] = one.samples("kubevirt_vm_vnic_info")
        binding = {"binding_type": "core", "binding_name": "masquerade"}
        assert card == HERE | binding | {"vnic_name": "default", "network": "pod networking", "model": "virtio"}
        [(_, made)] = one.samples("kubevirt_vm_create_date_timestamp_seconds")
        assert made > 1.7e9


async def test_launchers_of_another_release_are_counted(tmp_path: Path) -> None:
    async with seen(tmp_path, vmis=instance("m")) as one:
        made = one.informers["vmis"].items()[0]
        await one.vmi(made, phase="Running")
        assert one.samples("kubevirt_vmi_number_of_outdated") == [({}, 0)]
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "m", "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "p",
                "namespace": "default",
                "annotations": {"hypervisor.kubevirt.io/driver": "qemu"},
                "ownerReferences": [owner | {"uid": made["metadata"]["uid"]}],
            },
            "spec": {"containers": [{"name": "compute", "image": "elsewhere/launcher-qemu:v0"}]},
        }
        await one.client.create(PODS, pod)
        await one.informers["pods"].wait_until(lambda i: i.items())
        assert one.samples("kubevirt_vmi_number_of_outdated") == [({}, 1)]
        configuration = {"hypervisors": [{"name": "qemu", "launcherImage": "elsewhere/launcher-qemu:v0"}]}
        kubevirt = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": dict(HERE)}
        await one.client.create(KUBEVIRTS, {**kubevirt, "spec": {"configuration": configuration}})
        await one.informers["kubevirts"].wait_until(lambda i: i.items())
        assert one.samples("kubevirt_vmi_number_of_outdated") == [({}, 0)]


async def test_drivers_by_the_nodes_that_have_them_and_emulation(tmp_path: Path) -> None:
    labels = {"hypervisor.kubevirt.io/qemu": "true", "hypervisor.kubevirt.io/qemu.kvm": "true"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    configuration = {"developerConfiguration": {"useEmulation": True}}
    kubevirt = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": dict(HERE)}
    kubevirt["spec"] = {"configuration": configuration}
    async with seen(tmp_path, nodes=node, kubevirts=kubevirt) as one:
        found = {(ls["hypervisor"], ls["virt_type"]): value for ls, value in one.samples("polyvisor_driver_nodes")}
        assert found["qemu", "kvm"] == 1
        assert found["xen", "xen"] == 0
        assert one.samples("kubevirt_configuration_emulation_enabled") == [({}, 1)]


async def test_every_state_has_a_figure(tmp_path: Path) -> None:
    async with seen(tmp_path, vms=machine("Stopped")) as one:
        for status in PrintableStatus:
            old = one.informers["vms"].items()[0]
            new = await one.client.update_status(
                VMS, {**old, "status": {**old["status"], "printableStatus": str(status)}}
            )
            version = new["metadata"]["resourceVersion"]
            await one.informers["vms"].wait_until(
                lambda i, v=version: i.items()[0]["metadata"]["resourceVersion"] == v  # type: ignore[misc]
            )
            groups = [
                name
                for name in BY_NAME
                if name.endswith("_status_last_transition_timestamp_seconds") and one.samples(name)
            ]
            assert len(groups) == 1, status
