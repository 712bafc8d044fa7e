"""A real Xen, as a node: Polyvisor runs in the first domain (dom0), as on a Xen server that is given to it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab import node, roots, staging
from tests.lab.host import Hardware
from tests.lab.lanes import xen
from tests.lab.results import Result

DRIVER = "xen"
NAME = "dom0"


def run() -> Result:
    """Run the lane. Raises LabError where the host cannot be made or does not come up."""
    hardware = Hardware(xen.CPU, 3072, {}, xen.HYPERVISOR_LINE, xen.KERNEL_LINE, "pc")
    with tempfile.TemporaryDirectory(prefix="polyvisor-lab-") as name:
        work = Path(name)
        root = roots.root(xen.recipe(staging.site(work / "site")))
        manifest = staging.without_networks(staging.portable())  # the driver has no networks yet
        return node.run(NAME, DRIVER, "xenpv", root, hardware, work, "xen-init", manifest)
