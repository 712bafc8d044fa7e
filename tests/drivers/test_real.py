"""Each driver that works here runs a real guest through a launcher's whole life."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DomainContext, render
from polyvisor.drivers.base import Driver, ProbeResult, Verdict
from polyvisor.drivers.trial import Trial
from tests.drivers.kit import Client, bench, machine

READY = b"polyvisor-demo: ready"
LIMIT_KIB = 40 * 1024


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _arguments(paths: tuple[str, ...]) -> set[str]:
    """Return what of all processes' arguments begins with one of the paths."""
    found: set[str] = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            arguments = file.read_bytes().decode(errors="replace").split("\0")
            found.update(argument for argument in arguments if argument.startswith(paths))
    return found


def talkative(driver: Driver, bootable: DomainContext) -> VirtualMachineInstance:
    """A machine that says on its console how far it is."""
    return machine(driver, {"firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0"}}} if bootable.kernel else {})


def test_probe_tells_versions_and_remembers(driver: Driver, probed: ProbeResult, scratch: Path) -> None:
    assert probed.virt_types
    assert probed.version
    assert probed.libvirt_version
    start = time.monotonic()
    again = driver.probe(scratch / driver.name)
    assert (again.virt_types, again.cpus) == (probed.virt_types, probed.cpus)
    assert time.monotonic() - start < 8


def test_a_node_that_gives_named_cpus_tells_which(driver: Driver, probed: ProbeResult) -> None:
    if not any(support.node_cpu for support in driver.features.values()):
        assert probed.cpus is None
        return
    cpus = probed.cpus
    assert cpus is not None
    assert cpus.host_model in cpus.models
    assert {"lm", "sse2"} <= set(cpus.features)
    assert set(cpus.host_features) <= set(cpus.features)
    assert {"q35", "pc"} <= set(cpus.machines)
    assert cpus.vendor


def test_a_guest_lives_through_everything(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    vmi = talkative(driver, bootable)
    xml = render(vmi, driver, bootable)
    with bench(driver, vmi, scratch / driver.name) as one:
        agent = one.launch()
        assert agent.greeting["hello"]["version"] == 1
        assert agent.greeting["hello"]["driver"] == driver.name
        started = agent.result("start", xml=xml)
        assert started["state"] == "running"
        assert agent.result("start", xml=xml)["id"] == started["id"]
        one.says(READY)
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"

        assert one.process
        everything = [one.process.pid]
        pid_file = one.folder / "daemon.pid"
        everything += [int(pid_file.read_text())] if pid_file.exists() else []
        assert sum(map(_pss, everything)) < LIMIT_KIB

        one.kill()
        os.kill(everything[-1], 9) if len(everything) > 1 else None
        agent = one.launch()
        adopted = agent.result("state")
        assert (adopted["state"], adopted["id"]) == ("running", started["id"])

        console = Client(one.folder).console()
        console.sendall(b"\n")
        assert console.recv(100)

        agent.result("shutdown")
        assert agent.until("shutoff")["reason"] == "shutdown"
        assert agent.result("start", xml=xml)["state"] == "shutoff"


def test_destroy_ends_at_once(driver: Driver, bootable: DomainContext, scratch: Path) -> None:
    vmi = machine(driver)
    with bench(driver, vmi, scratch / driver.name) as one:
        agent = one.launch()
        agent.result("start", xml=render(vmi, driver, bootable))
        assert agent.ask("quit")["error"]["code"] == "active"
        agent.result("destroy")
        ended = agent.until("shutoff")
        assert ended["reason"] == "destroyed"


def test_a_guest_that_shall_wait_waits_even_for_the_next_launcher(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    vmi = talkative(driver, bootable)
    with bench(driver, vmi, scratch / driver.name) as one:
        assert one.launch().result("start", xml=render(vmi, driver, bootable), paused=True)["state"] == "paused"
        one.kill()
        agent = one.launch()
        assert agent.result("state")["state"] == "paused"
        # Where a guest is held only just after its start, it may have said all that it has to say.
        assert READY not in one.console_log() or not driver.launcher(one.folder, scratch).start_paused
        agent.result("resume")
        # What a driver that cannot start paused let through may have been lost with the launcher: ask, do not wait.
        console = Client(one.folder).console()
        console.sendall(b"\n")
        assert console.recv(100)


def test_what_libvirt_was_trying_ends_with_a_killed_launcher(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    prefixes = driver.launcher(scratch).strays
    if not prefixes:
        return
    with bench(driver, talkative(driver, bootable)) as one:  # without what was found before, it tries anew
        paths = tuple(f"{one.folder}/{prefix}" for prefix in prefixes)
        left: set[str] = set()
        while not left:  # a trial may just have ended
            one.start()
            while not _arguments(paths):
                assert one.process
                assert one.process.poll() is None
            one.kill()
            left = _arguments(paths)
        agent = one.launch()
        assert not left & _arguments(paths)
        assert agent.result("state")["state"] == "none"


def test_launchers_take_over_what_the_probe_found(
    driver: Driver, bootable: DomainContext, probed: ProbeResult, scratch: Path
) -> None:
    """On whichever CPU each runs: some processors answer a bit differently on every one of theirs."""
    assert probed.virt_types
    seeds = driver.launcher(scratch, scratch / driver.name).seeds
    for _ in range(6 if seeds else 0):
        with bench(driver, talkative(driver, bootable), scratch / driver.name) as one:
            one.launch()
            for relative, source in seeds.items():
                found = {file.name: file.read_bytes() for file in Path(source).iterdir()}
                assert found
                assert {name: (one.folder / relative / name).read_bytes() for name in found} == found


def test_a_guest_without_a_console_runs_where_the_table_says_so(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    vmi = machine(driver, {"devices": {"autoattachSerialConsole": False}})
    with bench(driver, vmi, scratch / driver.name) as one:
        agent = one.launch()
        started = agent.ask("start", xml=render(vmi, driver, bootable))
        if driver.features["console.none"].verdict is Verdict.UNSUPPORTED:
            assert started["error"]["code"] == "libvirt"
            return
        assert started["result"]["state"] == "running"
        assert "<console" not in agent.result("describe")["xml"]
        agent.result("destroy")
        assert agent.until("shutoff")["reason"] == "destroyed"
        assert one.console_log() == b""


def test_a_launcher_that_is_told_to_leave_leaves_the_guest(
    driver: Driver, bootable: DomainContext, scratch: Path
) -> None:
    vmi = machine(driver)
    with bench(driver, vmi, scratch / driver.name) as one:
        agent = one.launch()
        started = agent.result("start", xml=render(vmi, driver, bootable))
        assert one.process
        one.process.terminate()
        assert one.process.wait(20) == 0
        assert one.launch().result("state")["id"] == started["id"]


def test_a_probe_that_was_cut_short_is_cleared_by_the_next(driver: Driver, probed: ProbeResult, scratch: Path) -> None:
    folder = scratch / driver.name / "cut"
    plan = driver.launcher(folder, scratch / driver.name)
    cut = Trial(folder, plan, "cut")
    cut.__enter__()
    assert cut._process
    with Trial(folder, plan, "cut"):
        assert cut._process.wait(20) == 0
    assert not folder.exists()
    cut._socket.close()
