"""What standalone mode refuses that a cluster does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import VMIS, VMS
from polyvisor.drivers import registry
from polyvisor.standalone.admission import admitter
from polyvisor.standalone.apiserver.store import Store

Obj = dict[str, Any]
VOLUME: Obj = {"name": "account", "serviceAccount": {"serviceAccountName": "worker"}}
SPEC: Obj = {
    "hypervisor": {"driver": "qemu"},
    "domain": {"memory": {"guest": "64Mi"}, "devices": {}},
    "volumes": [{"name": "root", "emptyDisk": {"capacity": "1Mi"}}, VOLUME],
}


@pytest.mark.parametrize("resource", [VMIS, VMS])
async def test_there_are_no_service_accounts(resource: Any, tmp_path: Path) -> None:
    spec = SPEC if resource == VMIS else {"runStrategy": "Halted", "template": {"spec": SPEC}}
    obj = {"apiVersion": "kubevirt.io/v1", "kind": resource.kind, "metadata": {"name": "m", "namespace": "n"}}
    store = Store(tmp_path / "db")
    async with store.opened():
        _, problems, _ = admitter(store, registry())("CREATE", resource, {**obj, "spec": spec}, None)
    path = "spec" if resource == VMIS else "spec.template.spec"
    found = [problem for problem in problems if "serviceAccount" in problem.field]
    assert [problem.field for problem in found] == [f"{path}.volumes[1].serviceAccount"]
    assert "no service accounts in standalone mode" in found[0].message
