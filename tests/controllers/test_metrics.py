from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from polyvisor.api.resources import VMIS, VMS
from polyvisor.controllers.metrics import MachineMetrics
from polyvisor.kube import Informer
from tests.cluster import running
from tests.controllers.conftest import instance

TOOK = "kubevirt_vmi_phase_transition_time_from_creation_seconds"


async def test_a_machine_its_hypervisor_and_how_long_it_took(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with running(tmp_path) as client:
        made = await client.create(VMIS, instance("m"))
        async with Informer(client, VMS) as vms, Informer(client, VMIS) as vmis:
            with MachineMetrics(vms, vmis, registry):
                created = made["metadata"]["creationTimestamp"]
                later = created.replace("Z", ".500000Z")
                status = {
                    "phase": "Running",
                    "nodeName": "n1",
                    "hypervisor": {"driver": "alpha", "virtType": "fast"},
                    "phaseTransitionTimestamps": [
                        {"phase": "Scheduled", "phaseTransitionTimestamp": created},
                        {"phase": "Running", "phaseTransitionTimestamp": later},
                    ],
                }
                await client.update(VMIS, {**made, "status": status})
                await vmis.wait_until(lambda i: (i.items()[0].get("status") or {}).get("phase") == "Running", 10)
                where = {"namespace": "default", "name": "m", "node": "n1", "phase": "Running"}
                labels = where | {"hypervisor": "alpha", "virt_type": "fast"}
                assert registry.get_sample_value("kubevirt_vmi_info", labels) == 1
                passed = {"phase": "Running", "hypervisor": "alpha"}
                assert registry.get_sample_value(f"{TOOK}_count", passed) == 1
                assert registry.get_sample_value(f"{TOOK}_sum", passed) == 0.5
                await client.delete(VMIS, "m", "default")
                await vmis.wait_until(lambda i: not i.items(), 10)
                assert registry.get_sample_value("kubevirt_vmi_info", labels) is None
            assert list(registry.collect()) == []
