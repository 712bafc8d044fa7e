"""The memory that a launcher Pod asks for: the guest's, the hypervisor's, and what the manifest says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.consoles import is_logged
from polyvisor.controllers.cpu_limits import limits_cpus
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


def pod_of(config: Obj, domain: Obj | None = None, *, privileged: bool = False, **settings: Any) -> Obj:
    spec = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}, "cpu": {"cores": 2}, **(domain or {})}}
    vmi = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    driver = FakeDriver("alpha")
    if privileged:
        plan = replace(driver.launcher(Path("/x")), privileged=True)
        driver.launcher = lambda folder: plan  # type: ignore[method-assign]
    placement = Placement(driver, "fast", (), {})
    model = VirtualMachineInstanceSpec.model_validate(spec)
    return dict(build_pod(vmi, model, placement, {"configuration": config}, {}, **settings)["spec"])


@pytest.mark.parametrize("privileged", [False, True])
def test_the_runtime_class_and_the_type_for_selinux_are_the_administrators(privileged: bool) -> None:
    without = pod_of({}, privileged=privileged)
    assert "runtimeClassName" not in without
    assert "seLinuxOptions" not in without.get("securityContext", {})
    config = {"defaultRuntimeClass": "special", "selinuxLauncherType": "virt_launcher.process"}
    pod = pod_of(config, privileged=privileged)
    assert pod["runtimeClassName"] == "special"
    assert pod["securityContext"] == {
        **without.get("securityContext", {}),
        "seLinuxOptions": {"type": "virt_launcher.process"},
    }


@pytest.mark.parametrize(
    ("devices", "logged"),
    [
        ({}, True),
        ({"logSerialConsole": True}, True),
        ({"logSerialConsole": False}, False),
        ({"autoattachSerialConsole": False, "logSerialConsole": True}, False),
    ],
)
def test_a_machines_console_is_logged_unless_it_says_otherwise(devices: Obj, logged: bool) -> None:
    containers = [one["name"] for one in pod_of({}, {"devices": devices})["containers"]]
    assert ("guest-console-log" in containers) is logged
    assert is_logged({"domain": {"devices": devices}}) is logged


def test_what_the_launcher_needs_beside_the_guest_is_multiplied() -> None:
    def memory(config: Obj) -> str:
        return str(pod_of(config)["containers"][0]["resources"]["requests"]["memory"])

    assert memory({}) == "104Mi"
    assert memory({"additionalGuestMemoryOverheadRatio": "1.5"}) == "124Mi"


def test_cpus_are_limited_to_those_of_the_guest_where_a_namespace_wants_it() -> None:
    def cpu(domain: Obj) -> tuple[str | None, str | None]:
        resources = pod_of({}, domain, cpu_limit=True)["containers"][0]["resources"]
        return resources["requests"].get("cpu"), resources.get("limits", {}).get("cpu")

    assert cpu({}) == ("200m", "2")
    assert cpu({"resources": {"limits": {"cpu": "3"}}}) == ("3", "3")


@pytest.mark.parametrize(
    ("selector", "limits", "labels", "limited"),
    [
        (None, {}, {"autocpulimit": "true"}, False),
        ({"matchLabels": {"autocpulimit": "true"}}, {}, {"autocpulimit": "true"}, True),
        ({"matchLabels": {"autocpulimit": "true"}}, {}, {}, False),
        ({"matchLabels": {"autocpulimit": "true"}}, {"cpu": "1"}, {"autocpulimit": "true"}, False),
        ({}, {}, {}, True),
    ],
)
async def test_the_labels_of_the_namespace_decide(selector: Any, limits: Obj, labels: Obj, limited: bool) -> None:
    class Client:
        async def get(self, resource: Any, name: str) -> Obj:
            assert (resource.plural, name) == ("namespaces", "lab")
            return {"metadata": {"name": name, "labels": labels}}

    vmi = {"metadata": {"namespace": "lab"}, "spec": {"domain": {"resources": {"limits": limits}}}}
    config = {} if selector is None else {"autoCPULimitNamespaceLabelSelector": selector}
    assert await limits_cpus(cast(Any, Client()), vmi, config) is limited


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
