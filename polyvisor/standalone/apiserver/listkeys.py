"""Which lists of an object are maps or sets in disguise, and what identifies their items.

Two tables, since Kubernetes has two answers: ``map_keys`` is for server-side apply (``x-kubernetes-list-map-keys``),
``patch_keys`` for strategic merge (``patchMergeKey``); they differ for a container's ports. A path holds field names
only, without the items between. A list that is in no table is one value: replaced and owned as a whole.
"""

from __future__ import annotations

from polyvisor.api.resources import Resource

MapKeys = tuple[str, ...] | None
"""Key fields of a list's items; () for a set of plain values; None for a list that is one value."""
PatchKeys = MapKeys

_EVERYWHERE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("metadata", "ownerReferences"): ("uid",),
    ("metadata", "finalizers"): (),
}
_CONTAINER: dict[str, tuple[str, ...]] = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}
_CORE: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {
    "pods": {
        **{
            ("spec", place, field): keys
            for place in ("containers", "initContainers", "ephemeralContainers")
            for field, keys in _CONTAINER.items()
        },
        ("spec", "containers"): ("name",),
        ("spec", "initContainers"): ("name",),
        ("spec", "ephemeralContainers"): ("name",),
        ("spec", "volumes"): ("name",),
        ("spec", "imagePullSecrets"): ("name",),
        ("spec", "hostAliases"): ("ip",),
        ("spec", "schedulingGates"): ("name",),
        ("spec", "resourceClaims"): ("name",),
        ("spec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
        ("status", "conditions"): ("type",),
        ("status", "podIPs"): ("ip",),
        ("status", "hostIPs"): ("ip",),
    },
    "nodes": {("status", "conditions"): ("type",), ("status", "addresses"): ("type",), ("spec", "podCIDRs"): ()},
    "serviceaccounts": {("secrets",): ("name",), ("imagePullSecrets",): ("name",)},
    "services": {("spec", "ports"): ("port", "protocol"), ("status", "conditions"): ("type",)},
    "namespaces": {("status", "conditions"): ("type",)},
    "persistentvolumeclaims": {("status", "conditions"): ("type",)},
    "customresourcedefinitions": {("status", "conditions"): ("type",)},
}
_DEFAULTS: dict[str, str] = {"protocol": "TCP"}
"""Values of key fields that an item may leave out."""


def map_keys(resource: Resource, path: tuple[str, ...]) -> MapKeys:
    """Return the keys that server-side apply goes by."""
    if path in _EVERYWHERE:
        return _EVERYWHERE[path]
    return _CORE.get(resource.plural, {}).get(path)


def key_default(field: str) -> str | None:
    """Return the value that a missing key field stands for."""
    return _DEFAULTS.get(field)


def patch_keys(resource: Resource, path: tuple[str, ...]) -> PatchKeys:
    """Return the key that strategic merge goes by."""
    if path == ("status", "addresses"):
        return ("type",)
    keys = map_keys(resource, path)
    return keys[:1] if keys else keys
