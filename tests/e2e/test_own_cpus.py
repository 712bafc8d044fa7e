"""CPUs of a machine's own on this host: where its threads run, who has to leave, and who finds none left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.needs import absent

from .installation import eventually
from .standalone import Standalone, bare_machine, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

SECONDS = 90
CPUS = os.sched_getaffinity(0)
SHARED = min(CPUS)


def machine(name: str, cores: int, **cpu: Any) -> dict[str, Any]:
    return bare_machine(name, cpu={"cores": cores, **cpu}, memory={"guest": "64Mi"})


@pytest.fixture
def host() -> Iterator[Standalone]:
    if len(CPUS) < 2:
        absent("two CPUs", "there is one, and that is everybody's")
    with standalone() as one:
        try:
            one.run("up")
            yield one
        finally:
            one.run("down")


def threads(host: Standalone, name: str) -> dict[str, set[int]]:
    """Return the CPUs that the threads of a machine's hypervisor may run on, by what the threads are called."""
    found: dict[str, set[int]] = {}
    for pid in host.processes("qemu-system", f"guest=default_{name},", str(host.folder)):
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found.setdefault((task / "comm").read_text().strip(), set()).update(
                    os.sched_getaffinity(int(task.name))
                )
    return found


def told(host: Standalone, name: str) -> str:
    status = json.loads(host.run("get", "vmi", name, "--output=json")).get("status", {})
    return " ".join(str(one.get("message")) for one in status.get("conditions", []))


def test_a_cpu_of_ones_own_is_nobody_elses(host: Standalone) -> None:
    host.run_machines(machine("sharing", 1), machine("alone", 1, dedicatedCpuPlacement=True))
    alone = threads(host, "alone")
    (own,) = alone["CPU 0/TCG" if "CPU 0/TCG" in alone else "CPU 0/KVM"]
    assert own != SHARED
    assert set().union(*alone.values()) == {own}
    others = CPUS - {own}
    eventually(
        lambda: set().union(*threads(host, "sharing").values()) == others, SECONDS, lambda: told(host, "sharing")
    )

    os.kill(host.pid, signal.SIGKILL)  # the agent dies, and the next one has to know what is given
    eventually(lambda: not host.processes("polyvisor.standalone", str(host.folder)), SECONDS)
    host.run("up")
    path = host.folder / "more.json"
    path.write_text(json.dumps(machine("more", len(CPUS) - 1, dedicatedCpuPlacement=True)))
    host.run("apply", "--filename", path)
    eventually(lambda: "Insufficient cpu" in told(host, "more"), SECONDS, lambda: told(host, "more"))
    assert not threads(host, "more")
    assert set().union(*threads(host, "alone").values()) == {own}

    host.run("delete", "vmi", "alone")
    eventually(lambda: len(threads(host, "more")) > 1, SECONDS, lambda: told(host, "more"))
    eventually(lambda: set().union(*threads(host, "sharing").values()) == {SHARED}, SECONDS)
    host.run("delete", "vmi", "more")
    eventually(lambda: set().union(*threads(host, "sharing").values()) == CPUS, SECONDS)
    host.run("delete", "vmi", "sharing")
