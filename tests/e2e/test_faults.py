"""Kill -9 at random moments: no machine is lost or doubled, no acknowledged write is forgotten.

Two real guests run all the time. In each round a client writes as fast as it can while a launcher or the whole
standalone process is killed; afterwards everything that was acknowledged must be there, and the guests must be the same
processes as before. In some rounds a third machine is just being made or taken down when the blow falls. The order of
the blows is drawn from a seed, which is printed; POLYVISOR_FAULT_SEED repeats one, POLYVISOR_FAULT_ROUNDS changes how
many rounds there are.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import CONFIGMAPS, PODS, VMIS, VMS, Resource
from polyvisor.kube import ApiError, Informer, KubeClient

from .standalone import Standalone, standalone

pytestmark = pytest.mark.e2e
ROUNDS = int(os.environ.get("POLYVISOR_FAULT_ROUNDS", "50"))
SEED = int(os.environ.get("POLYVISOR_FAULT_SEED", "20261124"))
GUESTS = ("demo-qemu", "demo-lxc")
THIRD = "third"
Obj = dict[str, Any]


@dataclass
class Ledger:
    """What the API server acknowledged."""

    written: dict[str, str] = field(default_factory=dict)
    newest: int = 0

    def keep(self, obj: Obj) -> None:
        version = int(obj["metadata"]["resourceVersion"])
        assert version > self.newest, "resource versions go back"
        self.newest = version
        self.written[obj["metadata"]["name"]] = obj["data"]["value"]


async def write(home: Standalone, ledger: Ledger, round_: int) -> None:
    """Create and change objects until nobody answers or we are told to stop."""
    async with KubeClient.from_kubeconfig(home.kubeconfig) as client:
        number = 0
        while True:
            name = f"w{round_}-{number}"
            obj: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
            try:
                made = await client.create(CONFIGMAPS, {**obj, "data": {"value": "1"}})
                ledger.keep(made)
                ledger.keep(await client.update(CONFIGMAPS, {**made, "data": {"value": "2"}}))
            except ApiError:
                return
            number += 1


async def until(home: Standalone, resource: Resource, name: str, holds: Callable[[Obj | None], Any]) -> None:
    """Wait until an object (None: it is not there) is as wanted."""
    last: Obj | None = None

    def look(informer: Informer) -> bool:
        nonlocal last
        last = informer.get("default", name)
        return bool(holds(last))

    async with KubeClient.from_kubeconfig(home.kubeconfig) as client, Informer(client, resource) as informer:
        try:
            await informer.wait_until(look, 60)
        except TimeoutError:
            raise AssertionError(f"{resource.kind} {name} not as wanted in time: {last}") from None


def ready(vmi: Obj | None) -> bool:
    status = (vmi or {}).get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    return status.get("phase") == "Running" and conditions.get("Ready") == "True"


def gone(obj: Obj | None) -> bool:
    return obj is None


def hypervisors(home: Standalone, machine: str) -> list[int]:
    """Return the processes that run a machine: QEMU itself, or the controller of a container."""
    folder = str(home.folder)
    qemu = [pid for pid in home.processes("qemu-system", f"guest=default_{machine},") if pid in home.processes(folder)]
    containers = home.processes("libvirt_lxc", f"--name default_{machine} ")
    return qemu + [pid for pid in containers if folder in Path(f"/proc/{pid}/mountinfo").read_text()]


async def launcher_folder(home: Standalone, machine: str) -> str:
    async with KubeClient.from_kubeconfig(home.kubeconfig) as client:
        pods = await client.list(PODS, "default", label_selector=f"vm.kubevirt.io/name={machine}")
        (pod,) = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
    return str(pod["metadata"]["uid"]).replace("-", "")[:12]


async def kill_while_writing(home: Standalone, ledger: Ledger, round_: int, victim: str, after: float) -> None:
    """Let a client write, and strike at a random moment."""
    pid = home.pid if victim == "up" else home.launchers()[await launcher_folder(home, victim)]
    writer = asyncio.create_task(write(home, ledger, round_))
    await asyncio.sleep(after)  # the random moment
    os.kill(pid, signal.SIGKILL)
    if victim == "up":
        await writer
        await asyncio.to_thread(home.run, "up")
        return
    folder = await launcher_folder(home, victim)
    async with asyncio.timeout(60):
        while home.launchers().get(folder) in (pid, None):  # noqa: ASYNC110 - a pid file is no event
            await asyncio.sleep(0.02)
    writer.cancel()
    await asyncio.wait([writer])


async def check(home: Standalone, ledger: Ledger, before: dict[str, list[int]]) -> None:
    """Everything is as it was acknowledged, and the guests never noticed."""
    for machine in GUESTS:
        await until(home, VMIS, machine, ready)
        assert hypervisors(home, machine) == before[machine], f"{machine} was lost, doubled or restarted"
    async with KubeClient.from_kubeconfig(home.kubeconfig) as client:
        stored = {
            c["metadata"]["name"]: c["data"]["value"] for c in await client.list(CONFIGMAPS, "default") if "data" in c
        }
        machines = sorted(v["metadata"]["name"] for v in await client.list(VMIS, "default"))
    lost = {n: v for n, v in ledger.written.items() if stored.get(n) not in (v, "2")}
    assert not lost, "acknowledged and lost"
    assert machines == sorted(GUESTS)


async def strike_a_birth_and_a_death(home: Standalone, draw: random.Random) -> None:
    """Make a third machine and take it down again, each with a blow to the standalone process on the way."""
    spec = {
        "hypervisor": {"driver": draw.choice(["qemu", "lxc"])},
        "terminationGracePeriodSeconds": 1,
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": False}},
        "volumes": [{"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}}],
    }
    if spec["hypervisor"] == {"driver": "qemu"}:
        spec["volumes"] = [{"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-disk:1"}}]
    vm: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": THIRD, "namespace": "default"},
    }
    async with KubeClient.from_kubeconfig(home.kubeconfig) as client:
        await client.create(VMS, {**vm, "spec": {"runStrategy": "Always", "template": {"spec": spec}}})
    await asyncio.sleep(draw.uniform(0, 2))  # the random moment
    os.kill(home.pid, signal.SIGKILL)
    await asyncio.to_thread(home.run, "up")
    await until(home, VMIS, THIRD, ready)
    assert len(hypervisors(home, THIRD)) == 1
    async with KubeClient.from_kubeconfig(home.kubeconfig) as client:
        await client.delete(VMS, THIRD, "default")
    await asyncio.sleep(draw.uniform(0, 2))  # the random moment
    os.kill(home.pid, signal.SIGKILL)
    await asyncio.to_thread(home.run, "up")
    await until(home, VMIS, THIRD, gone)
    assert hypervisors(home, THIRD) == []


async def test_nothing_is_lost_or_doubled() -> None:
    print(f"seed {SEED}, {ROUNDS} rounds")  # noqa: T201 - a failure is repeated with it
    draw = random.Random(SEED)
    ledger = Ledger()
    with standalone() as home:
        home.run("run", "examples/qemu.yaml", "examples/lxc.yaml")
        try:
            before = {machine: hypervisors(home, machine) for machine in GUESTS}
            assert [len(pids) for pids in before.values()] == [1, 1]
            for round_ in range(ROUNDS):
                victim = draw.choice(["up", *GUESTS])
                await kill_while_writing(home, ledger, round_, victim, draw.uniform(0, 0.5))
                await check(home, ledger, before)
                if round_ % 10 == 5:
                    await strike_a_birth_and_a_death(home, draw)
                    await check(home, ledger, before)
                if round_ % 10 == 9:
                    for machine in GUESTS:
                        assert home.run("console", machine, stdin="\n"), "the console is silent"
            assert len(ledger.written) > ROUNDS
        finally:
            home.run("down")
        left = home.processes(str(home.folder))
        assert left == [], "processes are left behind"
        assert str(home.folder) not in open("/proc/mounts").read(), "mounts are left behind"  # noqa: ASYNC230, PTH123, SIM115
