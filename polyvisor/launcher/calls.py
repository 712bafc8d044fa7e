"""Functions of libvirt's Python that a plan names; loaded when they are called, since few launchers need one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from polyvisor.launcher.machine import Refused


def call_of(name: str) -> Callable[..., Any]:
    """Return the function ``module.name``; refuse what is not libvirt's."""
    module, _, function = name.partition(".")
    if not module.startswith("libvirt"):
        raise Refused("bad-plan", f"{name!r} is not a function of libvirt's")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
