"""What a machine costs beside its hypervisor: proportional set size (PSS) of launcher, private daemon and controller.

PSS counts a page that n processes share as 1/n to each, so the sum over processes is what they take together. The
hypervisor's own process (QEMU) and the guest's processes are not counted; libvirt's controller of a container is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.home import Home, delete_and_wait, machine, post_and_wait

KIB = 1024


@dataclass(frozen=True)
class Cost:
    """MiB a machine, of ``count`` running at once: what belongs to each, and what the common process grew by."""

    driver: str
    count: int
    own: float
    common: float

    @property
    def total(self) -> float:
        """Everything."""
        return self.own + self.common


def pss(pid: int) -> int:
    """Return a process's PSS in KiB, 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def helpers(folder: Path, name: str) -> list[int]:
    """Return the processes of a machine that are neither its hypervisor nor its guest's."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        ours = str(folder) in command or f"--name default_{name} " in command
        if ours and "qemu-system" not in command.partition(" ")[0]:
            found.append(int(entry.name))
    return found


async def measure(home: Home, driver: str, count: int) -> Cost:
    """Run ``count`` machines at once and weigh what they need."""
    names = [f"m{number}-{driver}-{count}" for number in range(count)]
    async with home.client() as client:
        before = pss(home.pid)
        for name in names:
            await post_and_wait(client, machine(name, driver))
        processes = [pid for name in names for pid in helpers(await home.launcher_folder(client, name), name)]
        own = sum(pss(pid) for pid in processes)
        common = max(0, pss(home.pid) - before)
        for name in names:
            await delete_and_wait(client, name)
    return Cost(driver, count, own / KIB / count, common / KIB / count)
