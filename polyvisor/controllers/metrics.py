"""Figures about machines for Prometheus: KubeVirt's names, and the hypervisor as a label of ours.

States are read from the informers when somebody asks; only how long a machine took to reach a phase is counted as it
happens. What was there before this process looked is not counted, for nobody knows whether it was counted already.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from polyvisor.api import Obj
from polyvisor.kube import Informer

SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
VMI_LABELS = ("namespace", "name", "node", "phase", "hypervisor", "virt_type")
VM_LABELS = ("namespace", "name", "status", "run_strategy")


class MachineMetrics(Collector):
    """The figures of all machines, while the context lasts."""

    def __init__(self, vms: Informer, vmis: Informer, registry: CollectorRegistry = REGISTRY) -> None:
        self._vms = vms
        self._vmis = vmis
        self._registry = registry
        self._took = Histogram(
            "kubevirt_vmi_phase_transition_time_from_creation_seconds",
            "From the creation of a machine to its reaching a phase.",
            ["phase", "hypervisor"],
            buckets=SECONDS,
            registry=None,
        )
        vmis.on_change(self._changed)

    def __enter__(self) -> MachineMetrics:
        self._registry.register(self)
        self._registry.register(self._took)
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.unregister(self)
        self._registry.unregister(self._took)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the states, one sample a machine."""
        vmis = GaugeMetricFamily("kubevirt_vmi_info", "A running machine and what it runs on.", labels=VMI_LABELS)
        for vmi in self._vmis.items():
            metadata, status = vmi["metadata"], vmi.get("status") or {}
            hypervisor = status.get("hypervisor") or {}
            values = [status.get("nodeName"), status.get("phase"), hypervisor.get("driver"), hypervisor.get("virtType")]
            vmis.add_metric([metadata["namespace"], metadata["name"], *(str(one or "") for one in values)], 1)
        yield vmis
        vms = GaugeMetricFamily("kubevirt_vm_info", "A virtual machine and its state in a word.", labels=VM_LABELS)
        for vm in self._vms.items():
            metadata, status = vm["metadata"], vm.get("status") or {}
            values = [status.get("printableStatus"), (vm.get("spec") or {}).get("runStrategy")]
            vms.add_metric([metadata["namespace"], metadata["name"], *(str(one or "") for one in values)], 1)
        yield vms

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None:
            return
        before, status = old.get("status") or {}, new.get("status") or {}
        phase = status.get("phase")
        if not phase or phase == before.get("phase") or old["metadata"]["uid"] != new["metadata"]["uid"]:
            return
        for passed in status.get("phaseTransitionTimestamps") or []:
            if passed.get("phase") == phase:
                took = _seconds(passed["phaseTransitionTimestamp"]) - _seconds(new["metadata"]["creationTimestamp"])
                driver = str((status.get("hypervisor") or {}).get("driver") or "")
                self._took.labels(str(phase), driver).observe(max(0.0, took))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
