"""The typed objects of KubeVirt's API and of the parts of Kubernetes that Polyvisor touches.

Everything public is importable from here. A model's module is loaded when the model is first asked for, so that a
command that needs three constants does not pay for three hundred classes.
"""

# ruff: noqa: F403 - the star imports are for type checkers alone

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyvisor.api._index import MODULES
from polyvisor.api.problems import Problem, nearest

if TYPE_CHECKING:
    from polyvisor.api.base import Format, Model, Obj, OneOf, Quantity, to_obj
    from polyvisor.api.checking import check
    from polyvisor.api.core.cluster import *
    from polyvisor.api.core.meta import *
    from polyvisor.api.core.node import *
    from polyvisor.api.core.pod import *
    from polyvisor.api.core.scheduling import *
    from polyvisor.api.core.storage import *
    from polyvisor.api.kubevirt.access import *
    from polyvisor.api.kubevirt.clone import *
    from polyvisor.api.kubevirt.cluster import *
    from polyvisor.api.kubevirt.compute import *
    from polyvisor.api.kubevirt.datavolume import *
    from polyvisor.api.kubevirt.devices import *
    from polyvisor.api.kubevirt.endpoint import *
    from polyvisor.api.kubevirt.firmware import *
    from polyvisor.api.kubevirt.hypervisor import *
    from polyvisor.api.kubevirt.importer import *
    from polyvisor.api.kubevirt.instance import *
    from polyvisor.api.kubevirt.instancetype import *
    from polyvisor.api.kubevirt.machine import *
    from polyvisor.api.kubevirt.migration import *
    from polyvisor.api.kubevirt.network import *
    from polyvisor.api.kubevirt.pool import *
    from polyvisor.api.kubevirt.replicaset import *
    from polyvisor.api.kubevirt.settings import *
    from polyvisor.api.kubevirt.snapshot import *
    from polyvisor.api.kubevirt.storage import *

__all__ = ["Format", "Model", "Obj", "OneOf", "Problem", "Quantity", "check", "nearest", "to_obj"]

_HOMES = {name: module for module, names in MODULES.items() for name in names}
_HOMES |= dict.fromkeys(("Format", "Model", "Obj", "OneOf", "Quantity", "to_obj"), "polyvisor.api.base")
_HOMES["check"] = "polyvisor.api.checking"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
