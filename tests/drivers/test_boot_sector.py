"""The boot sector by which QEMU is tried: what is shipped is what its source says, it runs, and it can fail."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from polyvisor.drivers.qemu import boot_sector
from tools import assemble_boot_sector

ALL = b"".join(b"boot sector: %s\n" % step.encode() for step in boot_sector.STEPS)


def run(folder: Path, *options: str, until: bytes) -> bytes:
    """Run it under emulation, without libvirt, until its console says something."""
    disk = boot_sector.write_disk(folder / "disk.img")
    console, theirs = os.pipe()
    drive = ["-drive", f"file={disk},format=raw,if=none,id=disk,readonly=on", "-device", "virtio-blk,drive=disk"]
    machine = ["-machine", "q35,accel=tcg", "-m", "128", "-nodefaults", "-no-reboot", "-display", "none"]
    process = subprocess.Popen(
        ["qemu-system-x86_64", *machine, *drive, "-serial", "stdio", "-monitor", "none", *options],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while until not in said and (data := os.read(console, 4096)):
            said += data.replace(b"\r", b"")
    finally:
        process.kill()
        process.wait()
        os.close(console)
    return said


def test_the_shipped_code_is_the_assembled_source() -> None:
    assert assemble_boot_sector.assemble() == assemble_boot_sector.BINARY.read_bytes(), (
        "run tools/assemble_boot_sector.py"
    )


def test_source_and_module_name_the_same_steps() -> None:
    texts = re.findall(r'\.asciz +"boot sector: ([a-z ]+)\\n"', assemble_boot_sector.SOURCE.read_text())
    assert sorted(texts) == sorted(boot_sector.STEPS)


def test_it_makes_every_step_on_a_whole_machine(tmp_path: Path) -> None:
    assert run(tmp_path, until=boot_sector.DONE + b"\n").endswith(ALL)


@pytest.mark.parametrize(
    ("cpu", "last"),
    [("qemu32", b"has no long mode\n"), ("qemu64,-syscall", b"boot sector: exceptions\n")],
)
def test_it_stops_where_a_machine_lacks_something(tmp_path: Path, cpu: str, last: bytes) -> None:
    said = run(tmp_path, "-cpu", cpu, until=last)
    assert said.endswith(last)
    assert boot_sector.DONE not in said


@pytest.mark.parametrize(
    ("console", "words"),
    [
        (b"", "the firmware did not start the boot sector"),
        (b"SeaBIOS\r\nboot sector: real mode\r\n", "the boot sector stopped after 'real mode'"),
        (
            b"boot sector: real mode\r\nboot sector: protected mode\r\nboot",
            "the boot sector stopped after 'protected mode'",
        ),
        (ALL, "the boot sector stopped after 'works'"),
    ],
)
def test_words_say_how_far_it_came(console: bytes, words: str) -> None:
    assert boot_sector.stopped(console) == words
