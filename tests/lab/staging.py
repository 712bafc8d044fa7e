"""What a host is given of the working tree: a read-only disk with the package, its examples and the guests' images.

The Python packages that it needs are a part of its root, as they change seldom; libvirt's bindings, which need a
compiler, are Debian's there and fit its libvirt.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import yaml

from polyvisor.api import Obj
from tests import kept
from tests.lab.making import call, pack

import images  # isort: skip

TOP = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside")
LOGS = TOP / "build" / "lab"
SPARE_BYTES = 16 << 20
DEBIANS = frozenset({"libvirt-python"})
OURS = "polyvisor"
TESTS = ("tests/__init__.py", "tests/e2e/__init__.py", "tests/e2e/guest_shell.py")
"""What jobs use of the tests."""


def site(folder: Path) -> Path:
    """Fill a folder with the Python packages of the lock that Polyvisor needs, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    for package in images.runtime_packages(DEBIANS):
        if package.name != OURS:
            images.copy_package(package, folder)
    return folder


def tree_disk(folder: Path) -> Path:
    """Make a disk image of the working tree in a folder, and return it."""
    tree = folder / "tree"
    shutil.copytree(TOP / OURS, tree / OURS, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TOP / "examples", tree / "examples")
    for name in TESTS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tree / name)
    shutil.copytree(kept.guest_images(), tree / "images")
    for package in images.runtime_packages(DEBIANS):
        if package.name == OURS:
            images.copy_package(package, tree)  # the metadata, by which drivers are found
    # Compiled here: it takes an emulated machine minutes. Another Python there ignores it and compiles for itself.
    call(sys.executable, "-m", "compileall", "-q", "-s", tree, "-p", "/srv/polyvisor", "--invalidation-mode",
          "unchecked-hash", tree / OURS)  # fmt: skip
    disk = folder / "tree.img"
    pack(tree, disk, SPARE_BYTES)
    return disk


def portable() -> Obj:
    """Return the manifest of the portable VM."""
    found: Obj = yaml.safe_load((TOP / "examples/portable.yaml").read_text())
    return found


def without_networks(manifest: Obj) -> Obj:
    """Take the networks out of a manifest, for a driver that has none, and return it."""
    spec = manifest["spec"]["template"]["spec"]
    del spec["networks"], spec["domain"]["devices"]["interfaces"]
    spec["domain"]["devices"]["autoattachPodInterface"] = False
    return manifest


def job(shared: Path, lane: str, driver: str, virt_type: str, hypervisor: str, manifest: Obj) -> None:
    """Write the job that a host runs: the portable VM with one driver; ``hypervisor`` is what the result calls it."""
    for name in ("job.py", "snapshot"):
        shutil.copy(INSIDE / name, shared)
    given = {"driver": driver, "virtType": virt_type, "hypervisor": hypervisor}
    (shared / "job.json").write_text(json.dumps({**given, "result": {"lane": lane, "driver": driver}}))
    manifest["spec"]["template"]["spec"]["hypervisor"] = {"driver": driver, "virtType": virt_type}
    (shared / "manifest.yaml").write_text(yaml.safe_dump(manifest))


def keep_logs(shared: Path, lane: str) -> None:
    """Put what a host wrote into ``build/lab/LANE``, in the place of what the last one wrote."""
    target = LOGS / lane
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in shared.iterdir():
        if path.is_file() and path.suffix in (".log", ".json"):
            shutil.copy(path, target)
