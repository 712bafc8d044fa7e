"""Instance types and preferences: what a VirtualMachine becomes when what it refers to is written out.

An instance type gives a machine its size, and nothing of that can stand in the machine as well: a field that does is
refused with its path. A preference only fills in what is still open. Everything here is a function of the machine and
of the objects that it refers to, so that admission, the controller and ``expand-spec`` come to the same result.
"""

from __future__ import annotations

from polyvisor.admission.instancetypes.expand import Expansion, expand, expanded_machine
from polyvisor.admission.instancetypes.infer import infer
from polyvisor.admission.instancetypes.older import is_current, kept_object
from polyvisor.admission.instancetypes.preferences import fill_templates
from polyvisor.admission.instancetypes.sources import FIELDS, Source, find, kind_of, revision_of

__all__ = [
    "FIELDS",
    "Expansion",
    "Source",
    "expand",
    "expanded_machine",
    "fill_templates",
    "find",
    "infer",
    "is_current",
    "kept_object",
    "kind_of",
    "revision_of",
]
