"""What ControllerRevisions of older releases hold, read as the present version of the API.

Three forms are met with: the present one; an object of v1alpha1 or v1alpha2, whose fields are all in v1beta1 as well;
and the oldest, of v1alpha1, which is a version and the spec alone, as JSON in base64.
"""

from __future__ import annotations

import base64
import binascii
import json

from polyvisor.admission.values import mapping, text
from polyvisor.api import Obj
from polyvisor.api.names import revision_label
from polyvisor.api.resources import Resource

OLDER = ("v1alpha1", "v1alpha2")


def kept_object(revision: Obj, resource: Resource, name: str) -> Obj | None:
    """Return the object of a kind that a ControllerRevision holds, None if it holds something else.

    ``name`` is what the machine calls it, for the form that has no name.
    """
    data = mapping(revision, "data")
    group, _, version = text(data.get("apiVersion")).partition("/")
    if group != resource.group or version not in (resource.version, *OLDER):
        return None
    now = {"apiVersion": resource.api_version, "kind": resource.kind}
    if set(data) == {"apiVersion", "spec"} and isinstance(data["spec"], str):
        spec = _decoded(data["spec"])
        return None if spec is None else {**now, "metadata": {"name": name}, "spec": spec}
    if data.get("kind") != resource.kind or not mapping(data, "metadata").get("name"):
        return None
    return {**data, **now}


def is_current(revision: Obj, resource: Resource) -> bool:
    """Whether a ControllerRevision is marked as one of the present version, as KubeVirt's are from v1beta1 on."""
    return bool(mapping(revision, "metadata", "labels").get(revision_label("version")) == resource.version)


def _decoded(written: str) -> Obj | None:
    try:
        spec = json.loads(base64.b64decode(written, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return spec if isinstance(spec, dict) else None
