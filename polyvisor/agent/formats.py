"""Disk images that others bring: in which format they are, whether they reach beyond themselves, and making them raw.

An image is hostile until it was looked at: several formats can name other files, which qemu-img would then read as
root. The format is told here from the file's first bytes, and named to qemu-img, which never guesses; and qemu-img is
given little memory and time for what it only describes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyvisor.agent import tools
from polyvisor.agent.errors import AgentError, ImageError

RAW = "raw"
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
)
"""Where in a file stands what, and the format that this is, by qemu-img's name."""
REFUSED = (
    (b"COWD", "an old VMDK image"),
    (b"QED\0", "a QED image"),
    (b"# Disk DescriptorFile", "a VMDK description, which names its data in other files"),
)
HEAD = 512
LIMITS = ("prlimit", "--as=2147483648", "--cpu=60")
"""What qemu-img may use to describe an image: a hostile one can ask for much."""
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


def format_of(head: bytes, called: str) -> str:
    """Return the format of an image by its first bytes; what has no mark is raw."""
    for magic, what in REFUSED:
        if head.startswith(magic):
            raise ImageError(f"{called} is {what}; bring it as qcow2, raw, vmdk, vdi or vhdx", retry=False)
    return next((name for offset, magic, name in MAGIC if head[offset : offset + len(magic)] == magic), RAW)


def size_inside(path: Path, format_: str, called: str) -> int:
    """Return the size of the disk in an image that is not raw; refuse one that reads other files."""
    command: list[str | Path] = [*LIMITS, "qemu-img", "info", "--output=json", "-f", format_, path]
    try:
        found = json.loads(tools.output(command, f"looking at {called}", path.parent))
    except AgentError as error:
        raise ImageError(f"{called} is no readable {format_} image: {str(error)[-200:]}", retry=False) from None
    except ValueError:
        raise ImageError(f"{called} is no readable {format_} image", retry=False) from None
    others = {str(name) for name in _named(found)} - {str(path)}
    if others or "backing-filename" in found:
        raise ImageError(f"{called} is refused: it reads other files; flatten it with qemu-img convert", retry=False)
    return int(found["virtual-size"])


def _named(found: Any) -> list[Any]:
    """Return the files that an image names."""
    data = (found.get("format-specific") or {}).get("data") or {}
    extents = [extent.get("filename") for extent in data.get("extents") or [] if isinstance(extent, dict)]
    named = [found.get("backing-filename"), found.get("full-backing-filename"), data.get("data-file"), *extents]
    return [name for name in named if name]


def to_raw(
    path: Path,
    format_: str,
    place: Path,
    called: str,
    progress: Callable[[float], None],
    stop: threading.Event,
) -> None:
    """Write an image that was looked at as a raw one; ``progress`` is told how much of it is done, from 0 to 1."""
    program = shutil.which("qemu-img")
    if program is None:
        raise AgentError(f"converting {called}: qemu-img is not installed; install the Debian package qemu-utils")
    command = [program, "convert", "-p", "-f", format_, "-O", RAW, "-t", "writeback", str(path), str(place)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for told in iter(lambda: os.read(process.stdout.fileno(), 4096), b""):  # type: ignore[union-attr]
                if percents := _PERCENT.findall(told):
                    progress(float(percents[-1]) / 100)
                if stop.is_set():
                    raise AgentError(f"converting {called} was given up")
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        if "No space left on device" in said:
            raise AgentError(f"no space left while converting {called}; free some space")
        raise ImageError(f"converting {called}: {said[-300:]}", retry=False)
