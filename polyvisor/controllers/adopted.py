"""What a VirtualMachine whose domain was on its host before it hands on to its instance. Pure."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api import adopted
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION, UNMANAGE_ANNOTATION
from polyvisor.api.reading import nested

if TYPE_CHECKING:
    from polyvisor.api import Obj


def annotations_of_start(vm: Obj, given: dict[str, str]) -> dict[str, str]:
    """Return the annotations of a new instance: that the template is as it was adopted is said only if it is."""
    if adopted.unchanged(vm["spec"]["template"]):
        return given
    return {name: value for name, value in given.items() if name != adopted.ADOPTED_SPEC_ANNOTATION}


def is_there(vmi: Obj) -> bool:
    """Whether an instance's domain is on its endpoint's host as the instance describes it."""
    annotations = vmi["metadata"].get("annotations") or {}
    return ADOPT_ANNOTATION in annotations and adopted.ADOPTED_SPEC_ANNOTATION in annotations


def let_go(vm: Obj, vmi: Obj) -> Obj | None:
    """Return the instance of a VirtualMachine that is being deleted, with the word that its domain runs on.

    None if it ends with its VirtualMachine, or has the word already.
    """
    annotations = vmi["metadata"].get("annotations") or {}
    endpoint = nested(vmi, "spec", "hypervisor").get("endpoint")
    if not adopted.retained(vm) or not endpoint or UNMANAGE_ANNOTATION in annotations:
        return None
    changed = copy.deepcopy(vmi)
    changed["metadata"]["annotations"] = {**annotations, UNMANAGE_ANNOTATION: "true"}
    return changed
