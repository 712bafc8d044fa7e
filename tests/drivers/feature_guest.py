"""A guest that looks at itself: Debian's whole kernel with its drivers, and an init that prints what it finds.

The demo's guest has the small cloud kernel, which knows no SATA, USB, sound or old network cards.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import guest_images  # noqa: E402
from oci_layout import Entry  # noqa: E402

INIT = Path(__file__).with_name("feature_init.sh")
CACHE = TOP / "build" / "feature-guest"
MODULES = (
    "virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio_rng virtio_input ahci sd_mod sr_mod xhci_pci "
    "usb_storage uas usbhid e1000 e1000e ne2k_pci pcnet32 8139cp i6300esb snd_hda_intel snd_intel8x0 isofs evdev "
    "efivarfs virtio_console tpm_tis tpm_crb hid_generic nls_utf8 virtiofs"
).split()
FACT = re.compile(r"^FACT (\S+) ?(.*?)\s*$", re.MULTILINE)
END = b"FACT end"
Facts = dict[str, str]


def kernel_and_initrd() -> tuple[Path, Path]:
    """Return the guest's kernel and initramfs, made if need be: a download of 70 MB and some seconds."""
    stamp = hashlib.sha256(INIT.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    kernel, initrd = CACHE / f"vmlinuz-{stamp}", CACHE / f"initrd-{stamp}"
    if not (kernel.exists() and initrd.exists()):
        CACHE.mkdir(parents=True, exist_ok=True)
        packages = guest_images.Packages(CACHE)
        kernel_deb = next(iter(sorted(CACHE.glob("linux-image-*.deb"))), None)
        kernel_deb = kernel_deb or packages.fetch(packages.kernel("linux-image-amd64"))
        busybox_deb = next(iter(sorted(CACHE.glob("busybox-static_*.deb"))), None) or packages.fetch("busybox-static")
        tree = CACHE / "unpacked"
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", kernel_deb, tree], check=True)
        busybox = guest_images.read_package(busybox_deb, re.compile(r"(^|/)bin/busybox$"))
        initrd.write_bytes(_initrd(tree, next(iter(busybox.values()))))
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), kernel)
        shutil.rmtree(tree)
    return kernel, initrd


def _initrd(unpacked: Path, busybox: bytes) -> bytes:
    paths = {path.stem.replace("-", "_"): path for path in unpacked.glob("lib/modules/**/*.ko")}
    modules: dict[str, bytes] = {}
    wanted = list(MODULES)
    while wanted:
        name = wanted.pop()
        if name in paths and name not in modules:
            modules[name] = paths[name].read_bytes()
            depends = re.search(rb"\0depends=([^\0]*)\0", modules[name])
            wanted += [d.replace("-", "_") for d in (depends[1].decode() if depends else "").split(",") if d]
    order = guest_images.load_order(modules, list(MODULES))
    tree = guest_images.userland(busybox)
    for name in order:
        tree[f"lib/modules/{name}.ko"] = Entry(0o644, modules[name])
    tree["etc/modules"] = guest_images.text(*(f"/lib/modules/{name}.ko" for name in order))
    tree["dev/console"] = Entry(0o020600)
    tree["init"] = Entry(0o755, INIT.read_bytes())
    return gzip.compress(guest_images.cpio(tree), compresslevel=1, mtime=0)


def facts(console: bytes) -> Facts:
    """Return what the guest printed; a fact that comes several times is joined by blanks."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in FACT.findall(console.decode(errors="replace").replace("\r", "")):
        found[key].append(value)
    return {key: " ".join(values) for key, values in found.items()}
