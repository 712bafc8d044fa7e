"""Ansible's collection kubevirt.core, which PyPI's package ``ansible`` brings: modules and the inventory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run, from_pypi, machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PACKAGES = ("ansible==12.3.0", "kubernetes==37.0.2")
PLAYBOOK = Path(__file__).with_name("playbook.yaml")


def test_a_playbook(run: Run, tmp_path: Path) -> None:
    programs, answer = from_pypi(*PACKAGES), tmp_path / "answer.json"
    spec = machine("ansible")["spec"]["template"]["spec"]
    given = {"name": "ansible", "spec": spec, "answer": str(answer), "ansible_python_interpreter": f"{programs}/python"}
    run(programs / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(given), PLAYBOOK)
    found = json.loads(answer.read_text())
    assert "devices.nonsense: unknown field" in found.pop("wrong")
    assert found == {"first": True, "second": False, "running": "Running", "phase": "Running", "stopped": "Stopped"}


def test_the_inventory(run: Run, tmp_path: Path) -> None:
    programs, path = from_pypi(*PACKAGES), tmp_path / "inventory.kubevirt.yml"
    path.write_text("plugin: kubevirt.core.kubevirt\nnamespaces: [default]\n")
    assert "_meta" in json.loads(run(programs / "ansible-inventory", "-i", path, "--list").stdout)
