"""The plan for a libvirt daemon of a launcher's own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from polyvisor.drivers.ch import plan as ch
from polyvisor.drivers.lxc import plan as lxc


@pytest.mark.parametrize("driver", [lxc, ch], ids=["lxc", "ch"])
def test_a_plan_made_where_libvirt_is_not_installed_fits_the_launchers_image(
    monkeypatch: pytest.MonkeyPatch, driver: ModuleType
) -> None:
    """virt-handler's image has no libvirt, and makes the plans of launchers whose images have it."""
    monkeypatch.setattr(driver, "find_module", lambda *_: None)
    plan = driver.launcher_plan(Path("/run/one"))
    target = Path(plan.links[f"modules/{driver.MODULE}"])
    assert target.parent.match("/usr/lib/*-linux-gnu/libvirt/connection-driver")
    assert plan.environment["LIBVIRT_DRIVER_DIR"] == "/run/one/modules"
