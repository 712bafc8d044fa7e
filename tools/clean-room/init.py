"""The first process of a clean room: it makes the room's mounts, starts the steps, and reaps orphaned processes.

``init.py ROOT SOURCE=TARGET... -- COMMAND...`` is started in new mount, process, network, IPC and host-name
namespaces. It prints ``ready``, waits until its standard input is closed (by then the host has moved it into its
cgroups and connected its network), and makes ROOT the root. When COMMAND ends it ends with the same exit code, and the
kernel ends whatever else runs in the room.
"""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

CLONE_NEWCGROUP = 0x02000000
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
         "core": "/proc/kcore", "ptmx": "pts/ptmx"}  # fmt: skip


def mount(kind: str, target: Path, options: str = "", source: str | Path = "") -> None:
    """Mount a file system; the folder is made if it is missing."""
    target.mkdir(parents=True, exist_ok=True)
    words = ["--bind"] if kind == "bind" else ["-t", kind, *(["-o", options] if options else [])]
    subprocess.run(["mount", *words, str(source) or kind, target], check=True)


def make_devices(dev: Path) -> None:
    """Make nodes for what the host has: all character devices and loop devices. Disks of the host are left out."""
    mount("tmpfs", dev, "mode=755,size=64m")
    for folder, below, names in os.walk("/dev"):
        below[:] = sorted(set(below) - {"pts", "shm"})
        place = dev / Path(folder).relative_to("/dev")
        place.mkdir(exist_ok=True)
        for name in names:
            found = os.lstat(Path(folder) / name)
            loop = stat.S_ISBLK(found.st_mode) and name.startswith("loop")
            if name != "ptmx" and (loop or stat.S_ISCHR(found.st_mode)):
                os.mknod(place / name, found.st_mode, found.st_rdev)
                (place / name).chmod(stat.S_IMODE(found.st_mode))
    for name, target in LINKS.items():
        (dev / name).symlink_to(target)
    mount("devpts", dev / "pts", "newinstance,ptmxmode=666,mode=620,gid=5")
    mount("tmpfs", dev / "shm", "mode=1777")


def cgroup_mounts() -> list[tuple[str, str, str]]:
    """Return (place below /sys/fs/cgroup, kind, options) of the host's hierarchies."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ")
        place = fields.split(" ")[4]
        if kind in ("cgroup", "cgroup2") and place.startswith("/sys/fs/cgroup"):
            wanted = [word for word in options.split(",") if word not in ("rw", "ro")] if kind == "cgroup" else []
            found.append((place.removeprefix("/sys/fs/cgroup").strip("/"), kind, ",".join(wanted)))
    return found


def make_cgroups(folder: Path, mounts: list[tuple[str, str, str]]) -> None:
    """Mount the hierarchies as the host has them, with the room's own groups as their roots."""
    if any(place for place, _, _ in mounts):
        mount("tmpfs", folder, "mode=755")
    for place, kind, options in mounts:
        mount(kind, folder / place, options)
        if kind == "cgroup2":  # processes in a root that is not the machine's keep its children from having controllers
            (folder / place / "init").mkdir(exist_ok=True)
            (folder / place / "init" / "cgroup.procs").write_text("1")


def reap(child: int) -> int:
    """Reap every process that ends, until the child does; return its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def main() -> None:
    """Run the room."""
    cut = sys.argv.index("--")
    root, binds, command = Path(sys.argv[1]), sys.argv[2:cut], sys.argv[cut + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    mounts = cgroup_mounts()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    if libc.unshare(CLONE_NEWCGROUP):
        raise OSError(ctypes.get_errno(), "cannot make a cgroup namespace")
    mount("bind", root, source=root)  # pivot_root wants a mount
    mount("proc", root / "proc")
    mount("sysfs", root / "sys")
    make_cgroups(root / "sys/fs/cgroup", mounts)
    make_devices(root / "dev")
    mount("tmpfs", root / "run", "mode=755")
    for bind in binds:
        source, _, target = bind.partition("=")
        mount("bind", root / target, source=source)
    subprocess.run(["hostname", "clean-room"], check=True)
    old = root / "mnt"
    subprocess.run(["pivot_root", root, old], check=True)
    os.chroot("/")
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/mnt"], check=True)
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", 0, 0)])
    os._exit(reap(child))


if __name__ == "__main__":
    main()
