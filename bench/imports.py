"""How fast an image comes into a claim, against the plain tool that does the same work, taken in turns.

Ours tells the format, refuses what reaches beyond the image, keeps to the claim's size and puts the disk in place by a
rename, synchronised to the disk. The plain tool writes beside it and is synchronised too.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from polyvisor.agent.imports.incoming import Incoming

MIB = 1024 * 1024
SIZE = 512 * MIB
PIECE = 64 * 1024
"""Bytes at a time, as they come from a network."""


@dataclass(frozen=True)
class Import:
    """Seconds for one kind of image, ours and the plain tool's."""

    kind: str
    tool: str
    ours: list[float]
    floor: list[float]


def measure(pairs: int) -> list[Import]:
    """Bring images in, in turns with the tools."""
    with tempfile.TemporaryDirectory(prefix="pvi") as name:
        folder = Path(name)
        raw, qcow2, packed = folder / "disk.img", folder / "disk.qcow2", folder / "disk.gz"
        _half_full(raw)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2], check=True)
        with packed.open("wb") as file:
            subprocess.run(["gzip", "-1", "-c", raw], stdout=file, check=True)
        out = folder / "out.img"
        kinds: list[tuple[str, str, Callable[[], None], Callable[[], None]]] = [
            ("raw, from the image cache", "cp --sparse=always", lambda: _take(folder, raw), lambda: _copied(raw, out)),
            ("raw, as bytes that arrive", "cp --sparse=always", lambda: _bring(folder, raw), lambda: _copied(raw, out)),
            (
                "qcow2, as bytes that arrive",
                "qemu-img convert",
                lambda: _bring(folder, qcow2),
                lambda: _made(qcow2, out),
            ),
            (
                "raw in gzip, as bytes that arrive",
                "gzip -dc",
                lambda: _bring(folder, packed),
                lambda: _gunzip(packed, out),
            ),
        ]
        return [_paired(kind, tool, ours, floor, pairs) for kind, tool, ours, floor in kinds]


def _paired(kind: str, tool: str, ours: Callable[[], None], floor: Callable[[], None], pairs: int) -> Import:
    found = Import(kind, tool, [], [])
    for _ in range(pairs):
        found.floor.append(_seconds(floor))
        found.ours.append(_seconds(ours))
    return found


def _seconds(act: Callable[[], None]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _half_full(path: Path) -> None:
    with path.open("wb") as file:
        for start in range(0, SIZE, 8 * MIB):
            file.seek(start)
            file.write(os.urandom(4 * MIB))
        file.truncate(SIZE)


@contextmanager
def _incoming(folder: Path) -> Iterator[Incoming]:
    with Incoming(folder / "volumes", "bench", "claim", SIZE, "the image") as into:
        yield into


def _take(folder: Path, image: Path) -> None:
    with _incoming(folder) as into:
        into.take(image)


def _bring(folder: Path, image: Path) -> None:
    with _incoming(folder) as into, image.open("rb") as file:
        while piece := file.read(PIECE):
            into.write(piece)
        into.finish()


def _copied(image: Path, out: Path) -> None:
    out.unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=always", image, out], check=True)
    _synchronised(out)


def _made(image: Path, out: Path) -> None:
    out.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-t", "writeback", image, out], check=True)
    _synchronised(out)


def _gunzip(image: Path, out: Path) -> None:
    with out.open("wb") as file:
        subprocess.run(["gzip", "-dc", image], stdout=file, check=True)
    _synchronised(out)


def _synchronised(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rows(imports: list[Import]) -> list[list[str]]:
    """Return the table."""
    found = [["image of 512 MiB, half of it data", "pairs", "ours, MiB/s", "plain tool, MiB/s", "ours takes"]]
    for one in imports:
        ours, floor = SIZE / MIB / median(one.ours), SIZE / MIB / median(one.floor)
        ratio = f"{median(one.ours) / median(one.floor):.2f} times as long"
        found.append([one.kind, str(len(one.ours)), f"{ours:,.0f}", f"{floor:,.0f} (`{one.tool}`)", ratio])
    return found
