"""What is off in a cluster until an administrator switches it on."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import VMIS, VMS
from polyvisor.drivers import registry

Obj = dict[str, Any]
DISK: Obj = {"name": "d", "hostDisk": {"path": "d.img", "type": "DiskOrCreate", "capacity": "1Gi"}}


def machine(resource: Any, *volumes: Obj) -> Obj:
    devices = {"disks": [{"name": volume["name"], "disk": {}} for volume in volumes]}
    spec: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": devices}, "volumes": list(volumes)}
    wrapped = spec if resource == VMIS else {"runStrategy": "Halted", "template": {"spec": spec}}
    metadata = {"name": "m", "namespace": "mine"}
    return {"apiVersion": "kubevirt.io/v1", "kind": resource.kind, "metadata": metadata, "spec": wrapped}


def refused(resource: Any, obj: Obj, *gates: str, old: Obj | None = None, cluster: bool = True) -> list[str]:
    developer = {"useEmulation": True, "featureGates": list(gates)}
    context = AdmissionContext({"developerConfiguration": developer}, registry(), cluster=cluster)
    found = admit("UPDATE" if old else "CREATE", resource, obj, old, context)
    return [problem.field for problem in found.problems if "feature gate" in problem.message]


@pytest.mark.parametrize(("resource", "path"), [(VMIS, "spec"), (VMS, "spec.template.spec")])
def test_metrics_of_the_node_are_off(resource: Any, path: str) -> None:
    obj = machine(resource, {"name": "m", "downwardMetrics": {}})
    spec = obj["spec"] if resource == VMIS else obj["spec"]["template"]["spec"]
    spec["domain"]["devices"]["downwardMetrics"] = {}
    both = {f"{path}.volumes[0].downwardMetrics", f"{path}.domain.devices.downwardMetrics"}
    assert set(refused(resource, obj)) == set(refused(resource, obj, "HostDisk")) == both
    assert refused(resource, obj, "DownwardMetrics") == []
    assert refused(resource, obj, cluster=False) == []
    assert refused(resource, obj, old=obj) == []


@pytest.mark.parametrize(("resource", "path"), [(VMIS, "spec"), (VMS, "spec.template.spec")])
def test_host_disks_are_off(resource: Any, path: str) -> None:
    obj = machine(resource, DISK)
    assert refused(resource, obj) == [f"{path}.volumes[0].hostDisk"]
    assert refused(resource, obj, "Snapshot") == [f"{path}.volumes[0].hostDisk"]
    assert refused(resource, obj, "HostDisk") == []
    assert refused(resource, obj, cluster=False) == []
    assert refused(resource, machine(resource)) == []
    assert refused(resource, obj, old=obj) == []
    assert refused(resource, obj, old=machine(resource)) == [f"{path}.volumes[0].hostDisk"]
