"""Making a root file system: Debian's packages, Python's, and what boots it.

mmdebstrap makes the tree natively, so that nothing is installed in an emulated machine, which takes ten times as long.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab import initramfs
from tests.lab.errors import LabError

import clean_room  # isort: skip

LEAN = ("man", "doc", "locale", "info", "i18n/locales", "lintian", "zoneinfo")
ACCOUNTS = (
    "groupadd --system --force kvm; groupadd --system --force libvirt; groupadd --system --force libvirt-qemu; "
    "id libvirt-qemu >/dev/null 2>&1 || useradd --system --no-create-home --gid libvirt-qemu --groups kvm libvirt-qemu"
)
"""Those that libvirt expects; Debian's libvirt-daemon-system makes them, and brings systemd."""
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "env", "INITRD=No")
"""mmdebstrap mounts this machine's /dev and /sys below the tree. With mounts of its own none of them is left when it is
killed, where removing the tree would remove what is mounted. INITRD=No: the kernel's package makes no initramfs,
which takes a minute."""
SPARE_BYTES = 512 << 20
MODULE_FOLDERS = ("kernel/drivers/gpu", "kernel/drivers/media", "kernel/sound", "kernel/drivers/infiniband")
"""Modules of hardware that an emulated host does not have, a third of the kernel's package."""


@dataclass(frozen=True)
class Recipe:
    """What a root is made of. ``python`` is a folder of packages for Debian's Python, ``hypervisor`` what /boot has."""

    name: str
    release: str
    packages: tuple[str, ...]
    python: Path | None = None
    hypervisor: str = ""


def simulate(recipe: Recipe, sources: list[Path]) -> str:
    """Return what apt would say if it installed the packages."""
    return call(*_mmdebstrap(recipe, "--simulate", "--verbose"), recipe.release, "/dev/null", *sources)


def _mmdebstrap(recipe: Recipe, *more: str) -> list[str]:
    options = [f"--aptopt={option}" for option in clean_room.apt_options()]
    options += ['--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEAN]
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is not installed: apt-get install mmdebstrap")
    return [*ALONE, "mmdebstrap", *more, "--variant=minbase", f"--include={','.join(recipe.packages)}", *options]


def make(recipe: Recipe, sources: list[Path], folder: Path) -> None:
    """Make a root's files in a folder that is there and empty. Raises LabError."""
    tree = folder / "tree"
    hook = f"--customize-hook=chroot \"$1\" sh -c '{ACCOUNTS}'"
    call(*_mmdebstrap(recipe, "--quiet", "--format=directory", hook), recipe.release, tree, *sources)
    (folder / "versions").write_text(
        call("dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\\n")
    )
    if recipe.python:
        _add_python(recipe.python, tree)
    _boot_files(recipe, tree, folder)
    pack(tree, folder / "root.img", SPARE_BYTES)


def _add_python(source: Path, tree: Path) -> None:
    """Put packages beside Debian's own, compiled: an emulated machine would take minutes for that."""
    target = tree / "usr/lib/python3/dist-packages"
    shutil.copytree(source, target, dirs_exist_ok=True)
    own = [f"/{path.relative_to(tree)}" for path in sorted((tree / "usr/lib").glob("python3*"))]
    call("chroot", tree, "python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *own)


def _boot_files(recipe: Recipe, tree: Path, part: Path) -> None:
    """Take kernel and hypervisor out of the tree, and make the initramfs of its modules."""
    modules = next((tree / "lib/modules").iterdir())
    for folder in MODULE_FOLDERS:
        shutil.rmtree(modules / folder, ignore_errors=True)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), part / "vmlinuz")
    if recipe.hypervisor:
        (part / "hypervisor").write_bytes(gzip.decompress(next((tree / "boot").glob(recipe.hypervisor)).read_bytes()))
    (part / "initrd.gz").write_bytes(
        initramfs.make(initramfs.read_modules(modules), (tree / "bin/busybox").read_bytes())
    )
    for path in (tree / "boot").glob("initrd*"):
        path.unlink()


def pack(tree: Path, disk: Path, spare_bytes: int) -> None:
    """Make a disk image with the tree in a file system, and remove the tree."""
    used = sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))
    with disk.open("xb") as file:
        os.ftruncate(file.fileno(), used + used // 4 + spare_bytes)
    call("mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-O", "^has_journal", "-d", tree, disk)
    shutil.rmtree(tree)


def call(*command: str | Path) -> str:
    """Run a command that must succeed, and return what it printed, errors included."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(map(str, command[:7]))} failed:\n{done.stdout.strip()[-2000:]}")
    return done.stdout
