"""From POST to a running domain, against a bare ``virsh create`` of the same domain XML, in turns.

The floor is the kindest to libvirt that there is: a daemon that runs already and has probed the hypervisor, a root tree
that is copied already, and the wall clock of one ``virsh`` process. Ours includes admission, the store on disk,
placement, the Pod and its scheduling, the root tree's copy, and a launcher with a libvirt of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from lxml import etree

from bench.home import Home, delete_and_wait, machine, post_and_wait
from polyvisor.api.resources import VMIS

CONFIG = 'unix_sock_dir = "{folder}/run"\nunix_sock_rw_perms = "0700"\nauth_unix_rw = "none"\n'
QEMU = 'security_driver = "none"\nuser = "root"\ngroup = "root"\nstdio_handler = "file"\nremember_owner = 0\n'
PLACES = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "cache": "/var/cache/libvirt"}


@dataclass
class Pairs:
    """Seconds of both ways, in the order in which they were taken."""

    driver: str
    virt_type: str = ""
    ours: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """The median of what ours took longer, pair by pair."""
        return median(a - b for a, b in zip(self.ours, self.floor, strict=True))


@contextmanager
def daemon(folder: Path) -> Iterator[Path]:
    """Run a libvirt daemon of its own and yield its socket; its files lie below ``folder``."""
    for name in PLACES:
        (folder / name).mkdir(parents=True)
    (folder / "qemu.conf").write_text(QEMU)
    (folder / "etc").mkdir()
    shutil.copy(folder / "qemu.conf", folder / "etc" / "qemu.conf")
    (folder / "etc" / "lxc.conf").write_text('security_driver = "none"\n')
    (folder / "libvirtd.conf").write_text(CONFIG.format(folder=folder))
    binds = [f"mount --bind {folder}/{name} {place}" for name, place in PLACES.items()]
    script = "; ".join(
        [
            "mkdir -p " + " ".join(PLACES.values()),
            *binds,
            f"mount --bind {folder}/etc /etc/libvirt",
            "umount /sys/fs/cgroup/unified 2>/dev/null",
            f"exec /usr/sbin/libvirtd --config={folder}/libvirtd.conf --pid-file={folder}/pid",
        ]
    )
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script], stdout=log, stderr=log, start_new_session=True
        )
    socket = folder / "run" / "libvirt-sock"
    try:
        deadline = time.monotonic() + 40
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"libvirtd did not start: {(folder / 'log.txt').read_text()}")
            time.sleep(0.05)
        yield socket
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def virsh(driver: str, socket: Path, *words: str | Path) -> None:
    """Run virsh on the daemon."""
    uri = f"{driver}+unix:///system?socket={socket}"
    done = subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"virsh {' '.join(map(str, words))}: {done.stderr}")


def definition(folder: Path, name: str) -> Path:
    """Return the domain's XML as libvirt keeps it for the launcher in ``folder``."""
    found = [path for path in folder.rglob(f"default_{name}.xml") if "autostart" not in path.parts]
    kept = [path for path in found if "etc" in path.parts] or found
    return kept[0]


async def measure(home: Home, driver: str, pairs: int) -> Pairs:
    """Measure ``pairs`` pairs; the first of each, which warms caches, is thrown away."""
    result = Pairs(driver)
    work = home.folder / f"floor-{driver}"
    work.mkdir()
    async with home.client() as client:
        with daemon(work / "d") as socket:
            for number in range(pairs + 1):
                name = f"{driver}-{number}"
                ours = await post_and_wait(client, machine(name, driver))
                vmi = await client.get(VMIS, name, "default")
                result.virt_type = vmi["status"]["hypervisor"]["virtType"]
                folder = await home.launcher_folder(client, name)
                bare = _bare(definition(folder, name), work, number)
                await delete_and_wait(client, name)
                begin = time.perf_counter()
                virsh(driver, socket, "create", bare)
                floor = time.perf_counter() - begin
                virsh(driver, socket, "destroy", f"default_{name}")
                if number:
                    result.ours.append(ours)
                    result.floor.append(floor)
    return result


def _bare(kept: Path, work: Path, number: int) -> Path:
    """Copy a definition and the root tree that it names, for libvirt alone; its sockets go where there is a folder."""
    tree = etree.parse(str(kept))
    for element in tree.iter():
        for name in ("path", "socket"):
            if (element.get(name) or "").endswith(".sock"):
                element.set(name, os.fspath(work / f"{number}-{Path(element.get(name) or '').name}"))
    for source in tree.iterfind("devices/filesystem/source"):
        copy = work / f"root-{number}"
        subprocess.run(["cp", "-a", "-T", source.get("dir") or "", copy], check=True)
        source.set("dir", os.fspath(copy))
    path = work / f"bare-{number}.xml"
    tree.write(str(path))
    return path
