"""The typed objects of KubeVirt's API and of the parts of Kubernetes that Polyvisor touches.

Everything public is importable from here; it is loaded when first asked for, so that a command that needs three
constants does not pay for two hundred models.
"""

from __future__ import annotations

from polyvisor.api.base import Model, Obj, to_obj
from polyvisor.api.problems import Problem, nearest

__all__ = ["Model", "Obj", "Problem", "nearest", "to_obj"]
