"""``create instancetype`` and ``create preference``: manifests from flags, with virtctl's flags and results.

They are of the whole cluster unless ``--namespaced`` is given; nothing is sent anywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from polyvisor.api.metadata import dns_subdomain_error
from polyvisor.api.resources import (
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    INSTANCETYPES,
    PREFERENCES,
    Resource,
)
from polyvisor.cli.create_vm import ALPHABET, pairs, quantity, wrong

Obj = dict[str, Any]
IO_THREADS = ("auto", "shared", "supplementalPool")
TOPOLOGIES = ("sockets", "cores", "threads", "spread", "any")
OLDER = tuple(f"prefer{word.capitalize()}" for word in TOPOLOGIES)


def instancetype(
    *,
    name: str = "",
    namespace: str = "",
    namespaced: bool = False,
    cpu: int = 0,
    memory: str = "",
    gpus: Sequence[str] = (),
    host_devices: Sequence[str] = (),
    io_threads_policy: str = "",
) -> Obj:
    """Return an instance type."""
    if cpu < 1:
        raise wrong("cpu", "the number of CPUs must be given, 1 or more")
    if not memory:
        raise wrong("memory", "the guest's memory must be given, such as 512Mi")
    spec: Obj = {"cpu": {"guest": cpu}, "memory": {"guest": quantity("memory", memory)}}
    for flag, field, given in (("gpu", "gpus", gpus), ("hostdevice", "hostDevices", host_devices)):
        devices = [pairs(flag, text, ("name", "devicename"), ("name", "devicename")) for text in given]
        if devices:
            spec[field] = [{"name": one["name"], "deviceName": one["devicename"]} for one in devices]
    if io_threads_policy:
        if io_threads_policy not in IO_THREADS:
            raise wrong("iothreadspolicy", f"{io_threads_policy!r} is not valid; accepted: {', '.join(IO_THREADS)}")
        spec["ioThreadsPolicy"] = io_threads_policy
    return _object(INSTANCETYPES, CLUSTER_INSTANCETYPES, "instancetype", name, namespace, namespaced, spec)


def preference(
    *,
    name: str = "",
    namespace: str = "",
    namespaced: bool = False,
    cpu_topology: str = "",
    machine_type: str = "",
    storage_class: str = "",
    driver: str = "",
) -> Obj:
    """Return a preference."""
    spec: Obj = {}
    if cpu_topology:
        if cpu_topology not in (*TOPOLOGIES, *OLDER):
            raise wrong("cpu-topology", f"{cpu_topology!r} is not valid; accepted: {', '.join(TOPOLOGIES)}")
        spec["cpu"] = {"preferredCPUTopology": cpu_topology}
    if machine_type:
        spec["machine"] = {"preferredMachineType": machine_type}
    if storage_class:
        spec["volumes"] = {"preferredStorageClassName": storage_class}
    if driver:
        spec["preferredHypervisor"] = {"driver": driver}
    return _object(PREFERENCES, CLUSTER_PREFERENCES, "preference", name, namespace, namespaced, spec)


def _object(own: Resource, cluster: Resource, word: str, name: str, namespace: str, namespaced: bool, spec: Obj) -> Obj:
    if namespace and not namespaced:
        raise wrong("namespace", "has a meaning with --namespaced alone: the object is of the whole cluster")
    name = name or f"{word}-" + "".join(secrets.choice(ALPHABET) for _ in range(5))
    if error := dns_subdomain_error(name):
        raise wrong("name", error)
    resource = own if namespaced else cluster
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": spec,
    }
