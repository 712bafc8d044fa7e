"""Rules and limits of the drivers beside QEMU (whose own are held against libvirt in ``test_verdicts.py``).

What admission lets through for a driver is rendered without an error, and libvirt's VMX writer, which is installed with
Debian's libvirt, takes it.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import render
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.base import Driver
from polyvisor.drivers.rules import COMBINATIONS
from polyvisor.testing.examples import SOURCES, backing
from polyvisor.testing.machines import context_for, instance
from tests.drivers.test_vmware_wire import stand_in


def _had(driver: Driver) -> set[str]:
    return {id_ for id_, support in driver.features.items() if support.verdict in ("supported", "conditional")}


OTHERS = [driver for driver in registry() if driver.name != "qemu"]
FIRMWARE = [driver for driver in OTHERS if {"boot.disk", "boot.without-kernel"} <= _had(driver)]
"""Those whose machines boot from a disk by firmware."""
BY_NAME = {driver.name: driver for driver in registry()}
SEED = os.environ.get("POLYVISOR_COMBINATIONS_SEED", "1")
SAMPLE = 150
BASE = Path("/nowhere")
CPUS = {"cpu": {"cores": 2}, "features": {"apic": {"enabled": False}}}
TABLETS = [{"name": name, "type": "tablet", "bus": "usb"} for name in ("a", "b")]
BROKEN: dict[tuple[str, str], tuple[Obj, str]] = {
    ("xen", "rule.cpus.apic"): (CPUS, "spec.domain.features.apic.enabled"),
    ("vbox", "rule.cpus.apic"): (CPUS, "spec.domain.features.apic.enabled"),
    ("bhyve", "rule.inputs.several"): ({"devices": {"inputs": TABLETS}}, "spec.domain.devices.inputs[1]"),
    ("esx", "rule.cdrom.cache"): (
        {"devices": {"disks": [{"name": "a"}, {"name": "b", "cdrom": {}, "cache": "writethrough"}]}},
        "spec.domain.devices.disks[1].cache",
    ),
    ("vmware", "rule.cdrom.cache"): (
        {"devices": {"disks": [{"name": "a"}, {"name": "b", "cdrom": {}, "cache": "writethrough"}]}},
        "spec.domain.devices.disks[1].cache",
    ),
    ("vz", "rule.cdrom.serial"): (
        {"devices": {"disks": [{"name": "a"}, {"name": "b", "cdrom": {}, "serial": "S"}]}},
        "spec.domain.devices.disks[1].serial",
    ),
}
"""Driver and rule -> a machine's domain that breaks it, and the field that is named."""


def machine(driver: Driver, domain: Obj) -> Obj:
    """Return a machine for a driver, each of whose disks has a volume."""
    devices = {"autoattachPodInterface": False, **domain.get("devices", {})}
    volumes = [{"name": disk["name"], **SOURCES[backing(driver)]} for disk in devices.get("disks", [])]
    whole = {"memory": {"guest": "64Mi"}, **domain, "devices": devices}
    return instance(driver, copy.deepcopy({"domain": whole, "volumes": volumes}))


def problems(driver: Driver, obj: Obj) -> dict[str, Any]:
    found = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([driver]))).problems
    return {problem.field: problem for problem in found}


def test_every_rule_is_tried() -> None:
    assert {(driver.name, rule) for driver in OTHERS for rule in driver.rules} == set(BROKEN)


@pytest.mark.parametrize(("name", "rule"), BROKEN)
def test_what_breaks_a_rule_is_refused_with_the_field_and_the_source(name: str, rule: str) -> None:
    driver, (domain, field) = BY_NAME[name], BROKEN[name, rule]
    (combination,) = [one for one in COMBINATIONS if one.id == rule]
    found = {where: one for where, one in problems(driver, machine(driver, domain)).items() if one.feature == rule}
    assert list(found) == [field]
    assert found[field].message.startswith(f"{combination.title} with {driver.title}: {driver.rules[rule].reason}")
    assert "https://" in found[field].message


@pytest.mark.parametrize("name", ["xen", "hyperv"])
def test_drives_and_disks_have_places(name: str) -> None:
    driver = BY_NAME[name]
    kind, limit = ({"cdrom": {}}, "limit.cdroms") if name == "xen" else ({"disk": {"bus": "scsi"}}, "limit.disks.scsi")
    most = driver.limits[limit].most
    for count in (most, most + 1):
        disks = [{"name": "first"}, *({"name": f"d{n}", **kind} for n in range(count))]
        found = problems(driver, machine(driver, {"devices": {"disks": disks}}))
        assert any(one.feature == limit for one in found.values()) is (count > most)


def drawn(driver: Driver, seed: str) -> Iterator[Obj]:
    """Yield machines with many disks and drives, and fields that meet on one of them."""
    random = Random(f"{driver.name} {seed}")
    targets: list[Obj] = [
        {"disk": {}},
        {"cdrom": {}},
        *({kind: {"bus": bus}} for kind in ("disk", "cdrom") for bus in ("sata", "scsi")),
    ]
    extras: list[Obj] = [{}, {}, {}, {"cache": "writethrough"}, {"serial": "S-1"}]
    for _ in range(SAMPLE):
        some = random.sample(targets, random.choice((1, 1, 2, 3)))
        disks = [
            {"name": f"d{n}", **random.choice(some), **random.choice(extras)}
            for n in range(random.choice((0, 1, 2, 3, 5, 8, 12, 35)))
        ]
        cpu = random.choice(({}, {"cpu": {"cores": 3}}, {"cpu": {"sockets": 2, "cores": 3}}))
        features = random.choice(({}, {"features": {"apic": {"enabled": False}}}, {"features": {"acpi": {}}}))
        inputs = random.choice(({}, {}, {"inputs": TABLETS[:1]}, {"inputs": TABLETS}))
        yield machine(driver, {**cpu, **features, "devices": {"disks": disks, **inputs}})


def admitted(driver: Driver, base: Path) -> Iterator[tuple[Obj, str]]:
    """Yield drawn machines that admission takes, with their domains."""
    context = AdmissionContext({}, DriverRegistry([driver]))
    for obj in drawn(driver, SEED):
        outcome = admit("CREATE", VMIS, obj, None, context)
        if outcome.problems:
            continue
        prepared = context_for(driver, outcome.obj, base)
        assert prepared
        yield outcome.obj, render(VirtualMachineInstance.model_validate(outcome.obj), driver, prepared)


@pytest.mark.parametrize("driver", FIRMWARE, ids=lambda driver: driver.name)
def test_what_is_admitted_can_be_written_down(driver: Driver) -> None:
    assert list(admitted(driver, BASE)), "nothing is admitted, so the test says nothing"


def test_a_disk_with_a_cache_mode_is_where_libvirt_writes_the_mode() -> None:
    driver = BY_NAME["vmware"]
    for count in (7, 8):
        cached = [{"name": f"d{n}", "cache": "writethrough"} for n in range(count)]
        obj = machine(driver, {"devices": {"disks": [{"name": "first"}, *cached]}})
        refused = any(one.feature == "limit.disks.cached" for one in problems(driver, obj).values())
        assert refused is (count == 8)
        if not refused:
            outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([driver])))
            prepared = context_for(driver, outcome.obj, BASE)
            assert prepared
            xml = render(VirtualMachineInstance.model_validate(outcome.obj), driver, prepared)
            assert xml.count("cache=") == count


DEFINE = """
import json, sys, libvirt
libvirt.registerErrorHandler(lambda _, error: None, None)
connection = libvirt.open("vmwarews:///session")
for line in sys.stdin:
    try:
        connection.defineXML(json.loads(line)).undefine()
        print("")
    except libvirt.libvirtError as error:
        print(error.get_error_message())
"""


def test_libvirt_writes_down_what_is_admitted_for_vmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "vmware", "VMware Workstation")
    machines = list(admitted(BY_NAME["vmware"], tmp_path))
    for obj, xml in machines:
        asked = [disk for disk in obj["spec"]["domain"]["devices"].get("disks", []) if disk.get("cache")]
        assert xml.count("cache=") == len(asked), "a cache mode is lost"
    lines = "".join(json.dumps(xml) + "\n" for _, xml in machines)
    done = subprocess.run([sys.executable, "-c", DEFINE], input=lines, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line] == []
    assert len(done.stdout.splitlines()) == len(machines) > 0
