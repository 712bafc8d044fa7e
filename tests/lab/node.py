"""A host that is a node: Polyvisor runs inside it, with the working tree, and boots the portable VM there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from polyvisor.api import Obj
from tests.lab import results, staging
from tests.lab.host import Hardware, Host, command
from tests.lab.results import Result
from tests.lab.roots import Root

SECONDS = 1500.0
"""How long the host may take. On an idle core it takes a fifth of that."""
HYPERVISORS = {"qemu": "QEMU", "xen": "Xen"}


def run(
    lane: str, driver: str, virt_type: str, root: Root, hardware: Hardware, work: Path, init: str, manifest: Obj
) -> Result:
    """Run the job in a host, in the folder ``work``; ``init`` is its first process. Raises LabError."""
    disk = staging.tree_disk(work)
    shared = work / "lab"
    shared.mkdir()
    shutil.copy(staging.INSIDE / init, shared / "init")
    staging.job(shared, lane, driver, virt_type, HYPERVISORS[driver], manifest)
    try:
        with Host(command(root, hardware, shared, (disk,)), shared) as host:
            host.wait_for("ended", SECONDS)
            host.wait(SECONDS)
            seconds = host.seconds
        found = results.read(shared / "result.json", lane, driver)
        return replace(found, seconds=seconds, cpu_seconds=host.cpu_seconds)
    finally:
        staging.keep_logs(shared, lane)
