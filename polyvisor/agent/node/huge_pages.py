"""The huge pages of this machine: how many its administrator has set aside, and whether a guest's memory finds enough.

Nothing here sets pages aside: that takes memory from everything else on the host, so it is an administrator's choice.
"""

from __future__ import annotations

from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity
from polyvisor.machine import Machine

ROOT = Path("/sys/kernel/mm/hugepages")


def reserved(root: Path = ROOT) -> dict[int, int]:
    """Return how many pages of each size, in bytes, are set aside."""
    return {size: _count(folder / "nr_hugepages") for size, folder in _sizes(root).items()}


def check(spec: Obj, root: Path = ROOT) -> None:
    """Raise if a machine wants more huge pages than are free: libvirt would only tell that the hypervisor ended."""
    memory = Machine.read(spec).memory
    size, wanted = memory.page, memory.pages
    if not size:
        return
    folder = _sizes(root).get(size)
    named = format_quantity(size)
    if folder is None:
        has = ", ".join(format_quantity(one) for one in sorted(_sizes(root))) or "none"
        raise AgentError(
            f"spec.domain.memory.hugepages.pageSize: {named} is not a page size of this host; it has {has}"
        )
    there = _count(folder / "nr_hugepages")
    free = _count(folder / "free_hugepages") - _count(folder / "resv_hugepages")
    if free < wanted:
        more = there + wanted - free
        raise AgentError(
            f"spec.domain.memory.hugepages: {wanted} pages of {named} are wanted, and {max(free, 0)} of this host's "
            f"{there} are free; set aside more by: echo {more} > {folder}/nr_hugepages"
        )


def _sizes(root: Path) -> dict[int, Path]:
    found = {}
    for folder in root.glob("hugepages-*kB") if root.is_dir() else ():
        kib = folder.name.removeprefix("hugepages-").removesuffix("kB")
        if kib.isdigit():
            found[int(kib) * 1024] = folder
    return found


def _count(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
