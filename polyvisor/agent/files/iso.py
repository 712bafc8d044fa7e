"""Small read-only discs (ISO 9660) made of a few files, by which a guest reads what its manifest brings along.

The files may be secrets: they go through a folder of mode 0700 that is gone afterwards, and stand in no argument list.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from polyvisor.agent.errors import translated
from polyvisor.agent.files import safepath, tools

BLOCK = 4096
"""What the length of a disc is a multiple of, so that it can be read past the host's cache on any file system."""
WRITTEN = 315532800
"""The time at which all files were written, as the guest sees it: a machine that moves finds the same on each node."""
MAX_LABEL = 32
"""Characters that an ISO's label has room for."""


def write_iso(files: Mapping[str, bytes], folder: Path, name: str, label: str, doing: str) -> Path:
    """Write ``files`` (path inside -> content) as a disc with that label; Joliet and Rock Ridge keep their names."""
    place = folder / f"{name}.iso"
    source = folder / f".{name}.seed"
    with translated(folder, doing):
        source.mkdir(mode=0o700)
    try:
        with translated(folder, doing):
            write_files(source, files, 0o600)
            for place_of_files, _, names in os.walk(source, topdown=False):
                for name in (*names, "."):
                    os.utime(Path(place_of_files, name), (WRITTEN, WRITTEN))
        program = "xorrisofs" if shutil.which("xorrisofs") else "genisoimage"
        command: list[str | Path] = [program, "-quiet", "-volid", label[:MAX_LABEL], "-joliet", "-rock"]
        tools.run([*command, "-output", place, source], doing, folder)
        place.chmod(0o600)
        os.truncate(place, -(-place.stat().st_size // BLOCK) * BLOCK)
    finally:
        safepath.remove_path(source)
    return place


def write_files(folder: Path, files: Mapping[str, bytes], mode: int) -> None:
    """Write files into a folder that was made just now; a name that leads out of it is refused."""
    with safepath.opened_root(folder) as top:
        for path, data in files.items():
            names = safepath.parts(path)
            with safepath.walk(top, names[:-1], create=True) as parent:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(names[-1], flags, mode, dir_fd=parent), "wb") as file:
                    file.write(data)
