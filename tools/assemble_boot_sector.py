"""Assemble the probe's boot sector: polyvisor/drivers/qemu/boot_sector.S to boot_sector.bin, by GNU as and ld."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "polyvisor" / "drivers" / "qemu"
SOURCE, BINARY = FOLDER / "boot_sector.S", FOLDER / "boot_sector.bin"


def assemble(source: Path = SOURCE) -> bytes:
    """Return the machine code; raises :class:`subprocess.CalledProcessError` where the source is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder) / "code.o", Path(folder) / "code.bin"
        subprocess.run(["as", "--64", "-o", compiled, source], check=True)
        layout = ["-m", "elf_x86_64", "-Ttext=0x7c00", "--oformat", "binary"]
        subprocess.run(["ld", *layout, "-o", linked, compiled], check=True)
        return linked.read_bytes()


if __name__ == "__main__":
    BINARY.write_bytes(assemble())
