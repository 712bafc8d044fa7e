"""Figures about machines for Prometheus: KubeVirt's names, and the hypervisor as a label of ours.

States are read from the informers when somebody asks; only how long a machine took to reach a phase is counted as it
happens. What was there before this process looked is not counted, for nobody knows whether it was counted already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.registry import Collector

from polyvisor.api import Obj, VirtualMachineInstanceSpec, names
from polyvisor.api.names import FINAL_PHASES, PrintableStatus, VmiCondition
from polyvisor.api.owners import controller_of
from polyvisor.api.quantity import QuantityError, parse_quantity
from polyvisor.api.reading import devices_of, nested, read_status
from polyvisor.controllers.launcher_pod import driver_of, launcher_image
from polyvisor.controllers.objects import condition_is, moment, phase_of
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Informer
from polyvisor.kube.metrics import Families, Family, histogram
from polyvisor.machine import Vcpus

SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
RUNNING, STARTING, MIGRATING, STOPPED, ERROR = "running", "starting", "migrating", "non_running", "error"
GROUPS = {
    PrintableStatus.RUNNING: RUNNING,
    PrintableStatus.STARTING: STARTING,
    PrintableStatus.PROVISIONING: STARTING,
    PrintableStatus.WAITING_FOR_VOLUME_BINDING: STARTING,
    PrintableStatus.MIGRATING: MIGRATING,
    PrintableStatus.STOPPED: STOPPED,
    PrintableStatus.STOPPING: STOPPED,
    PrintableStatus.PAUSED: STOPPED,
    PrintableStatus.TERMINATING: STOPPED,
}
"""KubeVirt's groups of states; every other state is an error."""
INFO_ANNOTATIONS = ("os", "workload", "flavor")
GUEST = {"kernelRelease": "kernel_release", "machine": "machine", "name": "name", "versionId": "version_id"}


class MachineMetrics(Collector):
    """The figures of all machines, while the context lasts."""

    def __init__(
        self,
        *,
        vms: Informer,
        vmis: Informer,
        pods: Informer,
        nodes: Informer,
        kubevirts: Informer,
        drivers: DriverRegistry,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._vms, self._vmis, self._pods = vms, vmis, pods
        self._nodes, self._kubevirts, self._drivers = nodes, kubevirts, drivers
        self._registry = registry
        name = "kubevirt_vmi_phase_transition_time"
        self._since_creation = histogram(f"{name}_from_creation_seconds", None, SECONDS)
        self._since_deletion = histogram(f"{name}_from_deletion_seconds", None, SECONDS)
        self._since_last = histogram(f"{name}_seconds", None, SECONDS)
        vmis.on_change(self._changed)

    @property
    def _parts(self) -> tuple[Collector, ...]:
        return (self, self._since_creation, self._since_deletion, self._since_last)

    def __enter__(self) -> MachineMetrics:
        for part in self._parts:
            self._registry.register(part)
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            self._registry.unregister(part)

    def collect(self) -> Iterator[Family]:
        """Give the states as they are now."""
        found = Families()
        configuration = self._configuration()
        outdated = self._outdated(configuration)
        for vmi in self._vmis.items():
            self._instance(found, vmi, vmi["metadata"]["uid"] in outdated)
        for vm in self._vms.items():
            _machine(found, vm)
        found.add("kubevirt_vmi_number_of_outdated", len(outdated))
        emulation = nested(configuration, "developerConfiguration").get("useEmulation") is True
        found.add("kubevirt_configuration_emulation_enabled", int(emulation))
        for (driver, virt_type), count in self._advertised().items():
            found.add("polyvisor_driver_nodes", count, hypervisor=driver, virt_type=virt_type)
        yield from found

    def _instance(self, found: Families, vmi: Obj, outdated: bool) -> None:
        metadata, status = vmi["metadata"], vmi.get("status") or {}
        hypervisor = status.get("hypervisor") or {}
        where = {"namespace": metadata["namespace"], "name": metadata["name"], "hypervisor": hypervisor.get("driver")}
        here = where | {"node": status.get("nodeName")}
        guest = status.get("guestOSInfo") or {}
        stuck = _non_evictable(vmi)
        found.add(
            "kubevirt_vmi_info",
            1,
            **here,
            **_about(vmi),
            **{f"guest_os_{label}": guest.get(field) for field, label in GUEST.items()},
            virt_type=hypervisor.get("virtType"),
            phase=phase_of(vmi),
            evictable=str(not stuck).lower(),
            outdated=str(outdated).lower(),
        )
        if phase_of(vmi) in FINAL_PHASES:
            return
        found.add("kubevirt_vmi_non_evictable", int(stuck), **here)
        _cards(found, "kubevirt_vmi_vnic_info", metadata, vmi["spec"])
        for card in status.get("interfaces") or []:
            for address in card.get("ipAddresses") or []:
                kind = "IPv6" if ":" in address else "IPv4"
                more = {"network_name": card.get("name"), "address": address, "type": kind}
                found.add("kubevirt_vmi_status_addresses", 1, **here, **more)
        driver = self._drivers.get(str(hypervisor.get("driver") or ""))
        if driver is not None:
            overhead = driver.overhead_bytes(VirtualMachineInstanceSpec.model_validate(vmi["spec"]))
            found.add("kubevirt_vmi_launcher_memory_overhead_bytes", overhead, **where)

    def _configuration(self) -> Obj:
        found = self._kubevirts.items()
        configuration: Obj = nested(found[0], "spec").get("configuration") or {} if found else {}
        return configuration

    def _outdated(self, configuration: Obj) -> set[str]:
        """Return the uids of the machines whose launcher is not of the image that a new one would get."""
        given = {one.get("name"): one.get("launcherImage") or "" for one in configuration.get("hypervisors") or []}
        found = set()
        for pod in self._pods.items():
            owner, (driver, _) = controller_of(pod), driver_of(pod)
            containers = nested(pod, "spec").get("containers") or []
            images = {one.get("image") for one in containers if one.get("name") == names.COMPUTE_CONTAINER}
            if owner and driver and images - {launcher_image(driver, given.get(driver, ""))}:
                found.add(str(owner.get("uid")))
        return found & {vmi["metadata"]["uid"] for vmi in self._vmis.items() if phase_of(vmi) not in FINAL_PHASES}

    def _advertised(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for node in self._nodes.items():
            labels = node["metadata"].get("labels") or {}
            for driver in self._drivers:
                for virt_type in driver.virt_types:
                    found[driver.name, virt_type] += labels.get(names.virt_type_label(driver.name, virt_type)) == "true"
        return found

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None:
            return
        phase, last = phase_of(new), phase_of(old)
        if not phase or phase == last or old["metadata"]["uid"] != new["metadata"]["uid"]:
            return
        status, metadata = new.get("status") or {}, new["metadata"]
        passed = status.get("phaseTransitionTimestamps") or []
        driver = str(nested(status, "hypervisor").get("driver") or "")
        known = len(read_status(old).get("phaseTransitionTimestamps") or [])
        for number in range(known, len(passed)):  # one write may tell of several phases
            self._took(metadata, driver, passed[number], passed[number - 1] if number else None)

    def _took(self, metadata: Obj, driver: str, entered: Obj, left: Obj | None) -> None:
        phase, at = entered["phase"], _seconds(entered["phaseTransitionTimestamp"])
        self._since_creation.labels(phase, driver).observe(max(0.0, at - _seconds(metadata["creationTimestamp"])))
        if left is not None:
            before = _seconds(left["phaseTransitionTimestamp"])
            self._since_last.labels(phase, left["phase"], driver).observe(max(0.0, at - before))
        if deleted := metadata.get("deletionTimestamp"):
            asked = _seconds(deleted) - (metadata.get("deletionGracePeriodSeconds") or 0)
            self._since_deletion.labels(phase, driver).observe(max(0.0, at - asked))


def _machine(found: Families, vm: Obj) -> None:
    metadata, status, spec = vm["metadata"], vm.get("status") or {}, vm.get("spec") or {}
    where = {"namespace": metadata["namespace"], "name": metadata["name"]}
    word = str(status.get("printableStatus") or "")
    group = GROUPS.get(PrintableStatus(word), ERROR) if word in list(PrintableStatus) else ""
    template: Obj = nested(spec, "template").get("spec") or {}
    found.add(
        "kubevirt_vm_info",
        1,
        **where,
        **_about(vm.get("spec", {}).get("template") or {}),
        machine_type=nested(template, "domain", "machine").get("type"),
        status=word,
        status_group=group,
        run_strategy=spec.get("runStrategy"),
    )
    made = moment(metadata.get("creationTimestamp"))
    if made is not None:
        found.add("kubevirt_vm_create_date_timestamp_seconds", made.timestamp(), **where)
    times = [moment(one.get("lastTransitionTime")) for one in status.get("conditions") or []]
    if group and (latest := max((at.timestamp() for at in times if at), default=0)):
        found.add(f"kubevirt_vm_{group}_status_last_transition_timestamp_seconds", latest, **where)
    _cards(found, "kubevirt_vm_vnic_info", metadata, template)
    _resources(found, where, template.get("domain") or {})


def _resources(found: Families, where: Obj, domain: Obj) -> None:
    cpu, memory = domain.get("cpu") or {}, domain.get("memory") or {}
    if cpu:
        cores = Vcpus.read({"cpu": cpu}).count
        labels = {"resource": "cpu", "unit": "cores", "source": "domain"}
        found.add("kubevirt_vm_resource_requests", cores, **where, **labels)
    given: list[tuple[str, str, str, Any]] = [("requests", "memory", "guest", memory.get("guest"))]
    for what in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            given.append((what, resource, what, (nested(domain, "resources").get(what) or {}).get(resource)))
    for what, resource, source, quantity in given:
        if quantity is None:
            continue
        try:
            value = float(parse_quantity(quantity))
        except QuantityError:
            continue
        labels = {"resource": resource, "unit": "bytes" if resource == "memory" else "cores", "source": source}
        found.add(f"kubevirt_vm_resource_{what}", value, **where, **labels)


def _cards(found: Families, name: str, metadata: Obj, spec: Obj) -> None:
    networks = {one.get("name"): one for one in spec.get("networks") or []}
    for card in devices_of(spec).get("interfaces") or []:
        network = networks.get(card.get("name")) or {}
        kinds = [kind for kind in ("masquerade", "bridge", "passt", "sriov") if card.get(kind) is not None]
        plugin = card.get("binding") is not None
        found.add(
            name,
            1,
            namespace=metadata["namespace"],
            name=metadata["name"],
            vnic_name=card.get("name"),
            binding_type="plugin" if plugin else "core",
            binding_name=card["binding"].get("name") if plugin else next(iter(kinds), None),
            network=nested(network, "multus").get("networkName") or ("pod networking" if network else None),
            model=card.get("model"),
        )


def _about(obj: Obj) -> dict[str, Any]:
    """Return what annotations say of a machine, as KubeVirt's figures tell it."""
    annotations = nested(obj, "metadata").get("annotations") or {}
    found = {word: annotations.get(f"vm.kubevirt.io/{word}") for word in INFO_ANNOTATIONS}
    for word in ("instancetype", "preference"):
        given = annotations.get(f"kubevirt.io/{word}-name") or annotations.get(f"kubevirt.io/cluster-{word}-name")
        found["instance_type" if word == "instancetype" else word] = given
    return found


def _non_evictable(vmi: Obj) -> bool:
    wants = vmi["spec"].get("evictionStrategy") == "LiveMigrate"
    return wants and not condition_is(vmi, VmiCondition.LIVE_MIGRATABLE)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
