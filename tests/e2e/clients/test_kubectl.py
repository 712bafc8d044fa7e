"""kubectl, from applying a machine to deleting it, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import Run, machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]


def test_a_machine_from_apply_to_delete(kubectl: Run, tmp_path: Path) -> None:
    name = "kubectl"
    path = tmp_path / "vm.yaml"
    path.write_text(yaml.safe_dump(machine(name)))
    assert "created" in kubectl("apply", "-f", str(path)).stdout
    assert "unchanged" in kubectl("apply", "-f", str(path)).stdout
    assert "spec" in yaml.safe_load(kubectl("get", "vm", name, "-o", "yaml").stdout)
    assert "edited" in kubectl("edit", "vm", name, env={"KUBE_EDITOR": "sed -i s/96Mi/97Mi/"}).stdout
    assert "97Mi" in kubectl("diff", "-f", str(path), check=False).stdout
    patch = json.dumps({"spec": {"runStrategy": "Always"}})
    assert "patched" in kubectl("patch", "vm", name, "--type=merge", "-p", patch).stdout
    assert "condition met" in kubectl("wait", f"vm/{name}", "--for=condition=Ready", "--timeout=120s").stdout
    assert "Running" in kubectl("get", "pods", "-l", f"vm={name}").stdout
    assert "state running" in kubectl("logs", "-l", f"vm={name}", "--tail=100").stdout
    assert "Events:" in kubectl("describe", "vm", name).stdout
    assert "deleted" in kubectl("delete", "-f", str(path)).stdout
    assert "NotFound" in kubectl("get", "vm", name, check=False).stderr


def test_apply_on_the_server(kubectl: Run) -> None:
    name = "server"
    text = yaml.safe_dump(machine(name))
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", input=text).stdout
    other = ("apply", "--server-side", "--field-manager=me", "-f", "-")
    taken = kubectl(*other, input=text.replace("96Mi", "97Mi"), check=False)
    assert "conflict" in taken.stderr
    kubectl("delete", "vm", name)


def test_what_is_wrong_is_said(kubectl: Run) -> None:
    typo = "apiVersion: kubevirt.io/v1\nkind: VirtualMachin\nmetadata: {name: a}\n"
    assert 'no matches for kind "VirtualMachin"' in kubectl("apply", "-f", "-", input=typo, check=False).stderr
    wrong = machine("wrong")
    wrong["spec"]["template"]["spec"]["domain"]["devices"]["nonsense"] = True
    assert "nonsense" in kubectl("apply", "-f", "-", input=json.dumps(wrong), check=False).stderr
    deployment = kubectl("create", "deployment", "web", "--image=i", check=False).stderr
    assert "put the program into a VirtualMachine" in deployment


def test_what_is_served(kubectl: Run) -> None:
    assert "virtualmachines" in kubectl("api-resources", "--api-group=kubevirt.io").stdout
    assert "runStrategy" in kubectl("explain", "vm.spec").stdout
    assert kubectl("auth", "can-i", "create", "vms").stdout.strip() == "yes"
    assert "admin" in kubectl("auth", "whoami").stdout
    assert "is running at" in kubectl("cluster-info").stdout
