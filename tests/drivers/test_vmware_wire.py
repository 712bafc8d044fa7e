"""libvirt's own VMware driver, through a launcher, on a stand-in for ``vmrun``: what it asks, what it writes (VMX).

The stand-in keeps a list of running machines and writes down its arguments. The rest of VMware is not played.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext, domain_name, render
from polyvisor.drivers.verdict import unsupported
from polyvisor.drivers.vmware import VmwareDriver
from polyvisor.testing import bench, machines
from tests.drivers.kit import machine
from tests.drivers.random_machines import admitted

DRIVER = VmwareDriver()
VMRUN = """#!/bin/sh
cd {work}
[ "$3" = list ] || echo "$*" >> asked
touch running
case $3 in
list) echo "Total running VMs: $(wc -l < running)"; cat running;;
start) echo "2026-01-01 vmx log pid=$$ version" > "$(dirname "$4")/vmware.log"; echo "$4" >> running;;
stop) grep -vxF "$4" running > rest; mv rest running;;
esac
"""
VERSION = """#!/bin/sh
echo "{title} 17.5.2 build-1"
"""
DOMAIN: dict[str, Any] = {
    "cpu": {"sockets": 2, "cores": 3},
    "memory": {"guest": "97Mi"},
    "devices": {
        "disks": [
            {"name": "root", "disk": {}, "cache": "writethrough"},
            {"name": "seed", "disk": {}},
            {"name": "tools", "cdrom": {}},
        ],
        "interfaces": [
            {"name": "a", "masquerade": {}, "macAddress": "02:00:00:00:00:01"},
            {"name": "b", "masquerade": {}, "model": "pcnet"},
        ],
    },
}
WRITTEN = {
    "memsize": "100",
    "numvcpus": "6",
    "cpuid.coresPerSocket": "3",
    "scsi0.virtualDev": "lsilogic",
    "scsi0:0.fileName": "{folder}/root.vmdk",
    "scsi0:0.writeThrough": "true",
    "scsi0:1.deviceType": "cdrom-image",
    "scsi0:1.fileName": "{folder}/seed.iso",
    "ide0:0.deviceType": "cdrom-image",
    "ide0:0.fileName": "{folder}/tools.iso",
    "ethernet0.virtualDev": "vmxnet3",
    "ethernet0.connectionType": "nat",
    "ethernet0.address": "02:00:00:00:00:01",
    "ethernet1.virtualDev": "vlance",
}


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, title: str) -> Path:
    """Put stand-ins on PATH; return the folder in which they work."""
    work, path = folder / "work", folder / "bin"
    work.mkdir()
    path.mkdir()
    for name, text in (("vmrun", VMRUN), (program, VERSION)):
        (path / name).write_text(text.format(work=work, title=title))
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    return work


@pytest.fixture
def workstation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand_in(tmp_path, monkeypatch, "vmware", "VMware Workstation")


def entries(vmx: Path) -> dict[str, str]:
    lines = (line.partition(" = ") for line in vmx.read_text().splitlines())
    return {key: value.strip('"') for key, _, value in lines}


@pytest.mark.parametrize(("kind", "limit"), [("disks", "limit.disks"), ("interfaces", "limit.interfaces")])
@pytest.mark.parametrize("more", [0, 1])
def test_libvirt_refuses_what_is_beyond_a_limit(
    kind: str, limit: str, more: int, workstation: Path, tmp_path: Path
) -> None:
    count = DRIVER.limits[limit].most + more
    names = [f"n{number}" for number in range(count)]
    disks = [{"name": name, "disk": {}} for name in (names if kind == "disks" else ["root"])]
    cards = [{"name": name, "masquerade": {}} for name in names] if kind == "interfaces" else []
    vmi = machine(DRIVER, {"devices": {"disks": disks, "interfaces": cards}})
    DRIVER.defaults(vmi.spec)
    DRIVER.probe(tmp_path)
    files = {disk["name"]: DiskSource(tmp_path / f"{disk['name']}.vmdk", "vmdk") for disk in disks}
    with bench(DRIVER, vmi, tmp_path) as one:
        answer = one.launch().ask("start", xml=render(vmi, DRIVER, DomainContext("vmware", disks=files)))
        assert ("out of" in answer["error"]["message"]) if more else answer["result"]["state"] == "running"
        assert (limit in {feature.id for feature, _, _ in unsupported(DRIVER, vmi.spec)}) is bool(more)


def test_a_machine_is_written_run_paused_and_stopped(workstation: Path, tmp_path: Path) -> None:
    assert DRIVER.probe(tmp_path).facts == {"lifecycle.pause"}
    vmi = machine(DRIVER, DOMAIN)
    DRIVER.defaults(vmi.spec)
    disks = {name: DiskSource(tmp_path / file, "vmdk") for name, file in (("root", "root.vmdk"), ("seed", "seed.iso"))}
    disks["tools"] = DiskSource(tmp_path / "tools.iso", "raw")
    xml = render(vmi, DRIVER, DomainContext("vmware", disks=disks))
    vmx = tmp_path / f"{domain_name(vmi)}.vmx"
    with bench(DRIVER, vmi, tmp_path) as one:
        agent = one.launch()
        assert agent.greeting["hello"]["hypervisorVersion"] == "17.5.2"
        assert agent.result("start", xml=xml)["state"] == "running"
        written = entries(vmx)
        wanted = {key: value.format(folder=tmp_path) for key, value in WRITTEN.items()}
        assert {key: written.get(key) for key in wanted} == wanted
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"
        agent.result("shutdown")
        assert agent.until("shutoff")["reason"] == "shutdown"
    asked = (workstation / "asked").read_text().splitlines()
    assert asked == [
        f"-T ws {words}" for words in (f"start {vmx}", f"pause {vmx}", f"unpause {vmx}", f"stop {vmx} soft")
    ]


def test_a_machine_is_found_again_by_a_new_launcher(workstation: Path, tmp_path: Path) -> None:
    vmi = machine(DRIVER, {"devices": {"disks": [{"name": "root"}]}})
    disks = {"root": DiskSource(tmp_path / "root.vmdk", "vmdk")}
    with bench(DRIVER, vmi, tmp_path) as one:
        xml = render(vmi, DRIVER, DomainContext("vmware", disks=disks))
        assert one.launch().result("start", xml=xml)["state"] == "running"
        one.kill()
        agent = one.launch()
        assert agent.result("state")["state"] == "running"
        (workstation / "running").write_text("")
        assert agent.until("shutoff")


def test_player_is_found_and_has_no_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "vmplayer", "VMware Player")
    result = DRIVER.probe(tmp_path)
    assert (result.available, result.version, result.facts) == (True, "17.5.2", frozenset())
    assert DRIVER.launcher(tmp_path, tmp_path).uri == "vmwareplayer:///session"


def test_vmrun_without_a_product_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "other", "Other")
    assert "neither vmware nor vmplayer" in DRIVER.probe(tmp_path).reason


def test_libvirt_takes_every_machine_of_the_corpus(workstation: Path, tmp_path: Path) -> None:
    connection = libvirt.open("vmwarews:///session")
    refused = {}
    for case in machines.corpus(DRIVER):
        base = tmp_path / case.id
        base.mkdir()
        context = machines.context_for(DRIVER, case.obj, base)
        assert context
        try:
            connection.defineXML(render(case.vmi, DRIVER, context)).undefine()
        except libvirt.libvirtError as error:
            refused[case.id] = str(error)
    assert refused == {}


def test_libvirt_takes_machines_of_many_devices(workstation: Path, tmp_path: Path) -> None:
    """Drawn by a seed, without what admission finds wrong: the rest is written as a VMX file, as for an ESX host."""
    connection = libvirt.open("vmwarews:///session")
    refused, taken = {}, 0
    for name, obj in admitted(DRIVER, "1", 300):
        context = machines.context_for(DRIVER, obj, tmp_path)
        assert context
        taken += 1
        try:
            connection.defineXML(render(VirtualMachineInstance.model_validate(obj), DRIVER, context)).undefine()
        except libvirt.libvirtError as error:
            refused[name] = str(error)
    assert refused == {}
    assert taken > 50, "most machines are refused, so the test says little"
