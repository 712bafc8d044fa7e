"""The further versions that a kind is served at: KubeVirt's older names for what is the same.

An object is stored at one version, and its fields are the same at all of them, so that only ``apiVersion`` is written
anew on the way in and out, as Kubernetes does for a definition without conversion.
"""

from __future__ import annotations

from typing import Any

from polyvisor.api.resources import Resource

from .errors import Obj


def served(resource: Resource) -> tuple[str, ...]:
    """Return the versions of a kind, the one that is stored first."""
    return (resource.version, *resource.also_served)


def api_version(resource: Resource, version: str) -> str:
    """Return what objects of a kind say at one of its versions."""
    return f"{resource.group}/{version}" if resource.group else version


def inward(resource: Resource, version: str, body: Any) -> Any:
    """Return what a client sent as it is stored."""
    if isinstance(body, dict) and body.get("apiVersion") == api_version(resource, version):
        return {**body, "apiVersion": resource.api_version}
    return body


def outward(resource: Resource, version: str, obj: Obj) -> Obj:
    """Return a stored object as a client asked for it."""
    if version == resource.version or obj.get("apiVersion") != resource.api_version:
        return obj
    return {**obj, "apiVersion": api_version(resource, version)}
