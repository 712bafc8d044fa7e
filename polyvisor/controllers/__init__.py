"""The controllers: each brings what is in line with what is wanted, again and again, from the present state alone.

They are loaded when first asked for: a replica that stands by has no use for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyvisor.controllers.run import run_controllers

__all__ = ["run_controllers"]


def __getattr__(name: str) -> Any:
    if name != "run_controllers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from polyvisor.controllers.run import run_controllers

    return run_controllers
