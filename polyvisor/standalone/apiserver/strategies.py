"""What the API server itself does to objects of some kinds, as Kubernetes does: defaults, conversions, first status.

One function for creation and one for every later write. They change the object that they are given, which is the
caller's own copy.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from polyvisor.api.problems import Problem
from polyvisor.api.resources import EVENTS, NAMESPACES, NODES, PODS, PVCS, SECRETS, Resource

from .errors import Obj
from .kinds import PVS, SERVICES

IN_USE_FINALIZER = "kubernetes.io/pv-protection"
"""On each PersistentVolume, as Kubernetes' admission sets it: it is not removed while a claim is bound to it."""
NODE_PORTS = range(30000, 32768)
_KEEPS_STATUS = frozenset([NODES.plural])
"""Kinds whose status may come with the object when it is created."""


def has_generation(resource: Resource) -> bool:
    """Tell whether the kind counts changes of its spec."""
    return resource.custom or resource is PODS


def on_create(resource: Resource, obj: Obj) -> None:
    """Give a new object what it starts with."""
    if resource.has_status and resource.plural not in _KEEPS_STATUS:
        obj.pop("status", None)
    if resource is PODS:
        spec = obj.setdefault("spec", {})
        _default_pod(spec)
        obj["status"] = {"phase": "Pending"}
    elif resource is SERVICES:
        _default_service(obj.setdefault("spec", {}))
    elif resource is NAMESPACES:
        name = obj["metadata"].get("name", "")
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    elif resource is NODES:
        obj.setdefault("spec", {})  # every Node of a cluster has one, and clients count on it
    elif resource is PVCS:
        obj["status"] = {"phase": "Pending"}
    elif resource is PVS:
        _default_volume(obj.setdefault("spec", {}))
        obj["status"] = {"phase": "Pending"}
        finalizers = obj["metadata"].setdefault("finalizers", [])
        if IN_USE_FINALIZER not in finalizers:
            finalizers.append(IN_USE_FINALIZER)
    elif resource is SECRETS:
        obj.setdefault("type", "Opaque")


def _default_volume(spec: Obj) -> None:
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")


def _default_pod(spec: Obj) -> None:
    """Fill in what Kubernetes fills in (pkg/apis/core/v1/defaults.go)."""
    for field, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
        ("enableServiceLinks", True),
    ):
        spec.setdefault(field, value)
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        image = str(container.get("image") or "")
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        latest = "@" not in image and tag in ("", "latest")
        for field, value in (
            ("resources", {}),
            ("terminationMessagePath", "/dev/termination-log"),
            ("terminationMessagePolicy", "File"),
            ("imagePullPolicy", "Always" if latest else "IfNotPresent"),
        ):
            container.setdefault(field, value)
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _default_service(spec: Obj) -> None:
    """Fill in defaults; without a cluster's network no Service has an address, so each is headless.

    A port of the node has its number all the same, because clients read it of every Service that is to have one.
    """
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName":
        spec.setdefault("clusterIP", "None")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
        if spec["type"] in ("NodePort", "LoadBalancer"):
            port.setdefault("nodePort", secrets.choice(NODE_PORTS))


def on_update(resource: Resource, new: Obj, old: Obj) -> None:
    """Keep what the server has chosen for an object, where a client writes the object without it."""
    if resource is NODES:
        new.setdefault("spec", {})
    if resource is not SERVICES:
        return
    spec, chosen = new.setdefault("spec", {}), old.get("spec") or {}
    spec.setdefault("type", "ClusterIP")
    if "clusterIP" in chosen and spec["type"] != "ExternalName":
        spec.setdefault("clusterIP", chosen["clusterIP"])
    numbers = {port.get("port"): port["nodePort"] for port in chosen.get("ports") or [] if "nodePort" in port}
    if spec["type"] in ("NodePort", "LoadBalancer"):
        for port in spec.get("ports") or []:
            if port.get("port") in numbers:
                port.setdefault("nodePort", numbers[port["port"]])
    _default_service(spec)


def on_write(resource: Resource, obj: Obj) -> list[Problem]:
    """Convert and check what a kind wants converted and checked on each write."""
    if resource is SECRETS:
        return _secret(obj)
    if resource.plural == "configmaps" and not resource.group:
        return _text_map(obj, "data")
    if resource is EVENTS:
        return _event(obj)
    return []


def _text_map(obj: Obj, field: str) -> list[Problem]:
    data = obj.get(field)
    if data is None:
        obj.pop(field, None)
        return []
    if not isinstance(data, dict):
        return [Problem(field, f"must be a map of strings, not {type(data).__name__}")]
    return [
        Problem(f"{field}[{key}]", f"must be a string, not {type(value).__name__}")
        for key, value in data.items()
        if not isinstance(value, str)
    ]


def _secret(obj: Obj) -> list[Problem]:
    problems = _text_map(obj, "stringData") + _text_map(obj, "data")
    if problems:
        return problems
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        data.update({key: base64.b64encode(value.encode()).decode() for key, value in plain.items()})
    for key, value in obj.get("data", {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            problems.append(Problem(f"data[{key}]", "must be base64; give plain text in stringData"))
    return problems


def _event(obj: Obj) -> list[Problem]:
    involved = obj.get("involvedObject")
    if not isinstance(involved, dict):
        return [Problem("involvedObject", "the object that the event is about is required", "FieldValueRequired")]
    namespace = involved.get("namespace") or "default"
    if namespace != obj["metadata"].get("namespace"):
        return [Problem("involvedObject.namespace", "does not match event.namespace")]
    return []
