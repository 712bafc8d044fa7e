"""What the containers beside a launcher's may use, by default and as the cluster's configuration says."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.api.quantity import parse_quantity
from polyvisor.controllers.attachment_pod import build_attachment
from polyvisor.controllers.launcher_pod import build_pod
from polyvisor.controllers.support_containers import Support, support_resources
from polyvisor.placement import Placement
from tests.drivers_for_tests import FakeDriver

Obj = dict[str, Any]
DOMAIN: Obj = {"devices": {}, "memory": {"guest": "64Mi"}}
DISK: Obj = {"name": "root", "containerDisk": {"image": "a:1"}}
PROMPT = parse_quantity("0.5")
"""CPUs that compile a filter of system calls, which takes 0.22 s of CPU time, within five periods of 0.1 s."""


def pod(config: Obj, **domain: Any) -> Obj:
    spec = {"domain": {**DOMAIN, **domain}, "volumes": [DISK]}
    vmi = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    placement = Placement(FakeDriver("alpha"), "fast", (), {})
    model = VirtualMachineInstanceSpec.model_validate(spec)
    return dict(build_pod(vmi, model, placement, {"configuration": config}, {})["spec"])


def resources(spec: Obj) -> dict[str, Obj]:
    return {one["name"]: one["resources"] for one in [*spec["containers"], *spec.get("initContainers", [])]}


def given(kind: Support, **amounts: Obj) -> Obj:
    return {"supportContainerResources": [{"type": kind.value, "resources": amounts}]}


def test_no_container_is_held_up_while_it_starts() -> None:
    found = resources(pod({}))
    del found["compute"]
    assert set(found) == {"volumeroot", "guest-console-log"}
    for name, one in found.items():
        assert parse_quantity(one["limits"]["cpu"]) >= PROMPT, name
        assert parse_quantity(one["requests"]["cpu"]) <= parse_quantity("0.01"), name


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Support.IMAGE, {"volumeroot"}), (Support.CONSOLE, {"guest-console-log"})],
)
def test_the_configuration_overrides_what_it_names(kind: Support, names: set[str]) -> None:
    found = resources(pod(given(kind, limits={"cpu": "70m"}, requests={"memory": "3M"})))
    for name, one in found.items():
        changed = (one.get("limits", {}).get("cpu"), one["requests"]["memory"]) == ("70m", "3M")
        assert changed is (name in names), name
    for name in names:
        assert found[name]["limits"]["memory"] == "40M"
        assert found[name]["requests"]["cpu"] == "1m"


def test_a_pod_of_later_claims_heeds_the_configuration() -> None:
    launcher = {
        "metadata": {"name": "l", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": "n1", "containers": [{"name": "compute", "image": "a"}]},
    }
    (before,) = build_attachment(launcher, {"a": "c"}, {}, {})["spec"]["containers"]
    assert parse_quantity(before["resources"]["limits"]["cpu"]) >= PROMPT
    config = given(Support.ATTACHMENT, limits={"cpu": "70m"})
    (container,) = build_attachment(launcher, {"a": "c"}, {}, config)["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "70m", "memory": "40M"}


def test_little_is_asked_for_beside_cpus_that_a_machine_has_to_itself() -> None:
    found = resources(pod({}, cpu={"cores": 1, "dedicatedCpuPlacement": True}))
    for one in found.values():
        assert one["requests"]["cpu"] == one["limits"]["cpu"]
    lasting = sum(parse_quantity(found[name]["requests"]["cpu"]) for name in ("volumeroot", "guest-console-log"))
    assert lasting <= parse_quantity("0.2")
    once = support_resources(Support.IMAGE, {}, guaranteed=True, lasting=False)
    assert parse_quantity(once["limits"]["cpu"]) >= PROMPT, "an init container is over before the others start"


def test_the_configuration_counts_there_too() -> None:
    found = support_resources(Support.CONSOLE, given(Support.CONSOLE, limits={"cpu": "30m"}), guaranteed=True)
    assert found["requests"]["cpu"] == found["limits"]["cpu"] == "30m"
    assert found["requests"]["memory"] == found["limits"]["memory"] == "40M"


def test_without_a_serial_console_there_is_no_log_of_it() -> None:
    found = resources(pod({}, devices={"autoattachSerialConsole": False}))
    assert set(found) == {"compute", "volumeroot"}
