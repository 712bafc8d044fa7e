"""Make the guest images of the demo and the tests, from Debian's packages alone, into an OCI image layout.

Three small images: ``demo-kernel`` (kernel and initramfs), ``demo-disk`` (a disk with an ext4 file system) and
``demo-rootfs`` (a tree of files with an init, for containers). Nothing is installed on the host: packages are
downloaded and read. What comes out depends on the inputs alone, so the same inputs give the same digests, and a
stamp of the inputs makes a second run take no time. Standard library only: this runs before anything is set up.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import itertools
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from oci_layout import Entry, Layout, Tree, with_parents

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
PREFIX = "localhost/polyvisor/"
MODULES = (
    "virtio_pci virtio_blk virtio_net virtio_scsi sd_mod sr_mod isofs vfat nls_cp437 nls_ascii button evdev "
    "virtio_balloon virtio_console virtiofs xen_blkfront xen_netfront"
).split()
APPLETS = (
    "ash awk basename cat chmod chown clear cp cut date dd df dmesg du echo env expr false find findfs free getty "
    "grep gunzip gzip halt head hexdump hostname id ifconfig init insmod ip kill less ln login losetup ls lsmod md5sum "
    "mkdir mkfifo mknod more mount mv nc nproc pgrep ping pkill poweroff printf ps pwd readlink reboot rm rmdir "
    "route sed seq setsid sh sha256sum sleep sort stat stty sync tail tar tee test time top touch tr true tty udhcpc "
    "umount uname uniq uptime vi wc wget which whoami xargs yes"
).split()
DISK_BYTES = 8 * 1024 * 1024
WELCOME = "hello from the demo disk, an ext4 file system inside a containerDisk"
OWN_APT = (
    "-o", "Dir::State::lists={0}/lists", "-o", "Dir::Cache={0}/cache", "-o", "Dir::State::status=/var/lib/dpkg/status",
)  # fmt: skip


class ImageError(Exception):
    """The images cannot be made; the text says why and what to do."""


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- Debian's packages ------------------------------------------------------------------------------------------------


class Packages:
    """Downloads packages into a folder; falls back on package lists of its own, so that it needs no root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: list[str] = []

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command[0], *self.options, *command[1:]], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def _own_lists(self) -> None:
        base = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial"):
            (base / name).mkdir(parents=True, exist_ok=True)
        self.options = [part.format(base) for part in OWN_APT]
        say("guest images: reading the lists of Debian's packages")
        done = self._run("apt-get", "update", "-q")
        if done.returncode:
            raise ImageError(f"apt-get update failed, so the guest images cannot be made:\n{done.stderr.strip()}")

    def kernel(self, meta: str = "linux-image-cloud-amd64") -> str:
        """Return the name of the package that holds the current kernel of a kind."""
        for attempt in range(2):
            found = re.search(r"Depends: (linux-image-\S+)", self._run("apt-cache", "depends", meta).stdout)
            if found:
                return found[1]
            if not attempt:
                self._own_lists()
        raise ImageError(f"Debian's package {meta} is not known here; the guests need its kernel")

    def fetch(self, package: str) -> Path:
        """Return the path of the package's file, downloading it if it is not there."""
        for attempt in range(2):
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                say(f"guest images: downloading {package}")
                done = subprocess.run(
                    ["apt-get", *self.options, "-q", "download", package],
                    cwd=scratch, capture_output=True, text=True, check=False,
                )  # fmt: skip
                files = list(Path(scratch).glob("*.deb"))
                if done.returncode == 0 and files:
                    return Path(shutil.move(files[0], self.folder / files[0].name))
            if not attempt:
                self._own_lists()
        raise ImageError(f"cannot download Debian's package {package}:\n{done.stderr.strip()}")


def read_package(deb: Path, wanted: re.Pattern[str]) -> dict[str, bytes]:
    """Return the ordinary files of a package whose path matches."""
    found = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isfile() and wanted.search(name):
                    source = tar.extractfile(member)
                    assert source is not None
                    found[name] = source.read()
        process.wait()
    if process.returncode or not found:
        raise ImageError(f"cannot read {deb.name}; remove it ({deb}) and run this again")
    return found


def load_order(modules: Mapping[str, bytes], wanted: list[str]) -> list[str]:
    """Return the names of the modules to load, each after those that it depends on; built-in ones are left out."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in modules:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", modules[name])
        for other in (depends[1].decode() if depends else "").split(","):
            visit(other.replace("-", "_"))
        order.append(name)

    for name in wanted:
        visit(name)
    return order


# --- Trees of files ---------------------------------------------------------------------------------------------------


def script(name: str) -> Entry:
    """Return one of the guest's scripts as an executable file."""
    return Entry(0o755, (GUEST / name).read_bytes())


def text(*lines: str, mode: int = 0o644) -> Entry:
    """Return a text file."""
    return Entry(mode, "".join(f"{line}\n" for line in lines).encode())


def userland(busybox: bytes) -> Tree:
    """Return what both guests share: busybox, its applets, users, an empty standard tree."""
    tree: Tree = {"bin/busybox": Entry(0o755, busybox)}
    for applet in APPLETS:
        tree[f"bin/{applet}"] = Entry(0o777, link="busybox")
    for name in ("poweroff", "reboot"):  # where a kernel looks that its hypervisor asks for one
        tree[f"sbin/{name}"] = Entry(0o777, link=f"../bin/{name}")
    for folder in ("dev", "mnt", "proc", "root", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var/log"):
        tree[folder] = Entry(0o755)
    tree["tmp"] = Entry(0o1777)
    tree["etc/passwd"] = text("root::0:0:root:/root:/bin/sh")
    tree["etc/group"] = text("root:x:0:", "tty:x:5:")
    tree["etc/hosts"] = text("127.0.0.1 localhost")
    return tree


def initramfs(kernel: Mapping[str, bytes], busybox: bytes) -> bytes:
    """Return the compressed initramfs for the kernel package's files."""
    modules = {}
    for name, data in kernel.items():
        if found := re.search(r"/([^/]+)\.ko(\.xz)?$", name):
            modules[found[1].replace("-", "_")] = lzma.decompress(data) if found[2] else data
    order = load_order(modules, MODULES)
    tree = userland(busybox)
    for name in order:
        tree[f"lib/modules/{name}.ko"] = Entry(0o644, modules[name])
    tree["init"] = Entry(0o777, link="bin/init")
    tree["dev/console"] = Entry(0o020600)
    tree["etc/modules"] = text(*(f"/lib/modules/{name}.ko" for name in order))
    tree["etc/inittab"] = text(
        "::sysinit:/etc/rcS", "::respawn:/etc/console-login", "::ctrlaltdel:/bin/poweroff",
        "::shutdown:/bin/echo polyvisor-demo: shutting down",
    )  # fmt: skip
    tree["etc/issue"] = text("", "Polyvisor demo guest. Log in as root; there is no password.")
    tree["etc/rcS"] = script("disk-init")
    tree["etc/console-login"] = script("disk-console")
    tree["etc/udhcpc.script"] = script("udhcpc.script")
    return gzip.compress(cpio(tree), mtime=0)


def rootfs(busybox: bytes) -> Tree:
    """Return the tree of the demo container."""
    tree = userland(busybox)
    tree["sbin/init"] = script("container-init")
    tree["sbin/login-prompt"] = script("container-prompt")
    tree["etc/issue"] = text("", "Polyvisor demo container. Log in as root; there is no password.")
    return tree


def cpio(tree: Tree) -> bytes:
    """Pack a tree as a cpio archive in the form that the kernel reads (newc)."""
    out = io.BytesIO()
    inodes = itertools.count(1)

    def put(name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        raw = name.encode() + b"\0"
        fields = (next(inodes), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields))
        out.write(raw + b"\0" * (-(110 + len(raw)) % 4) + data + b"\0" * (-len(data) % 4))

    for name, entry in with_parents(tree):
        if entry.mode & 0o170000:
            put(name, entry.mode, b"", (5, 1))
        elif entry.link is not None:
            put(name, 0o120777, entry.link.encode())
        elif entry.data is None:
            put(name, 0o040000 | entry.mode, b"")
        else:
            put(name, 0o100000 | entry.mode, entry.data)
    put("TRAILER!!!", 0, b"")
    return out.getvalue()


def disk_image(scratch: Path) -> bytes:
    """Return a raw disk that holds an ext4 file system with a greeting."""
    image, greeting = scratch / "disk.img", scratch / "welcome.txt"
    greeting.write_text(f"{WELCOME}\n")
    greeting.chmod(0o644)
    make_file_system = [
        "mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-N", "64", "-O", "^has_journal,^metadata_csum_seed",
        "-L", "polyvisor-demo", "-U", "3f1d9c1e-3d0d-5f4e-9d53-6f6c79766973",
        "-E", "hash_seed=3f1d9c1e-3d0d-5f4e-9d53-6f6c79766974,root_owner=0:0,lazy_itable_init=0",
        str(image), f"{DISK_BYTES // 1024}k",
    ]  # fmt: skip
    # Not mke2fs -d: that copies the file's change time, which nobody can set, into the image.
    add_file = ["debugfs", "-w", "-R", f"write {greeting} {greeting.name}", str(image)]
    environment = {"E2FSPROGS_FAKE_TIME": "1", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        for command in (make_file_system, add_file):
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImageError(f"e2fsprogs failed: {getattr(error, 'stderr', error)}") from error
    return image.read_bytes()


def recipe() -> str:
    """Return a digest of this program and of the guests' scripts."""
    whole = hashlib.sha256()
    for path in (Path(__file__), HERE / "oci_layout.py", *sorted(GUEST.iterdir())):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def make(images: Path, cache: Path, fresh: bool) -> bool:
    """Make whatever is missing; return whether anything was."""
    cache.mkdir(parents=True, exist_ok=True)
    layout = Layout(images)
    names = {name: f"{PREFIX}{name}:1" for name in ("demo-kernel", "demo-disk", "demo-rootfs")}
    stamp = recipe()
    if not fresh and layout.has(list(names.values()), stamp):
        return False
    packages = Packages(cache)
    kernels, boxes = sorted(cache.glob("linux-image-*.deb")), sorted(cache.glob("busybox-static_*.deb"))
    kernel_deb = kernels[-1] if kernels and not fresh else packages.fetch(packages.kernel())
    busybox_deb = boxes[-1] if boxes and not fresh else packages.fetch("busybox-static")
    say("guest images: packing")
    busybox = next(iter(read_package(busybox_deb, re.compile(r"(^|/)bin/busybox$")).values()))
    pattern = "|".join(re.escape(name).replace("_", "[_-]") for name in module_closure())
    kernel = read_package(kernel_deb, re.compile(rf"^boot/vmlinuz-|/({pattern})\.ko(\.xz)?$"))
    vmlinuz = next(data for name, data in kernel.items() if name.startswith("boot/"))
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        disk = disk_image(Path(scratch))
    trees: dict[str, Tree] = {
        "demo-kernel": {
            "boot/vmlinuz": Entry(0o644, vmlinuz),
            "boot/initrd.img": Entry(0o644, initramfs(kernel, busybox)),
        },
        "demo-disk": {"disk/demo.img": Entry(0o644, disk)},
        "demo-rootfs": rootfs(busybox),
    }
    layout.name({names[name]: layout.image(tree, stamp) for name, tree in trees.items()}, stamp)
    return True


def module_closure() -> list[str]:
    """Return the modules wanted and those that they may depend on."""
    return [*MODULES, *"virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev failover net_failover".split(),
            *"scsi_mod scsi_common cdrom t10_pi crc_t10dif crct10dif_common crc64_rocksoft crc64 fat".split(),
            *"crc64_rocksoft_generic crct10dif_generic nls_utf8 virtio_dma_buf fuse".split()]  # fmt: skip


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Make the demo's guest images from Debian's packages.")
    parser.add_argument("images", type=Path, help="folder of the OCI image layout")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build/guest", help="where downloads are kept")
    parser.add_argument("--fresh", action="store_true", help="download and make everything again")
    arguments = parser.parse_args()
    begin = time.monotonic()
    try:
        made = make(arguments.images, arguments.cache, arguments.fresh)
    except (ImageError, OSError) as error:
        sys.stderr.write(f"guest images: {error}\n")
        return 1
    say(f"guest images: {'made' if made else 'there already'} in {arguments.images} ({time.monotonic() - begin:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
