"""libvirt's own Cloud Hypervisor driver, through a launcher, on a stand-in for cloud-hypervisor: what it is asked.

Debian's libvirt has no such driver: the tests run where one is installed, in /usr, /usr/local or on PATH.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers.ch import CloudHypervisorDriver
from polyvisor.drivers.ch.plan import installed
from polyvisor.testing import bench
from tests.drivers.kit import machine
from tests.needs import absent

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("libvirt")]
DRIVER = CloudHypervisorDriver()
LANE = "Cloud Hypervisor"
KERNEL = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/k"}, "kernelArgs": "console=ttyS0"}}
DISKS = [{"name": "a"}, {"name": "b", "disk": {"readonly": True}}]
DOMAIN = {"firmware": KERNEL, "cpu": {"cores": 2}, "devices": {"disks": DISKS, "rng": {}}}


@pytest.fixture
def libvirt() -> None:
    """libvirt's driver, and what it asks of a machine before it starts anything."""
    if installed() is None:
        absent(LANE, "libvirt has no such driver here")
    if not Path("/dev/kvm").exists():
        absent(LANE, "libvirt's driver wants /dev/kvm")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in on PATH; return the file into which it writes what it is asked."""
    script = Path(__file__).with_name("ch_stand_in.py")
    stand_in = tmp_path / "cloud-hypervisor"
    path = tmp_path / "asked"
    path.touch()
    # libvirt gives it an environment of its own, so what it has to know stands in the script
    stand_in.write_text(f'#!/bin/sh\nCH_ASKED={path} exec {sys.executable} {script} "$@"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def requests(asked: Path) -> dict[str, Any]:
    """Return path -> body of what was asked last."""
    return {path: body for _, path, body in map(json.loads, asked.read_text().splitlines())}


def rendered(domain: dict[str, Any], folder: Path) -> tuple[Any, str]:
    vmi = machine(DRIVER, domain)
    disks = {name: DiskSource(folder / f"{name}.img", "raw") for name in "ab"}
    for name in ("vmlinuz", "a.img", "b.img"):
        (folder / name).touch()
    return vmi, render(vmi, DRIVER, DomainContext("kvm", disks=disks, kernel=folder / "vmlinuz"))


def test_cloud_hypervisor_is_told_what_the_machine_asks_for(asked: Path, tmp_path: Path) -> None:
    vmi, xml = rendered(DOMAIN, tmp_path)
    with bench(DRIVER, vmi) as one:
        agent = one.launch()
        assert agent.greeting["hello"]["hypervisorVersion"] == "44.0.0"
        assert agent.result("start", xml=xml)["state"] == "running"
        told = requests(asked)["vm.create"]
        assert told["cpus"] == {"boot_vcpus": 2, "max_vcpus": 2}
        assert told["memory"] == {"size": 96 * 1024 * 1024}
        assert told["payload"] == {"kernel": str(tmp_path / "vmlinuz"), "cmdline": "console=ttyS0"}
        assert told["disks"] == [
            {"path": str(tmp_path / "a.img")},
            {"path": str(tmp_path / "b.img"), "readonly": True},
        ]
        assert told["serial"] == {"mode": "Pty"}
        assert set(told) == {"cpus", "memory", "payload", "disks", "serial"}
        agent.close()


def test_pause_console_and_a_guest_that_powers_off(asked: Path, tmp_path: Path) -> None:
    vmi, xml = rendered(DOMAIN, tmp_path)
    with bench(DRIVER, vmi) as one:
        agent = one.launch()
        agent.result("start", xml=xml)
        one.says(b"Linux version played")
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"
        assert {"vm.pause", "vm.resume"} <= set(requests(asked))
        one.kill()
        agent = one.launch()
        assert agent.result("state")["state"] == "running"
        second = type(agent)(one.folder)
        console = second.console()
        console.sendall(b"poweroff\n")
        assert agent.until("shutoff")["reason"] == "shutdown"
        second.close()
        agent.close()


def test_a_machine_that_shall_wait_is_paused_at_once(asked: Path, tmp_path: Path) -> None:
    vmi, xml = rendered(DOMAIN, tmp_path)
    with bench(DRIVER, vmi) as one:
        agent = one.launch()
        assert agent.result("start", xml=xml, paused=True)["state"] == "paused"
        agent.close()


def test_the_probe_believes_what_boots(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.touch()
    monkeypatch.setenv("POLYVISOR_PROBE_KERNEL", str(kernel))
    scratch = Path(f"/tmp/pvcp{os.getpid()}")
    scratch.mkdir()
    try:
        found = DRIVER.probe(scratch)
    finally:
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
    assert found.available, found.reason
    assert (found.version, found.virt_types) == ("44.0.0", ("kvm",))
