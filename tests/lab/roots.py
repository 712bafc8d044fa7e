"""Root file systems of hosts: built by mmdebstrap from the host's own sources of Debian, kept in the user's cache.

A root is known by its recipe and by the versions of the packages that go into it, which apt tells in four seconds
without downloading any: when Debian mends one of them the root is made anew. It is a disk image that is never written
to (a host writes to a layer that is dropped), with its kernel, an initramfs and a list of versions beside it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import initramfs, making
from tests.lab.errors import LabError
from tests.lab.making import Recipe

import clean_room  # isort: skip

KEPT = 2
"""How many roots of a name stay in the cache."""


@dataclass(frozen=True)
class Root:
    """A root that is there: nobody may change its files."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.gz"

    @property
    def hypervisor(self) -> Path:
        return self.folder / "hypervisor"

    def versions(self, *packages: str) -> dict[str, str]:
        """Return package -> version, without Debian's revision."""
        lines = (line.split(" ") for line in (self.folder / "versions").read_text().splitlines())
        return {name: re.sub(r"^\d+:|[-+].*", "", version) for name, version in lines if name in packages}


def cache() -> Path:
    """Return the folder of roots."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "lab"


def host_release() -> str:
    """Return this machine's release of Debian. Raises LabError on another distribution."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None or not Path("/etc/debian_version").exists():
        raise LabError("this is not Debian; the laboratory's hosts are made of Debian's packages")
    return found[1]


def root(recipe: Recipe) -> Root:
    """Return a root, made if it is not there. Raises LabError."""
    need_root()
    folder = cache() / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _sources(recipe.release) as sources:
        versions = _versions(recipe, sources)
        made = folder / key(recipe, versions)
        if not made.is_dir():
            begin = time.monotonic()
            _make(recipe, sources, made)
            say(f"made the root {recipe.name} in {time.monotonic() - begin:.0f} s")
        os.utime(made)
        for old in sorted(folder.glob("*/"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old)
    return Root(made)


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(f"lab: {text}\n")
    sys.stdout.flush()


def key(recipe: Recipe, versions: str) -> str:
    """Return the name of a root in the cache: a digest of all that goes in."""
    whole = hashlib.sha256(f"{recipe.name}\0{recipe.release}\0{versions}\0{recipe.hypervisor}".encode())
    for path in (Path(making.__file__), Path(initramfs.__file__), *sorted(initramfs.INSIDE.glob("initramfs*"))):
        whole.update(path.read_bytes())
    for path in sorted(recipe.python.rglob("*")) if recipe.python else ():
        if path.is_file():
            whole.update(f"{path.relative_to(recipe.python)}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def simulated(said: str) -> str:
    """Return ``package version`` lines of what apt would install."""
    return "\n".join(sorted({f"{name} {version}" for name, version in re.findall(r"^Inst (\S+) \((\S+)", said, re.M)}))


def need_root() -> None:
    """Raise LabError where this process may not make root file systems."""
    if os.geteuid():
        raise LabError("making root file systems requires root: sudo make lab")


def _versions(recipe: Recipe, sources: list[Path]) -> str:
    found = simulated(making.simulate(recipe, sources))
    if not found:
        raise LabError("mmdebstrap --simulate names no packages")
    return found


def _make(recipe: Recipe, sources: list[Path], made: Path) -> None:
    """Make the root beside its place, and put it there when it is whole."""
    part = made.with_name(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        making.make(recipe, sources, part)
        part.rename(made)
    except OSError as error:
        raise LabError(f"the root {recipe.name} cannot be made: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _sources(release: str) -> Iterator[list[Path]]:
    """Have this machine's lists of Debian's packages in files, for a release."""
    folder = cache() / f".sources-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        for name, text in clean_room.sources(release).items():
            (folder / name).write_text(text)
        yield sorted(folder.iterdir())
    except clean_room.RoomError as error:
        raise LabError(str(error)) from error
    finally:
        shutil.rmtree(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same root."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
