"""What KubeVirt fills in when a manifest leaves it open; what depends on the hypervisor is left to the driver.

Each function changes the object in place and fills only what is absent, so that applying it twice changes nothing.
Malformed parts are stepped over: the strict check reports them.
"""

from __future__ import annotations

import uuid
from typing import Any

from polyvisor.admission.values import amount, mapping
from polyvisor.api import Obj, names

DEFAULT_NETWORK = "default"
TOPOLOGY = ("cores", "sockets", "threads")
RESOURCES = ("limits", "requests")
USUAL_CPU_REQUEST = "100m"
"""KubeVirt's default of ``cpuRequest``; a machine asks for a share of its CPUs then (``cpuAllocationRatio``)."""


def machine(vm: Obj) -> None:
    """Fill in a VirtualMachine: the identity that the guest keeps over all its runs."""
    domain = mapping(vm, "spec", "template", "spec", "domain")
    if not domain:
        return
    firmware = domain.setdefault("firmware", {})
    if firmware is None:
        firmware = domain["firmware"] = {}
    if isinstance(firmware, dict) and not firmware.get("uuid"):
        firmware["uuid"] = generated_uuid()


def new_machine(vm: Obj) -> None:
    """Fill in the finalizer of a new VirtualMachine, and how its PCI devices are placed."""
    _held(vm, names.VM_FINALIZER)
    template = mapping(vm, "spec").get("template")
    if isinstance(template, dict):
        _pci_topology(template)


def generated_uuid() -> str:
    """Return a random uuid of version 8 (RFC 9562): by that the catalogue tells it from one that a user wants."""
    number = uuid.uuid4().int & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number))


def instance(vmi: Obj) -> None:
    """Fill in the status and finalizer of a new VirtualMachineInstance, and how its PCI devices are placed."""
    _held(vmi, names.VMI_FINALIZER)
    _pci_topology(vmi)
    revision = mapping(vmi, "status").get("virtualMachineRevisionName")
    vmi["status"] = {"phase": str(names.Phase.PENDING)}
    if isinstance(revision, str):
        vmi["status"]["virtualMachineRevisionName"] = revision


def _pci_topology(obj: Obj) -> None:
    """Say that PCI devices keep their addresses over restarts, as tools that move machines between clusters look for.

    Version 3 is KubeVirt's word for it; here every address is written into the domain.
    """
    metadata = obj.setdefault("metadata", {})
    if metadata is None:
        metadata = obj["metadata"] = {}
    annotations = metadata.get("annotations") or {} if isinstance(metadata, dict) else None
    if isinstance(annotations, dict) and names.PCI_TOPOLOGY_ANNOTATION not in annotations:
        metadata["annotations"] = {**annotations, names.PCI_TOPOLOGY_ANNOTATION: "v3"}


def _held(obj: Obj, finalizer: str) -> None:
    """Have a finalizer hold an object, which spares the controller a write."""
    metadata = obj.setdefault("metadata", {})
    if isinstance(metadata, dict):
        finalizers = metadata.get("finalizers") or []
        if isinstance(finalizers, list) and finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


def instance_spec(spec: Obj, configuration: Obj) -> None:
    """Fill in the spec of a VirtualMachineInstance."""
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = names.DEFAULT_GRACE_PERIOD_SECONDS
    if not spec.get("evictionStrategy") and configuration.get("evictionStrategy"):
        spec["evictionStrategy"] = configuration["evictionStrategy"]
    domain = spec.get("domain")
    if not isinstance(domain, dict):
        return
    _cpu_request(domain, configuration)
    _cpu(domain)
    _memory(domain)
    _input(mapping(domain, "devices"))
    _console_log(mapping(domain, "devices"), configuration)
    disks(spec)


def _cpu_request(domain: Obj, configuration: Obj) -> None:
    """Ask for the CPU share that the administrator wants, unless the machine says anything of its CPUs."""
    request, resources = configuration.get("cpuRequest"), domain.get("resources") or {}
    if request is None or amount(request) == amount(USUAL_CPU_REQUEST) or not isinstance(resources, dict):
        return
    if mapping(domain, "cpu").get("dedicatedCpuPlacement") is True:
        return
    if not any(mapping(resources, kind).get("cpu") for kind in RESOURCES):
        domain["resources"] = {**resources, "requests": {**mapping(resources, "requests"), "cpu": request}}


def _cpu(domain: Obj) -> None:
    """Fill in the topology, unless the number of CPUs follows from the resources."""
    cpu = domain.get("cpu")
    given = isinstance(cpu, dict) and any(cpu.get(key) for key in TOPOLOGY)
    if not given and any(mapping(domain, "resources", kind).get("cpu") for kind in RESOURCES):
        return
    if cpu is None:
        cpu = domain["cpu"] = {}
    if isinstance(cpu, dict):
        for key in TOPOLOGY:
            if cpu.get(key) in (None, 0) and cpu.get(key) is not False:
                cpu[key] = 1


def _memory(domain: Obj) -> None:
    resources = mapping(domain, "resources")
    guest = mapping(domain, "memory").get("guest")
    if guest is None:
        requested = mapping(resources, "requests").get("memory")
        guest = requested if requested is not None else mapping(resources, "limits").get("memory")
        memory: Any = domain.get("memory") or {}
        if guest is not None and amount(guest) is not None and isinstance(memory, dict):
            domain["memory"] = {**memory, "guest": guest}


def memory_request(spec: Obj) -> None:
    """Ask for what a new instance's guest has of memory, for KubeVirt's clients look for it there."""
    domain = mapping(spec, "domain")
    guest, resources = mapping(domain, "memory").get("guest"), domain.get("resources") or {}
    if (amount(guest) or 0) <= 0 or not isinstance(resources, dict):
        return
    if not any(mapping(resources, kind).get("memory") for kind in RESOURCES):
        domain["resources"] = {**resources, "requests": {**mapping(resources, "requests"), "memory": guest}}


def _console_log(devices: Obj, configuration: Obj) -> None:
    """Keep no log of the serial console where the administrator wants none, unless the machine asks for it."""
    disabled = mapping(configuration, "virtualMachineOptions").get("disableSerialConsoleLog") is not None
    if disabled and devices and devices.get("logSerialConsole") is None:
        devices["logSerialConsole"] = False


def _input(devices: Obj) -> None:
    """Give a machine that asks for a pointer device, and names none, a tablet."""
    if devices.get("autoattachInputDevice") is True and not devices.get("inputs"):
        devices["inputs"] = [{"name": "default-0", "type": "tablet", "bus": "usb"}]


def disks(spec: Obj) -> None:
    """Give every volume its disk, and every disk without a kind the plain one."""
    devices = mapping(spec, "domain").get("devices")
    if not isinstance(devices, dict):
        return
    given, volumes = devices.get("disks") or [], spec.get("volumes") or []
    if not isinstance(given, list) or not isinstance(volumes, list):
        return
    shared = devices.get("filesystems") or []
    devices_of_volumes = [*given, *(shared if isinstance(shared, list) else [])]
    attached = {one["name"] for one in devices_of_volumes if isinstance(one, dict) and isinstance(one.get("name"), str)}
    missing = [
        {"name": volume["name"], "disk": {}}
        for volume in volumes
        if isinstance(volume, dict) and isinstance(volume.get("name"), str) and volume["name"] not in attached
        if "memoryDump" not in volume  # which no disk shows to the guest
    ]
    for disk in given:
        if isinstance(disk, dict) and all(disk.get(target) is None for target in ("disk", "cdrom", "lun")):
            disk["disk"] = {}
    if missing:
        devices["disks"] = [*given, *missing]


def pod_network(spec: Obj) -> bool:
    """Join the Pod's network, unless the spec says otherwise; return whether anything was added."""
    devices = mapping(spec, "domain", "devices")
    if (
        "domain" not in spec
        or not isinstance(spec["domain"], dict)
        or not isinstance(spec["domain"].get("devices"), dict)
    ):
        return False
    if spec.get("networks") or devices.get("interfaces") or devices.get("autoattachPodInterface") is False:
        return False
    devices["interfaces"] = [{"name": DEFAULT_NETWORK, "masquerade": {}}]
    spec["networks"] = [{"name": DEFAULT_NETWORK, "pod": {}}]
    return True
