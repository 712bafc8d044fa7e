"""The memory that a launcher Pod asks for: the guest's, the hypervisor's, and what the manifest says of it."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.launcher_resources import resources_of
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
    found = resources_of(FakeDriver("alpha"), spec, {})
    assert found["requests"]["memory"] == requested
    assert found.get("limits", {}).get("memory") == limited


@pytest.mark.parametrize(
    ("domain", "pages", "requested", "limited"),
    [
        ({"memory": {"guest": "64Mi", "hugepages": {"pageSize": "2Mi"}}}, "64Mi", "40Mi", None),
        (
            {
                "memory": {"guest": "64Mi", "hugepages": {"pageSize": "2Mi"}},
                "resources": {"requests": {"memory": "80Mi"}, "limits": {"memory": "80Mi"}},
            },
            "64Mi",
            "56Mi",
            "56Mi",
        ),
        (
            {
                "memory": {"hugepages": {"pageSize": "1Gi"}},
                "resources": {"requests": {"memory": "2Gi"}, "overcommitGuestOverhead": True},
            },
            "2Gi",
            "40Mi",
            None,
        ),
    ],
)
def test_memory_in_huge_pages_is_asked_for_as_such(
    domain: dict[str, Any], pages: str, requested: str, limited: str | None
) -> None:
    spec = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": {}, **domain}})
    found = resources_of(FakeDriver("alpha"), spec, {})
    name = f"hugepages-{domain['memory']['hugepages']['pageSize']}"
    assert found["requests"][name] == found["limits"][name] == pages
    assert found["requests"]["memory"] == requested
    assert found["limits"].get("memory") == limited
