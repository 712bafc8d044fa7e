"""The emulated machine's command line, and that nothing of it is left however a lane ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab.errors import LabError
from tests.lab.host import Hardware, Host, command
from tests.lab.roots import Root

ROOT = Root(Path("/cache/root"))
SHARED = Path("/shared/lab")


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_a_host_of_linux_boots_its_kernel() -> None:
    words = command(ROOT, Hardware("max", 3072), SHARED)
    assert words[0] == "qemu-system-x86_64"
    assert after(words, "-cpu") == "max"
    assert after(words, "-smp") == "1"
    assert after(words, "-kernel") == "/cache/root/vmlinuz"
    assert after(words, "-initrd") == "/cache/root/initrd.gz"
    assert "quiet" in after(words, "-append").split()


def test_a_host_of_another_hypervisor_boots_that_with_linux_as_its_module() -> None:
    words = command(ROOT, Hardware("Nehalem", 3072, hypervisor_line="dom0_mem=1G", kernel_line="console=hvc0"), SHARED)
    assert after(words, "-kernel") == "/cache/root/hypervisor"
    assert after(words, "-append") == "dom0_mem=1G"
    assert after(words, "-initrd") == "/cache/root/vmlinuz console=hvc0,/cache/root/initrd.gz"


def test_no_disk_is_ever_written_to() -> None:
    words = command(ROOT, Hardware("max", 1024), SHARED, (Path("/shared/tree.img"),))
    drives = [words[place + 1] for place, word in enumerate(words) if word == "-drive"]
    assert [drive.split(",")[0] for drive in drives] == ["file=/cache/root/root.img", "file=/shared/tree.img"]
    assert "snapshot=on" in drives[0]
    assert "readonly=on" in drives[1]


def test_ports_are_forwarded_from_this_machine_alone() -> None:
    words = command(ROOT, Hardware("max", 1024, {2222: 22}), SHARED)
    assert after(words, "-netdev") == "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22"


def test_a_program_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    with (
        pytest.raises(LabError, match="qemu-nowhere is not installed: apt-get install qemu-system-x86"),
        Host(["qemu-nowhere"], tmp_path),
    ):
        pass


def test_a_host_ends_with_its_lane(tmp_path: Path) -> None:
    host = Host([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    with pytest.raises(KeyboardInterrupt), host:
        raise KeyboardInterrupt
    assert host.ended


def test_a_file_that_the_host_writes_is_waited_for(tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'ready')!r}, 'w')"
    with Host([sys.executable, "-c", script], tmp_path) as host:
        assert host.wait_for("ready", 60) == tmp_path / "ready"
        host.wait(60)


def test_a_host_that_ends_early_shows_its_console(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text("Kernel panic\r\n")
    script = "import sys; sys.exit('no such machine')"
    with (
        pytest.raises(LabError, match=r"before it wrote ended: no such machine\nKernel panic"),
        Host([sys.executable, "-c", script], tmp_path) as host,
    ):
        host.wait_for("ended", 60)
