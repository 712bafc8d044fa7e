"""QEMU with KVM that really runs guests: on most development machines /dev/kvm is absent, or boots no Linux.

The host is an emulated AMD machine whose KVM uses nested paging; in it Polyvisor runs standalone and the portable
virtual machine boots to its login prompt. AppArmor is in force there, and control groups are of version 2 alone, so
that what confines QEMU is tried as well.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from polyvisor import prerequisites
from tests.lab import node, roots, staging
from tests.lab.host import Hardware
from tests.lab.making import Recipe
from tests.lab.results import Result

DRIVER = "qemu"
NAME = "kvm"
HARDWARE = Hardware("max", 3072)
PACKAGES = (
    "linux-image-amd64",
    "apparmor",
    "busybox-static",
    "iproute2",
    "kmod",
    "procps",
    "python3",
    "python3-libvirt",
)


def packages() -> tuple[str, ...]:
    """Return the Debian packages of the host: what the list of prerequisites has for the driver, and a kernel."""
    listed = {
        entry.packages.get("debian", "")
        for entry in prerequisites.everything()
        if DRIVER in entry.drivers and "machine" in entry.lists
    }
    return tuple(sorted({*PACKAGES, *listed} - {""}))


def recipe(site: Path) -> Recipe:
    """Return what the host's root is made of."""
    return Recipe(NAME, roots.host_release(), packages(), python=site)


def run() -> Result:
    """Run the lane. Raises LabError where the host cannot be made or does not come up."""
    with tempfile.TemporaryDirectory(prefix="polyvisor-lab-") as name:
        work = Path(name)
        root = roots.root(recipe(staging.site(work / "site")))
        return node.run(NAME, DRIVER, "kvm", root, HARDWARE, work, "kvm-init", staging.portable())
