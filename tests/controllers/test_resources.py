"""The memory that a launcher Pod asks for: the guest's, the hypervisor's, and what the manifest says of it."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.launcher_pod import _resources
from tests.drivers_for_tests import FakeDriver

OVERHEAD = 40


@pytest.mark.parametrize(
    ("domain", "requested", "limited"),
    [
        ({"memory": {"guest": "64Mi"}}, "104Mi", None),
        ({"memory": {"guest": "64Mi", "reservedOverhead": {"addedOverhead": "10Mi"}}}, "114Mi", None),
        ({"memory": {"guest": "64Mi"}, "resources": {"overcommitGuestOverhead": True}}, "64Mi", None),
        (
            {
                "memory": {"guest": "64Mi"},
                "resources": {"overcommitGuestOverhead": True, "requests": {"memory": "32Mi"}},
            },
            "32Mi",
            None,
        ),
        ({"memory": {"guest": "64Mi"}, "resources": {"limits": {"memory": "96Mi"}}}, "104Mi", "136Mi"),
    ],
)
def test_memory(domain: dict[str, Any], requested: str, limited: str | None) -> None:
    spec = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": {}, **domain}})
    found = _resources(FakeDriver("alpha"), spec, {})
    assert found["requests"]["memory"] == requested
    assert found.get("limits", {}).get("memory") == limited
