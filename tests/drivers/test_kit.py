"""Every driver that is installed goes through the kit; a new one is picked up by itself."""

from __future__ import annotations

from polyvisor.drivers import registry
from polyvisor.testing import DriverKit


def _kit(name: str) -> type[DriverKit]:
    return type(f"Test_{name}", (DriverKit,), {"driver": registry().get(name), "__module__": __name__})


globals().update({f"Test_{name}": _kit(name) for name in registry().names()})


def test_no_driver_is_left_out() -> None:
    assert registry().problems == ()
