from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import CLONES
from polyvisor.cli.create_clone import clone
from polyvisor.cli.errors import CliError
from polyvisor.drivers import DriverRegistry

Obj = dict[str, Any]


def made(**given: Any) -> Obj:
    return clone(**{"filters": {}, "template_filters": {}, "source_name": "m", **given})


def test_a_clone_with_everything() -> None:
    found = made(
        name="c",
        source_type="snapshot",
        target_name="n",
        filters={"labelFilters": ["*"], "annotationFilters": ()},
        template_filters={"labelFilters": ["!a"]},
        mac_addresses=["default:02:00:00:00:00:01"],
        serial="s",
    )
    assert found["spec"] == {
        "source": {"apiGroup": "snapshot.kubevirt.io", "kind": "VirtualMachineSnapshot", "name": "m"},
        "target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "n"},
        "labelFilters": ["*"],
        "template": {"labelFilters": ["!a"]},
        "newMacAddresses": {"default": "02:00:00:00:00:01"},
        "newSMBiosSerial": "s",
    }
    found["metadata"]["namespace"] = "default"
    assert admit("CREATE", CLONES, found, None, AdmissionContext({}, DriverRegistry([]))).problems == []


def test_a_clone_with_the_least() -> None:
    found = made()
    assert found["metadata"]["name"].startswith("clone-")
    assert found["spec"] == {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "m"}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"source_name": ""}, "source-name"),
        ({"source_type": "disk"}, "accepted: vm, snapshot"),
        ({"target_type": "snapshot"}, "accepted: vm"),
        ({"mac_addresses": ["default"]}, "INTERFACE:ADDRESS"),
        ({"name": "Not A Name"}, "Not A Name"),
    ],
)
def test_wrong_flags_are_refused(given: Obj, said: str) -> None:
    with pytest.raises(CliError, match=said):
        made(**given)
