"""What a clean room is separated by: a network behind the host's address, and control groups of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VETH, PEER, TABLE = "pvclean0", "eth0", "polyvisor_clean_room"
OUTSIDE, INSIDE, SUBNET = "198.51.100.1", "198.51.100.2", "198.51.100.0/30"
"""Addresses that RFC 5737 keeps for documentation, so no network of the host has them."""
GROUP = "polyvisor-clean-room"
"""The room's control group in each hierarchy."""


class RoomError(Exception):
    """The room cannot be made; the text says why and what to do."""


def call(*command: str | Path, text: str | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        raise RoomError(f"{' '.join(map(str, command[:4]))} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


# --- the network ------------------------------------------------------------------------------------------------------


def uplink() -> str:
    """Return the host's interface to the world."""
    found = re.search(r"^default .*\bdev (\S+)", call("ip", "-4", "route"), re.MULTILINE)
    if found is None:
        raise RoomError("the host has no default route, so the room cannot reach the package registries")
    return found[1]


def rules() -> str:
    """Return what puts the room behind the host's address."""
    return (
        f"add table ip {TABLE}\n"
        f"add chain ip {TABLE} post {{ type nat hook postrouting priority srcnat; }}\n"
        f"add rule ip {TABLE} post ip saddr {SUBNET} masquerade\n"
    )


def disconnect() -> None:
    """Remove the room's network from the host, if it is there."""
    for command in (["ip", "link", "delete", VETH], ["nft", "delete", "table", "ip", TABLE]):
        subprocess.run(command, capture_output=True, check=False)


@contextmanager
def network(pid: int) -> Iterator[None]:
    """Connect a process's network namespace to the world, behind the host's address."""
    disconnect()
    up = uplink()
    forwarding = Path("/proc/sys/net/ipv4/conf") / up / "forwarding"
    before = forwarding.read_text()
    call("ip", "link", "add", VETH, "type", "veth", "peer", "name", PEER, "netns", str(pid))
    try:
        call("ip", "address", "add", f"{OUTSIDE}/30", "dev", VETH)
        call("ip", "link", "set", VETH, "up")
        for name in (up, VETH):
            (Path("/proc/sys/net/ipv4/conf") / name / "forwarding").write_text("1")
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
        call(*inside, "link", "set", "lo", "up")
        call(*inside, "address", "add", f"{INSIDE}/30", "dev", PEER)
        call(*inside, "link", "set", PEER, "up")
        call(*inside, "route", "add", "default", "via", OUTSIDE)
        call("nft", "-f", "-", text=rules())
        yield
    finally:
        disconnect()
        forwarding.write_text(before)


# --- cgroups ----------------------------------------------------------------------------------------------------------


def cgroups() -> list[Path]:
    """Return the folders that the room's cgroups get: one below this process's own in each mounted hierarchy."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ")
        mount = fields.split(" ")[4]
        for controllers, path in own.items():
            words = set(controllers.split(","))
            if kind == ("cgroup" if controllers else "cgroup2") and (
                not controllers or words <= set(options.split(","))
            ):
                base = Path(mount + path)
                found.append((base if base.is_dir() else Path(mount)) / GROUP)
    return list(dict.fromkeys(found))


def make_cgroups(folders: list[Path], pid: int) -> None:
    """Make the room's cgroups and move its first process there."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # without them no process may enter a group of version 1
            if (folder / name).exists() and not (folder / name).read_text().strip():
                (folder / name).write_text((folder.parent / name).read_text())
        (folder / "cgroup.procs").write_text(str(pid))


def remove_cgroups(folders: list[Path]) -> None:
    """Remove the room's cgroups; their processes have ended, or end in a moment."""
    for folder in folders:
        for below in sorted(folder.rglob("*/"), reverse=True) if folder.is_dir() else []:
            below.rmdir()
        if folder.is_dir():
            folder.rmdir()
