"""How the processes that run guests on this machine are confined: read off the kernel, not off any configuration."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from polyvisor.agent.images import decoding
from polyvisor.agent.launchers.confinement import Confinement
from polyvisor.api import Obj

LAUNCHER = "polyvisor.launcher"
PROFILE_FILES = ("attr/apparmor/current", "attr/current")
DECODERS = {
    decoding.SANDBOX: "an unprivileged user in empty namespaces, with limits",
    decoding.LIMITS: "limits alone, because this user may make no namespaces (kernel.unprivileged_userns_clone)",
}


def report(state: Path, proc: Path = Path("/proc")) -> Obj:
    """Return what confines the programs that run guests or decode images, below a state folder."""
    own = Confinement(state)
    own.open()
    return {
        "imageDecoder": decoding.confinement(),
        "ownUsers": not own.why_not,
        "whyNoOwnUsers": own.why_not,
        "processes": list(_processes(state / "l", proc)),
    }


def rows(found: Obj) -> list[list[str]]:
    """Return the rows for people."""
    own = "each has a user of its own, where its driver needs no root"
    users = own if found["ownUsers"] else f"as Polyvisor's own user, as {found['whyNoOwnUsers']}"
    rows = [["Image decoder:", DECODERS[found["imageDecoder"]]], ["New machines:", users]]
    return rows + [
        ["Confinement:", f"{one['program']} of {one['machine']}: {_words(one)}"] for one in found["processes"]
    ]


def _words(one: Obj) -> str:
    capabilities = f"{one['capabilities']} capabilities" if one["capabilities"] else "no capabilities"
    if one["ownUsers"]:
        capabilities += " that hold in a user namespace of its own"
    seccomp = "a filter of system calls" if one["seccomp"] else "no filter of system calls"
    mounts = "mounts of its own" if one["ownMounts"] else "the host's mounts"
    devices = "its devices alone" if one["ownDevices"] else "no list of devices"
    profile = f"profile {one['profile']}" if one["profile"] else "no profile (AppArmor, SELinux)"
    return f"user {one['user']}, {capabilities}, {seccomp}, {mounts}, {devices}, {profile}"


def _processes(launchers: Path, proc: Path) -> Iterator[Obj]:
    """Give what was started with a launcher's folder in its arguments, or for a domain by its name; not the launchers.

    And what such a process began as the first of a user namespace: a container's init, whose arguments are its own.
    """
    signs: dict[str, str] = {}
    for folder in sorted(launchers.iterdir()) if launchers.is_dir() else ():
        with suppress(OSError, ValueError, LookupError, TypeError):
            name = str(json.loads((folder / "plan.json").read_text())["domain"]["name"])
            signs |= {f"{folder}/": name, f"--name\0{name}\0": name}
    known: dict[int, str] = {}
    seen: list[Obj] = []
    for entry in sorted(proc.iterdir(), key=lambda entry: (len(entry.name), entry.name)) if signs else ():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, LookupError):
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
            seen.append({"program": (entry / "comm").read_text().strip(), **_confinement(entry, proc)})
            machine = next((name for sign, name in signs.items() if sign in arguments), "")
            if machine and LAUNCHER not in arguments:
                known[seen[-1]["pid"]] = machine
    for one in seen:
        begun_by = known.get(one["parent"], "") if one["ownUsers"] else ""
        if machine := known.get(one["pid"]) or begun_by:
            yield {"machine": machine, **one}


def _confinement(process: Path, proc: Path) -> Obj:
    lines = (process / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "pid": int(process.name),
        "parent": int(status["PPid"]),
        "user": _user(int(status["Uid"].split()[1])),
        "capabilities": int(status["CapEff"], 16).bit_count(),
        "seccomp": status.get("Seccomp", "0") != "0",
        "noNewPrivileges": status.get("NoNewPrivs", "0") == "1",
        "ownMounts": (process / "ns/mnt").readlink() != (proc / "self/ns/mnt").readlink(),
        "ownDevices": _has_own_devices(process),
        "ownUsers": (process / "ns/user").readlink() != (proc / "self/ns/user").readlink(),
        "profile": _profile(process),
    }


def _has_own_devices(process: Path) -> bool:
    """Whether a process is in a control group of its machine's, which lists devices; in version 2 it has no kind."""
    with suppress(OSError):
        groups = [line.split(":", 2)[1:] for line in (process / "cgroup").read_text().splitlines()]
        return any(
            ("devices" in kinds.split(",") or not kinds) and path.rpartition("/")[2].startswith("polyvisor-")
            for kinds, path in groups
        )
    return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _profile(process: Path) -> str:
    """Return the profile of a security module that is in force for a process, empty if none is."""
    for name in PROFILE_FILES:
        with suppress(OSError):
            found = os.fsdecode((process / name).read_bytes()).strip("\0\n ")
            return "" if found.startswith("unconfined") else found
    return ""
