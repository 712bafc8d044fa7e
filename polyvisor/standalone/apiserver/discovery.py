"""What is served: discovery documents (aggregated and legacy), the version, and the kinds as CRDs.

All of it follows from the resource table; nothing here is stored.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import replace

from polyvisor.api.resources import EVENTS, Resource

from . import scale
from .errors import Obj
from .kinds import SERVED, why_read_only
from .versions import EVENTS_GROUP, served

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_REVIEWS = {
    "authentication.k8s.io": {"selfsubjectreviews": "SelfSubjectReview"},
    "authorization.k8s.io": {
        "selfsubjectaccessreviews": "SelfSubjectAccessReview",
        "selfsubjectrulesreviews": "SelfSubjectRulesReview",
    },
}
"""Group -> what can only be created there, and is answered without being stored: plural -> kind, at version v1."""
GIT_VERSION = "v1.37.0+polyvisor"


def version() -> Obj:
    """Return what ``/version`` says: the Kubernetes release whose API this follows."""
    return {
        "major": "1",
        "minor": "37",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": f"CPython {platform.python_version()}",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def verbs(resource: Resource) -> list[str]:
    """Return what may be done with a kind."""
    return ["get", "list", "watch"] if why_read_only(resource) else _VERBS


def group_versions() -> dict[str, list[str]]:
    """Return the versions of each group, in the order of the table; the core group is empty text."""
    found: dict[str, list[str]] = {"": ["v1"]}
    stored = [(one.group, one.version) for one in SERVED]
    for name, version_name in [*stored, *((one.group, older) for one in SERVED for older in one.also_served)]:
        if version_name not in (versions := found.setdefault(name, [])):
            versions.append(version_name)
    for name in (EVENTS_GROUP, *_REVIEWS):
        found.setdefault(name, ["v1"])
    return found


def of(group: str, version_name: str) -> list[Resource]:
    """Return the kinds of a group version, as they are at that version."""
    found = stored_of(group, version_name)
    if group == EVENTS_GROUP:
        return [replace(one, group=group) for one in found]
    return [one if one.version == version_name else replace(one, version=version_name) for one in found]


def stored_of(group: str, version_name: str) -> list[Resource]:
    """Return the kinds of a group version, as they are stored."""
    if (group, version_name) == (EVENTS_GROUP, "v1"):
        return [EVENTS]
    return [one for one in SERVED if one.group == group and version_name in served(one)]


def api_versions() -> Obj:
    """Return ``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(name: str) -> Obj:
    """Return one ``APIGroup``."""
    versions = [{"groupVersion": f"{name}/{one}", "version": one} for one in group_versions()[name]]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def groups() -> Obj:
    """Return ``/apis``."""
    listed = []
    for name in group_versions():
        if name:
            one = group(name)
            listed.append({key: one[key] for key in ("name", "versions", "preferredVersion")})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def _subresource_kind(resource: Resource, name: str) -> tuple[Obj, list[str]]:
    """Return what a subresource is of, and what may be done with it."""
    if name == "binding":
        return _gvk(resource.group, resource.version, "Binding"), ["create"]
    if name == "scale":
        return _gvk(scale.GROUP, scale.VERSION, scale.KIND), ["get", "patch", "update"]
    if name == "eviction":
        return _gvk("policy", "v1", "Eviction"), ["create"]
    if name == "log":
        return _gvk(resource.group, resource.version, resource.kind), ["get"]
    does = ["update"] if name == "finalize" else ["get", "patch", "update"]
    return _gvk(resource.group, resource.version, resource.kind), does


def served_subresources(resource: Resource) -> list[str]:
    """Return those of a kind's subresources that are answered here."""
    return [] if why_read_only(resource) else list(resource.subresources)


def resource_list(group_name: str, version_name: str) -> Obj:
    """Return the legacy ``APIResourceList`` of a group version."""
    listed: list[Obj] = []
    for one in of(group_name, version_name):
        listed.append(
            {
                "name": one.plural,
                "singularName": one.singular,
                "namespaced": one.namespaced,
                "kind": one.kind,
                "verbs": verbs(one),
                **({"shortNames": list(one.short_names)} if one.short_names else {}),
                **({"categories": list(one.categories)} if one.categories else {}),
            }
        )
        for name in served_subresources(one):
            gvk, does = _subresource_kind(one, name)
            elsewhere = {key: gvk[key] for key in ("group", "version") if gvk["group"] != one.group}
            listed.append(
                {
                    "name": f"{one.plural}/{name}",
                    "singularName": "",
                    "namespaced": one.namespaced,
                    **elsewhere,
                    "kind": gvk["kind"],
                    "verbs": does,
                }
            )
    listed += [_review(plural, kind) for plural, kind in _REVIEWS.get(group_name, {}).items()]
    group_version = f"{group_name}/{version_name}" if group_name else version_name
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _review(plural: str, kind: str) -> Obj:
    return {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}


def aggregated(names: Iterable[str]) -> Obj:
    """Return ``APIGroupDiscoveryList`` for some groups."""
    items = []
    for name in names:
        versions = []
        for version_name in group_versions()[name]:
            listed = [_aggregated(one) for one in of(name, version_name)]
            listed += [
                {
                    "resource": plural,
                    "responseKind": _gvk(name, version_name, kind),
                    "scope": "Cluster",
                    "singularResource": kind.lower(),
                    "verbs": ["create"],
                }
                for plural, kind in _REVIEWS.get(name, {}).items()
            ]
            versions.append({"version": version_name, "freshness": "Current", "resources": listed})
        items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _gvk(group_name: str, version_name: str, kind: str) -> Obj:
    return {"group": group_name, "version": version_name, "kind": kind}


def _aggregated(resource: Resource) -> Obj:
    subresources = []
    for name in served_subresources(resource):
        gvk, does = _subresource_kind(resource, name)
        subresources.append({"subresource": name, "responseKind": gvk, "verbs": does})
    found: Obj = {
        "resource": resource.plural,
        "responseKind": _gvk(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if subresources:
        found["subresources"] = subresources
    return found
