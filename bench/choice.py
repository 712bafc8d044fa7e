"""How fast a driver is chosen: admissions a second of a typical machine, and ``polyvisor explain`` as a whole process.

Beside ``explain`` stands an interpreter that imports typer, rich and pydantic and does nothing: what a command line
built on them costs at least.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMS
from polyvisor.drivers import registry

TYPICAL: Obj = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": "typical", "namespace": "default"},
    "spec": {
        "runStrategy": "Always",
        "template": {
            "metadata": {"labels": {"app": "typical"}},
            "spec": {
                "domain": {
                    "cpu": {"cores": 2},
                    "memory": {"guest": "2Gi"},
                    "devices": {
                        "disks": [{"name": "root", "disk": {}}, {"name": "seed", "disk": {}}],
                        "interfaces": [{"name": "default", "masquerade": {}}],
                        "rng": {},
                    },
                },
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [
                    {"name": "root", "containerDisk": {"image": "localhost/images/debian:13"}},
                    {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\n"}},
                ],
            },
        },
    },
}
IMPORTS = "import typer, rich.console, rich.table, pydantic, yaml; typer.Typer()"


@dataclass(frozen=True)
class Choice:
    """Admissions a second on one core against so many drivers; seconds of whole processes, in pairs."""

    drivers: int
    admissions: float
    explain: list[float]
    floor: list[float]


def measure(pairs: int, seconds: float = 2.0) -> Choice:
    """Admit for ``seconds``, then run ``pairs`` of processes in turns."""
    drivers = registry()
    context = AdmissionContext({}, drivers)
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        outcome = admit("CREATE", VMS, copy.deepcopy(TYPICAL), None, context)
        assert not outcome.problems, outcome.problems
        count += 1
    ours: list[float] = []
    floor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "vm.yaml"
        manifest.write_text(yaml.safe_dump(TYPICAL))
        polyvisor = Path(sys.executable).with_name("polyvisor")
        for _ in range(pairs):
            floor.append(_seconds([sys.executable, "-c", IMPORTS]))
            ours.append(_seconds([polyvisor, "explain", manifest]))
    return Choice(len(drivers.names()), count / spent, ours, floor)


def _seconds(command: list[str | Path]) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def rows(choice: Choice) -> list[list[str]]:
    """Return the table."""
    told = f"{median(choice.explain):.2f} s ({min(choice.explain):.2f} to {max(choice.explain):.2f})"
    return [
        ["", f"measured, {choice.drivers} drivers", "goal", "the libraries alone"],
        ["admissions of a typical VM a second, one core", f"{choice.admissions:,.0f}", "1,000 or more", ""],
        ["`polyvisor explain` as a whole process", told, "under 0.5 s", f"{median(choice.floor):.2f} s"],
    ]
