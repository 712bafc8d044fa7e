"""What a launcher's container may do: exactly this, unless its driver cannot work without privilege."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.launcher_pod import build_pod
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver
from polyvisor.placement import Placement

DRIVERS = [driver for driver in registry() if not driver.no_image]
SPEC = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}
UNPRIVILEGED = {
    "runAsUser": 107,
    "runAsGroup": 107,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
}


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_the_rights_of_a_launcher(driver: Driver) -> None:
    vmi: dict[str, Any] = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": SPEC}
    placement = Placement(driver, driver.virt_types[0], (), {})
    pod = build_pod(vmi, VirtualMachineInstanceSpec.model_validate(SPEC), placement, {}, {})["spec"]
    compute = pod["containers"][0]
    assert not pod["automountServiceAccountToken"]
    if driver.launcher(Path("/any")).privileged:
        assert compute["securityContext"] == {"privileged": True}
    else:
        assert compute["securityContext"] == UNPRIVILEGED
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_a_guests_service_account_gives_the_launcher_no_token() -> None:
    driver = DRIVERS[0]
    spec = {**SPEC, "volumes": [{"name": "account", "serviceAccount": {"serviceAccountName": "worker"}}]}
    vmi: dict[str, Any] = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    placement = Placement(driver, driver.virt_types[0], (), {})
    pod = build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, {})["spec"]
    assert pod["serviceAccountName"] == "worker"
    assert pod["automountServiceAccountToken"] is False
    mounts = [mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts") or []]
    assert "account" not in mounts


@pytest.mark.parametrize("wanted", [True, False])
def test_a_launcher_asks_for_the_device_of_vsock_only_for_a_machine_that_wants_it(wanted: bool) -> None:
    driver = DRIVERS[0]
    spec = {"domain": {**SPEC["domain"], "devices": {"autoattachVSOCK": wanted}}}
    vmi: dict[str, Any] = {"metadata": {"name": "one", "namespace": "default", "uid": "u"}, "spec": spec}
    placement = Placement(driver, driver.virt_types[0], (), {}, emulated=True)
    pod = build_pod(vmi, VirtualMachineInstanceSpec.model_validate(spec), placement, {}, {})["spec"]
    resources = pod["containers"][0]["resources"]
    found = [resources.get(kind, {}).get("devices.kubevirt.io/vhost-vsock") for kind in ("requests", "limits")]
    assert found == (["1", "1"] if wanted else [None, None])
