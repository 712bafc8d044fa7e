"""LXC's probe: what it needs of a host beyond libvirt and control groups is nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.features import asked
from polyvisor.drivers.lxc import LxcDriver, probe
from polyvisor.drivers.trial import TrialError
from polyvisor.drivers.verdict import answer, shown
from tests.folders import short_folder


def test_a_container_runs_the_hosts_shell() -> None:
    """So it is available on a host without busybox."""
    with short_folder() as scratch:
        found = probe.probe(scratch)
        assert found.available, found.reason
        assert found.virt_types == ("lxc",)
        assert not (scratch / "root").exists()


@pytest.mark.root
def test_something_may_be_mounted_below_the_hosts_folders(tmp_path: Path) -> None:
    """Such as ``/usr/local`` of its own, or a file that a container runtime mounts below ``/usr/lib``."""
    code = "import sys, pathlib; from polyvisor.drivers.lxc.probe import probe; print(probe(pathlib.Path(sys.argv[1])))"
    script = 'mount --bind "$1" /usr/local && exec "$2" -c "$3" "$4"'
    with short_folder() as scratch:
        command = ["unshare", "--mount", "sh", "-ec", script, "sh", tmp_path, sys.executable, code, scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "available=True" in done.stdout, done.stdout


def test_its_controller_is_where_the_distribution_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "CONTROLLERS", (tmp_path / "lib/libvirt_lxc", tmp_path / "libexec/libvirt_lxc"))
    assert probe._missing() == "libvirt's LXC driver is not installed"
    (tmp_path / "libexec").mkdir()
    (tmp_path / "libexec/libvirt_lxc").touch()
    assert probe._missing() == ""


def test_the_hosts_folders_are_mounted_and_its_links_are_kept() -> None:
    with short_folder() as scratch:
        shared = probe._make_root(scratch / "root")
        again = probe._make_root(scratch / "root")  # a probe that was cut short has left one
        assert shared == again
        assert "usr" in shared
        for name in ("bin", "lib64"):
            assert (scratch / "root" / name).is_symlink() == Path("/", name).is_symlink()
        xml = probe._xml(scratch / "root", shared)
    assert xml.count("<readonly/>") == len(shared)


class Container:
    """A trial whose libvirt pauses, or cannot."""

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        self.asked: list[str] = []

    def call(self, operation: str) -> None:
        self.asked.append(operation)
        if self.refusal:
            raise TrialError(self.refusal)


def test_a_node_shows_that_its_containers_can_be_paused_only_if_one_was() -> None:
    able: Any = Container("")
    assert probe._facts(able) == {"lifecycle.pause", "lifecycle.start-paused"}
    assert able.asked == ["pause", "resume"]
    unable: Any = Container("Requested operation is not valid: cgroup FREEZER controller is not mounted")
    assert probe._facts(unable) == frozenset()


def test_a_machine_that_starts_paused_goes_to_a_node_that_can() -> None:
    driver = LxcDriver()
    result = ProbeResult(True, libvirt_version="11.3.0", virt_types=("lxc",))
    assert "lifecycle.start-paused" not in shown(driver, result)
    assert "lifecycle.start-paused" in shown(driver, replace(result, facts=probe.PAUSE))
    spec = VirtualMachineInstanceSpec.model_validate({"startStrategy": "Paused", "domain": {"devices": {}}})
    (asked_of,) = [feature for feature, _ in asked(spec) if feature.id == "lifecycle.start-paused"]
    assert answer(driver, asked_of).node_fact
