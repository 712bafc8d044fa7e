"""A whole Debian, for tests: systemd, cloud-init, an SSH server and the guest's agent, as a tree and as a disk image.

Made once by mmdebstrap, kept outside the tree, and copied for each use. The kernel and its initramfs stand apart, so
that a machine boots them directly.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "polyvisor" / "full-guest"
SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "iproute2",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "cloud-init",
    "openssh-server",
    "sudo",
    "qemu-guest-agent",
)
LEAN = ("man", "doc", "locale", "info", "i18n/locales")
CLOUD = """\
datasource_list: [NoCloud, ConfigDrive, None]
system_info:
  network:
    renderers: [networkd]
ssh_genkeytypes: [ed25519]
locale: false
"""
DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Debian:
    """Where the parts lie; nobody may change them."""

    tree: Path
    disk: Path
    kernel: Path
    initrd: Path


def debian() -> Debian:
    """Return the guest, made if it is not there: a minute, most of it unpacking."""
    stamp = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = CACHE / stamp
    if not folder.exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        part = CACHE / f"{stamp}.part"
        part.mkdir(parents=True)
        _make(part)
        part.rename(folder)
    return Debian(folder / "root", folder / "disk.img", folder / "vmlinuz", folder / "initrd.img")


def _make(folder: Path) -> None:
    root = folder / "root"
    options = ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
    options += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEAN]
    command = ["mmdebstrap", *options, f"--include={','.join(PACKAGES)}", SUITE, root]
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    (root / "etc/cloud/cloud.cfg.d/90_test.cfg").write_text(CLOUD)
    (root / "etc/fstab").write_text("")
    (root / "etc/machine-id").write_text("")
    wants = root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    wants.symlink_to("/lib/systemd/system/systemd-networkd.service")
    disk = folder / "disk.img"
    with disk.open("xb") as file:
        os.ftruncate(file.fileno(), DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", "-L", "root", "-d", root, disk], check=True)
