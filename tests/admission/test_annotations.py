from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import VMIS, VMS
from polyvisor.drivers import registry

SPEC: dict[str, Any] = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}
CONTEXT = AdmissionContext({}, registry())


@pytest.mark.parametrize("name", ["hooks.kubevirt.io/hookSidecars", "kubevirt.io/ignitiondata"])
def test_annotations_that_nothing_reads_are_refused(name: str) -> None:
    metadata = {"name": "m", "namespace": "default"}
    marked = {**metadata, "annotations": {name: "x", "example.org/mine": "y"}}
    head = {"apiVersion": "kubevirt.io/v1"}
    vmi = {**head, "kind": "VirtualMachineInstance", "metadata": marked, "spec": SPEC}
    fields = [problem.field for problem in admit("CREATE", VMIS, vmi, None, CONTEXT).problems]
    assert fields == [f"metadata.annotations[{name}]"]

    template = {"metadata": {"annotations": marked["annotations"]}, "spec": SPEC}
    spec = {"runStrategy": "Halted", "template": template}
    vm = {**head, "kind": "VirtualMachine", "metadata": metadata, "spec": spec}
    fields = [problem.field for problem in admit("CREATE", VMS, vm, None, CONTEXT).problems]
    assert fields == [f"spec.template.metadata.annotations[{name}]"]
