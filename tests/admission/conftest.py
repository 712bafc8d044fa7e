"""Drivers made up for these tests, so that the rules are tested and not what today's hypervisors can do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from lxml.etree import _Element

from polyvisor.admission import AdmissionContext
from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.resources import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, INSTANCETYPES
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver, LauncherPlan, ProbeResult, Support, Verdict
from polyvisor.drivers.features import FEATURES


class Fake(Driver):
    """A driver that can do everything but what it is told it cannot."""

    def __init__(self, name: str, virt_types: tuple[str, ...], aliases: Mapping[str, str], **lacking: Support) -> None:
        self.name = name
        self.title = name.upper()
        self.virt_types = virt_types
        self.aliases = aliases
        yes = Support(Verdict.SUPPORTED, "made up")
        self._features = {f.id: yes for f in FEATURES} | {k.replace("__", "."): v for k, v in lacking.items()}

    @property
    def features(self) -> Mapping[str, Support]:
        return self._features

    def probe(self, scratch: Path) -> ProbeResult:
        raise AssertionError("admission asks no node")

    def launcher(self, folder: Path, scratch: Path | None = None) -> LauncherPlan:
        raise AssertionError("admission starts nothing")

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        raise AssertionError("the driver is not chosen yet")

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        raise AssertionError("admission renders nothing")


def no(reason: str) -> Support:
    return Support(Verdict.UNSUPPORTED, "a manual", reason)


ALPHA = Fake(
    "alpha",
    ("fast", "slow"),
    {"turbo": "fast"},
    rng=Support(Verdict.CONDITIONAL, "a manual", "only with fast", virt_types=("fast",)),
)
BETA = Fake("beta", ("box",), {}, disk__bus__scsi=no("there is no SCSI"), rng=no("there is no RNG"))
GAMMA = Fake("gamma", ("box",), {}, network__pod=no("there is no network"), disk__bus__scsi=no("there is no SCSI"))


@pytest.fixture
def context() -> AdmissionContext:
    return AdmissionContext({}, DriverRegistry([ALPHA, BETA, GAMMA]))


SPEC: Obj = {
    "domain": {
        "cpu": {"cores": 2},
        "memory": {"guest": "64Mi"},
        "devices": {
            "disks": [{"name": "root", "disk": {"bus": "virtio"}}, {"name": "seed", "cdrom": {"bus": "sata"}}],
            "interfaces": [{"name": "default", "masquerade": {}}],
        },
    },
    "networks": [{"name": "default", "pod": {}}],
    "volumes": [
        {"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo:1"}},
        {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\n"}},
    ],
}

Change = Callable[[Obj], Any]


def instance(change: Change | None = None, **metadata: Any) -> Obj:
    obj: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "namespace": "default", **metadata},
        "spec": copy.deepcopy(SPEC),
    }
    if change:
        change(obj["spec"])
    return obj


def machine(change: Change | None = None, **spec: Any) -> Obj:
    template: Obj = {"metadata": {"labels": {"app": "a"}}, "spec": copy.deepcopy(SPEC)}
    if change:
        change(template["spec"])
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"runStrategy": "Always", "template": template} | spec,
    }


def put(path: str, value: Any) -> Change:
    """Return a change that puts ``value`` at ``domain.devices.disks.0.name``, making objects on the way."""

    def change(spec: Obj) -> None:
        node: Any = spec
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in way:
            node = node[part] if isinstance(part, int) else node.setdefault(part, {})
        if isinstance(last, int) and last == len(node):
            node.append(value)
        else:
            node[last] = value

    return change


@pytest.fixture
def shelf(context: AdmissionContext) -> Any:
    """A cluster's and a namespace's instance type ``small``, and a preference ``plain``, which the context knows."""
    from tests.admission.shelf import Shelf

    found = Shelf()
    found.put(CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 2}, "memory": {"guest": "128Mi"}})
    found.put(INSTANCETYPES, "small", {"cpu": {"guest": 1}, "memory": {"guest": "64Mi"}})
    found.put(CLUSTER_PREFERENCES, "plain", {})
    object.__setattr__(context, "lookup", found)
    return found
