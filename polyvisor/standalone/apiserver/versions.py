"""The further versions that a kind is served at.

An object is stored at one version. For KubeVirt's older names the fields are the same at all versions, so only
``apiVersion`` is written anew on the way in and out, as Kubernetes does for a definition without conversion. Events are
stored as the core group has them, and renamed for ``events.k8s.io``, the group of newer recorders
(pkg/apis/events/v1/conversion.go).
"""

from __future__ import annotations

from typing import Any

from polyvisor.api.resources import EVENTS, Resource

from .errors import Obj

EVENTS_GROUP = "events.k8s.io"
EVENTS_VERSION = f"{EVENTS_GROUP}/v1"
"""Stands for the version of an Event that is asked for in the newer group."""
_RENAMED = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""An Event's field in ``events.k8s.io`` -> in the core group; the others have one name in both."""
_NAMED_BACK = {core: new for new, core in _RENAMED.items()}


def served(resource: Resource) -> tuple[str, ...]:
    """Return the versions of a kind, the one that is stored first."""
    return (resource.version, *resource.also_served)


def api_version(resource: Resource, version: str) -> str:
    """Return what objects of a kind say at one of its versions."""
    return f"{resource.group}/{version}" if resource.group else version


def inward(resource: Resource, version: str, body: Any) -> Any:
    """Return what a client sent as it is stored."""
    if not isinstance(body, dict):
        return body
    if resource is EVENTS and version == EVENTS_VERSION:
        body = {_RENAMED.get(name, name): value for name, value in body.items()}
    if body.get("apiVersion") == api_version(resource, version):
        return {**body, "apiVersion": resource.api_version}
    return body


def outward(resource: Resource, version: str, obj: Obj) -> Obj:
    """Return a stored object as a client asked for it."""
    if version == resource.version or obj.get("apiVersion") != resource.api_version:
        return obj
    if resource is EVENTS and version == EVENTS_VERSION:
        obj = {_NAMED_BACK.get(name, name): value for name, value in obj.items()}
    return {**obj, "apiVersion": api_version(resource, version)}
