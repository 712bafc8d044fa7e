"""CPUs that are added to a guest while it runs: seen by a real guest, through the whole of an installation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polyvisor.cli.client import Client

from .guest_shell import shell
from .standalone import KERNEL, Standalone, standalone

pytestmark = pytest.mark.e2e

SECONDS = 180


def vm(name: str) -> dict[str, Any]:
    boot = {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}
    domain = {
        "cpu": {"sockets": 1, "maxSockets": 2},
        "memory": {"guest": "96Mi"},
        "firmware": {"kernelBoot": boot},
        "devices": {"autoattachPodInterface": False},
    }
    spec = {"hypervisor": {"driver": "qemu"}, "terminationGracePeriodSeconds": 0, "domain": domain}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": spec}},
    }


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            yield home
        finally:
            home.run("down")


def until(home: Standalone, kind: str, name: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        obj: dict[str, Any] = json.loads(home.run("get", kind, name, "-o", "json"))
        if holds(obj):
            return obj
        assert time.monotonic() < deadline, json.dumps(obj, indent=1)
        time.sleep(0.2)


def restart(machine: dict[str, Any]) -> list[dict[str, Any]]:
    conditions = (machine.get("status") or {}).get("conditions") or []
    return [one for one in conditions if one["type"] == "RestartRequired"]


def test_a_guest_sees_a_cpu_more(home: Standalone, client: Client) -> None:
    path, machine = home.folder / "vm.json", vm("grow")

    def sockets(number: int) -> None:
        machine["spec"]["template"]["spec"]["domain"]["cpu"]["sockets"] = number
        path.write_text(json.dumps(machine))
        home.run("apply", "-f", path)

    sockets(1)
    until(home, "vm", "grow", lambda found: (found.get("status") or {}).get("ready"))
    first = json.loads(home.run("get", "vmi", "grow", "-o", "json"))
    assert first["status"]["currentCPUTopology"] == {"cores": 1, "sockets": 1, "threads": 1}
    with shell(client, "grow") as console:
        console.says("echo =$(grep -c ^processor /proc/cpuinfo)=", rb"=1=\r")
        sockets(2)
        vmi = until(home, "vmi", "grow", lambda found: found["status"]["currentCPUTopology"]["sockets"] == 2)
        assert vmi["metadata"]["uid"] == first["metadata"]["uid"]
        online = "/sys/devices/system/cpu/cpu1/online"
        console.says(f"until [ -e {online} ]; do sleep 1; done; echo 1 > {online}; echo o''n", rb"on\r")
        console.says("echo =$(grep -c ^processor /proc/cpuinfo)=", rb"=2=\r")
    assert not restart(json.loads(home.run("get", "vm", "grow", "-o", "json")))
    sockets(1)
    (told,) = restart(until(home, "vm", "grow", restart))
    assert told["message"] == "Reduction of CPU socket count requires a restart"
