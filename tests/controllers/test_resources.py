"""The memory that a launcher Pod asks for: the guest's, the hypervisor's, and what the manifest says of it."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.launcher_pod import build_pod
from polyvisor.controllers.launcher_resources import guaranteed, resources_of
from polyvisor.placement import Placement
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
    ("cpu", "resources", "cpus", "memory"),
    [
        ({"cores": 2}, {}, "2", "104Mi"),
        ({"cores": 2, "isolateEmulatorThread": True}, {}, "3", "104Mi"),
        ({}, {"limits": {"cpu": "2", "memory": "96Mi"}}, "2", "136Mi"),
        ({}, {"requests": {"cpu": "2", "memory": "96Mi"}, "overcommitGuestOverhead": True}, "2", "136Mi"),
    ],
)
def test_whole_cpus_are_asked_for_with_all_that_is_allowed(
    cpu: dict[str, Any], resources: dict[str, Any], cpus: str, memory: str
) -> None:
    domain = {"cpu": {"dedicatedCpuPlacement": True, **cpu}, "resources": resources, "memory": {"guest": "64Mi"}}
    spec = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": {}, **domain}})
    found = resources_of(FakeDriver("alpha"), spec, {})
    assert found["requests"] == found["limits"] == {"cpu": cpus, "memory": memory}
    assert guaranteed(found)


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


def test_a_pod_with_cpus_of_its_own_is_guaranteed_and_goes_where_they_are_given() -> None:
    spec = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}, "cpu": {"cores": 2, "dedicatedCpuPlacement": True}}}
    vmi = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    placement = Placement(FakeDriver("alpha"), "fast", (), {})
    pod = build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, {})["spec"]
    assert pod["nodeSelector"]["cpumanager"] == "true"
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    assert len(containers) > 1
    for container in containers:
        asked, allowed = container["resources"]["requests"], container["resources"]["limits"]
        assert {name: asked[name] for name in ("cpu", "memory")} == {name: allowed[name] for name in ("cpu", "memory")}
    assert containers[0]["resources"]["requests"]["cpu"] == "2"
