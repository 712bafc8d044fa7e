"""Machines whose domain was on its host before them: what their VirtualMachine says about that.

The domain's definition on the host has more than a spec can express, so it is begun again as it is, as long as the
template is what it was at the adoption. A digest in the template tells.
"""

from __future__ import annotations

import hashlib
import json

from polyvisor.api.base import Obj
from polyvisor.api.reading import annotations_of

DELETION_POLICY_ANNOTATION = "hypervisor.kubevirt.io/deletion-policy"
"""On a VirtualMachine: what happens to its domain when the object is deleted."""
RETAIN = "Retain"
"""The domain is let go of and runs on."""
ADOPTED_SPEC_ANNOTATION = "hypervisor.kubevirt.io/adopted-spec"
"""In a template: the digest that its spec had when the domain was adopted. On an instance: that it still had it."""


def digest(template: Obj) -> str:
    """Return the digest of a template's spec."""
    text = json.dumps(template.get("spec") or {}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def unchanged(template: Obj) -> bool:
    """Whether a template is that of an adopted domain and has not been changed since."""
    given = annotations_of(template).get(ADOPTED_SPEC_ANNOTATION)
    return given is not None and given == digest(template)


def retained(vm: Obj) -> bool:
    """Whether the domain of a VirtualMachine outlives it."""
    return annotations_of(vm).get(DELETION_POLICY_ANNOTATION) == RETAIN
