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
    with standalone() as home:
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
