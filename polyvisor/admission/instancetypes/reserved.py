"""Annotations that no instance type or preference gives: they take rights, which are asked for of a machine's writer.

They are refused when an instance type is written, and left out of a ControllerRevision, which admission did not see.
"""

from __future__ import annotations

from polyvisor.admission.pod_networks import DEFAULT_NETWORK_ANNOTATION
from polyvisor.admission.values import Findings, mapping
from polyvisor.api import Obj
from polyvisor.api.names import HYPERVISOR_PREFIX, NETWORKS_ANNOTATION


def given(spec: Obj) -> Obj:
    """Return the annotations that an instance type or a preference may give a machine."""
    return {name: value for name, value in mapping(spec, "annotations").items() if not _reserved(name)}


def refuse(spec: Obj, found: Findings) -> None:
    """Refuse the others."""
    for name in mapping(spec, "annotations"):
        if _reserved(name):
            message = "takes rights of the machine's writer, so it has to be written in the machine's own template"
            found.add(f"spec.annotations[{name}]", message, "FieldValueForbidden")


def _reserved(name: str) -> bool:
    return name.startswith(HYPERVISOR_PREFIX) or name in (NETWORKS_ANNOTATION, DEFAULT_NETWORK_ANNOTATION)
