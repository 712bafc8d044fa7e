"""The newcomer's way: the examples run by the command line, seen by a real kubectl, then shut down."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from .standalone import BIN, Standalone, standalone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone(new_host=True) as home:
        yield home
        home.run("down")


def test_both_examples_run(home: Standalone) -> None:
    home.run("run", "examples/qemu.yaml", "examples/lxc.yaml")
    machines = json.loads(home.run("get", "vmi", "-o", "json"))["items"]
    seen = {(m["status"]["hypervisor"]["driver"], m["status"]["phase"]) for m in machines}
    assert seen == {("qemu", "Running"), ("lxc", "Running")}


def test_kubectl_sees_them(home: Standalone) -> None:
    config = home.run("kubeconfig").strip()
    done = subprocess.run(
        [BIN / "kubectl", "--kubeconfig", config, "get", "vm,vmi,pods,nodes", "-A", "-o", "wide"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "virtualmachineinstance.kubevirt.io/demo-qemu" in done.stdout
    assert "virtualmachine.kubevirt.io/demo-lxc" in done.stdout


def test_a_machine_by_instance_type(home: Standalone) -> None:
    home.run("run", "examples/instancetype.yaml")
    vmi = json.loads(home.run("get", "vmi", "tiny", "-o", "json"))
    assert vmi["status"]["hypervisor"]["driver"] == "lxc"
    assert vmi["spec"]["domain"]["memory"]["guest"] == "128Mi"
    assert vmi["spec"]["terminationGracePeriodSeconds"] == 5
    vm = json.loads(home.run("get", "vm", "tiny", "-o", "json"))
    kept = vm["status"]["instancetypeRef"]["controllerRevisionRef"]["name"]
    started = vmi["status"]["virtualMachineRevisionName"]
    revisions = home.run("get", "controllerrevisions", "-o", "name")
    assert kept in revisions
    assert started in revisions
    home.run("stop", "tiny", "--force", "--wait")


def test_a_replica_set_of_real_guests(home: Standalone) -> None:
    def kubectl(*words: str) -> str:
        command = [BIN / "kubectl", "--kubeconfig", home.kubeconfig, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def wait(field: str, value: int) -> None:
        kubectl("wait", "vmirs/demo-workers", f"--for=jsonpath={{.{field}}}={value}", "--timeout=120s")

    home.run("run", "examples/replica-set.yaml")
    wait("status.readyReplicas", 2)
    kubectl("scale", "vmirs", "demo-workers", "--replicas=3")
    wait("status.readyReplicas", 3)
    kubectl("scale", "vmirs", "demo-workers", "--replicas=1")
    wait("status.replicas", 1)
    kubectl("delete", "vmirs", "demo-workers")
    kubectl("wait", "vmi", "-l", "app=demo-worker", "--for=delete", "--timeout=120s")
