"""What a real guest uses, told by its launcher: the table's ``lifecycle.statistics`` held against a guest."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from polyvisor.agent.live.statistics import samples
from polyvisor.domain import DomainContext, render
from polyvisor.drivers.base import Driver
from polyvisor.kube.metrics import Families
from tests.drivers.kit import Client, bench
from tests.drivers.test_real import READY, talkative

MIB = 1024 * 1024


def figures(told: dict[str, Any]) -> dict[str, float]:
    """The agent's samples of what a launcher told, those of several devices added up."""
    found = Families()
    samples(found, {"node": "n", "namespace": "d", "name": "m", "hypervisor": "x"}, told)
    names: dict[str, float] = {}
    for family in found:
        for sample in family.samples:
            name = sample.name.removeprefix("kubevirt_vmi_")
            names[name] = names.get(name, 0) + sample.value
    return names


def log_in(console: socket.socket) -> None:
    """Get a shell, whatever the console has said before."""
    heard = b""
    console.sendall(b"\n")
    while b"# " not in heard:
        heard += console.recv(4096)
        if heard.endswith(b"login: "):
            console.sendall(b"root\n")


def test_a_guest_at_work_is_seen_to_use_cpu_and_memory(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    vmi = talkative(driver, bootable)
    with bench(driver, vmi, scratch / driver.name) as one:
        agent = one.launch()
        assert agent.ask("stats")["error"]["code"] == "no-domain"
        agent.result("start", xml=render(vmi, driver, bootable))
        one.says(READY)
        first = figures(agent.result("stats")["stats"])
        assert first["cpu_usage_seconds_total"] > 0
        assert first["memory_domain_bytes"] == 96 * MIB
        assert 0.1 * MIB < first["memory_resident_bytes"] < 1024 * MIB
        console = Client(one.folder).console()
        log_in(console)
        console.sendall(b"while :; do :; done\n")
        deadline = time.monotonic() + 30
        while figures(agent.result("stats")["stats"])["cpu_usage_seconds_total"] < first["cpu_usage_seconds_total"] + 1:
            assert time.monotonic() < deadline, "a busy guest uses CPU time"
            time.sleep(0.1)
        agent.result("destroy")
        assert agent.ask("stats")["error"]["code"] == "no-domain"
