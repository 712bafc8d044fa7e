"""kcli, which drives KubeVirt by kubectl: a machine with a disk from a claim, and the lists."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.standalone import Standalone

from .conftest import Run, from_pypi

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PACKAGES = ("kcli==99.0.202610251748", "kubernetes==37.0.2")
SETTINGS = ("memory=128", "numcpus=1", "disks=[1]", "nets=[{'name':'default','masquerade':True}]", "cloudinit=False")


def test_a_machine_with_a_disk(home: Standalone, run: Run) -> None:
    programs = from_pypi(*PACKAGES)
    config = {"default": {"client": "here"}, "here": {"type": "kubevirt", "kubeconfig": str(home.kubeconfig)}}
    (home.folder / ".kcli").mkdir(exist_ok=True)
    (home.folder / ".kcli" / "config.yml").write_text(yaml.safe_dump(config))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # of kubectl

    def kcli(*words: str) -> str:
        return run(programs / "kcli", *words, env={"PATH": path}).stdout

    assert "local" in kcli("list", "pool")
    options = [word for setting in SETTINGS for word in ("-P", setting)]
    assert "kcli created" in kcli("create", "vm", *options, "kcli")
    assert "kcli" in kcli("list", "vm")
    shown = kcli("info", "vm", "kcli")
    assert "memory: 128" in shown
    assert "kcli-disk0" in shown
    assert "kcli-disk0" in kcli("list", "disk")
    assert "stopped" in kcli("stop", "vm", "kcli")
    assert "deleted" in kcli("delete", "vm", "-y", "kcli")
