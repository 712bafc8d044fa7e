"""``create instancetype`` and ``create preference``: manifests from virtctl's flags, which admission understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import by_kind
from polyvisor.drivers import registry

from .conftest import Cli

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "instancetype.yaml"
SIZE = ("--cpu", "2", "--memory", "256Mi")


def made(cli: Cli, *words: str) -> dict[str, Any]:
    result = cli("create", *words)
    assert result.code == 0, result.err
    found: dict[str, Any] = yaml.safe_load(result.out)
    resource = by_kind(found["apiVersion"], found["kind"])
    assert resource is not None
    assert admit("CREATE", resource, found, None, AdmissionContext({}, registry())).problems == []
    return found


def test_an_instance_type_is_of_the_cluster_unless_told_otherwise(cli: Cli) -> None:
    assert made(cli, "instancetype", "--name", "small", *SIZE) == {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineClusterInstancetype",
        "metadata": {"name": "small"},
        "spec": {"cpu": {"guest": 2}, "memory": {"guest": "256Mi"}},
    }
    own = made(cli, "instancetype", "--namespaced=true", "-n", "team", *SIZE)
    assert own["kind"] == "VirtualMachineInstancetype"
    assert own["metadata"]["namespace"] == "team"
    assert own["metadata"]["name"].startswith("instancetype-")


def test_devices_and_io_threads(cli: Cli) -> None:
    flags = ("--gpu", "name:g,devicename:nvidia.com/a", "--hostdevice", "name:h,devicename:intel.com/q")
    spec = made(cli, "instancetype", *SIZE, *flags, "--iothreadspolicy", "shared")["spec"]
    assert spec["gpus"] == [{"name": "g", "deviceName": "nvidia.com/a"}]
    assert spec["hostDevices"] == [{"name": "h", "deviceName": "intel.com/q"}]
    assert spec["ioThreadsPolicy"] == "shared"


def test_a_preference(cli: Cli) -> None:
    flags = ("--cpu-topology", "cores", "--machine-type", "q35", "--driver", "lxc", "--volume-storage-class", "fast")
    found = made(cli, "preference", "--name", "p", *flags)
    assert found["kind"] == "VirtualMachineClusterPreference"
    assert found["spec"] == {
        "cpu": {"preferredCPUTopology": "cores"},
        "machine": {"preferredMachineType": "q35"},
        "preferredHypervisor": {"driver": "lxc"},
        "volumes": {"preferredStorageClassName": "fast"},
    }
    assert made(cli, "preference", "--namespaced")["kind"] == "VirtualMachinePreference"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("instancetype", "--memory", "1Gi"), "--cpu: the number of CPUs must be given"),
        (("instancetype", "--cpu", "1"), "--memory: the guest's memory must be given"),
        (("instancetype", "--cpu", "1", "--memory", "lots"), "'lots' is not a size"),
        (("instancetype", *SIZE, "--gpu", "name:g"), "--gpu: devicename must be given"),
        (("instancetype", *SIZE, "--iothreadspolicy", "some"), "'some' is not valid; accepted: auto, shared"),
        (("instancetype", *SIZE, "--name", "A"), "--name: 'A' is not a valid name"),
        (("instancetype", *SIZE, "-n", "team"), "with --namespaced alone"),
        (("preference", "--cpu-topology", "flat"), "'flat' is not valid; accepted: sockets"),
    ],
)
def test_wrong_flags(cli: Cli, words: tuple[str, ...], said: str) -> None:
    result = cli("create", *words)
    assert result.code == 2
    assert said in result.err


def test_get_and_expand_on_a_server(on_server: Cli) -> None:
    assert on_server("create", "-f", str(EXAMPLE)).code == 0
    for word, name in (("vmf", "tiny"), ("vmp", "container")):
        lines = on_server("get", word).out.splitlines()
        assert lines[0].split() == ["NAME", "AGE"]
        assert lines[1].split()[0] == name
    assert on_server("get", "vmirs").code == 0
    for words in (("--vm", "tiny"), ("-f", str(EXAMPLE))):
        expanded = yaml.safe_load(on_server("expand", *words).out)
        assert expanded["spec"]["template"]["spec"]["domain"]["memory"] == {"guest": "128Mi"}
        assert "instancetype" not in expanded["spec"]
    assert on_server("expand", "--vm", "nosuch").code == 4
    assert on_server("expand").code == 2
    assert on_server("delete", "-f", str(EXAMPLE)).code == 0
