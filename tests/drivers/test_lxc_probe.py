"""LXC's probe: what it needs of a host beyond libvirt and control groups is nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polyvisor.drivers.lxc import probe
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
