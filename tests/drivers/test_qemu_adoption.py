"""A launcher that takes over a guest which does not answer libvirt: it is reached on a thread of libvirt's own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from polyvisor.domain import DomainContext, render
from polyvisor.drivers.base import Driver
from tests.drivers.kit import Bench, bench, machine

pytestmark = pytest.mark.parametrize("driver", ["qemu"], indirect=True, scope="session")


def hypervisor(one: Bench) -> int:
    """Return the process of the guest; libvirt writes its number down."""
    (file,) = one.folder.rglob("*kit*.pid")
    return int(file.read_text())


def adopted(one: Bench, driver: Driver, bootable: DomainContext) -> int:
    """Start a guest, and have its launcher leave it unresponsive; return the guest's process."""
    agent = one.launch()
    agent.result("start", xml=render(machine(driver), driver, bootable))
    assert one.process
    one.process.terminate()
    assert one.process.wait(20) == 0
    guest = hypervisor(one)
    os.kill(guest, signal.SIGSTOP)
    return guest


def signalled(process: int, number: int) -> bool:
    """Say whether a signal awaits a stopped process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (pending,) = (line.split()[1] for line in lines if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) >> number - 1 & 1)


def test_a_guest_that_is_destroyed_while_it_is_taken_over_has_ended(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    with bench(driver, machine(driver), scratch / driver.name) as one:
        guest = adopted(one, driver, bootable)
        agent = one.launch()
        assert agent.result("state")["state"] == "running"
        agent.send({"id": 0, "op": "destroy"})
        while not signalled(guest, signal.SIGTERM):
            time.sleep(0.01)
        os.kill(guest, signal.SIGKILL)  # as libvirt does after 10 s
        while "id" not in (answer := agent.read()):
            pass
        assert answer["result"]["reason"] == "destroyed"


def test_a_guest_that_cannot_be_taken_over_is_seen_to_have_ended(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    with bench(driver, machine(driver), scratch / driver.name) as one:
        guest = adopted(one, driver, bootable)
        agent = one.launch()
        assert agent.result("state")["state"] == "running"
        os.kill(guest, signal.SIGKILL)
        assert agent.until("shutoff")["id"] == -1
