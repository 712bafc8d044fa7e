"""How a launcher of root's is confined before it becomes its machine's user: its mounts, its devices, its profile.

It sees nothing of the state folder but its own folder and where disks are, and has device nodes of its own. The state
folder stays closed to all others of the host; the launcher passes because in its mounts an empty folder lies over the
topmost one that is closed to it. A control group lets it use these devices alone, and where AppArmor is in force it
has a profile. What isn't obvious: no new privilege comes to what is started from here, whatever the files
of the host allow, and the profile, which libvirt's own driver would want loaded for the program that embeds it, is
therefore put on here and covers launcher, hypervisor and TPM alike.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from polyvisor.agent.launchers import device_programs
from polyvisor.domain import ids
from polyvisor.prerequisites import not_installed

PROGRAMS = ("unshare", "mount", "setpriv", "mknod")
GROUPS = Path("/sys/fs/cgroup/devices")
ALWAYS = ("null", "zero", "full", "random", "urandom", "ptmx", "tty")
PLACES = ("volumes", "hostdisks")
"""What machines see of the state folder, of their namespace alone."""
RELEASE_SECONDS = 2.0
"""How long a control group is waited for; one that is left is swept at the next start."""
READ = ("cache", "probe")
"""What they can read of it."""
TERMINALS = 136
"""Major number of terminals."""
PROFILE = "polyvisor-machine"
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
RULES = f"""\
abi <abi/3.0>,
profile {PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  capability setuid,
  capability setgid,
  network,
  unix,
  signal,
  ptrace (read, readby),
  /** mrwlkix,
  deny /proc/sys/** wl,
  deny /proc/sysrq-trigger rwl,
  deny /proc/kcore rwl,
  deny /sys/kernel/security/** rwl,
  deny /sys/fs/cgroup/** wl,
  deny /etc/** wl,
  deny /boot/** wl,
  deny /root/** wl,
  deny /home/** wl,
}}
"""
"""What no rule allows, such as mounting and other capabilities, is forbidden."""
log = logging.getLogger("polyvisor.confinement")

# $1 user, $2 folder to cover, $3 control group or nothing, $4 profile or nothing; then device nodes (name, major,
# minor) up to "--", up to six folders ("rw:" or "ro:" and the path) up to "--", and the program.
SCRIPT = """
set -e
umask 022
user=$1 cover=$2 group=$3 profile=$4; shift 4
devices=
while [ "$1" != -- ]; do devices="$devices $1:$2:$3"; shift 3; done
shift
if [ -n "$group" ] && [ ! -e "$group/cgroup.controllers" ]; then
  mkdir -p "$group"; echo a >"$group/devices.deny"
  while read -r rule; do echo "$rule" >"$group/devices.allow" || :; done <<RULES
@ALWAYS@
RULES
  for one in $devices; do rest=${one#*:}; echo "c $rest rw" >"$group/devices.allow"; done
fi
n=3
for folder; do [ "$folder" != -- ] || break; eval "exec $n<\\"\\${folder#*:}\\""; n=$((n+1)); done
mount -t tmpfs -o mode=711,nosuid,size=1m polyvisor "$cover"
for one in $devices; do
  name=${one%%:*} rest=${one#*:} node=$cover/.node
  mknod -m 600 "$node" c "${rest%:*}" "${rest#*:}"; chown "$user:$user" "$node"; mount --bind "$node" "/dev/$name"
  rm "$node"
done
n=3
while [ "$1" != -- ]; do
  place=${1#*:}
  mkdir -p "$place"; mount -c --bind "/proc/self/fd/$n" "$place"; eval "exec $n<&-"
  [ "${1%%:*}" = rw ] || mount -o remount,bind,ro "$place"
  shift; n=$((n+1))
done
shift
[ -z "$group" ] || echo 0 >"$group/cgroup.procs"
[ -z "$profile" ] || echo "exec $profile" >/proc/self/attr/exec
exec setpriv --no-new-privs "$@"
"""


class Confinement:
    """Confines the launchers of a state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._profile = ""
        self._without_devices = ""
        self.why_not = "it was not tried yet"
        """Why launchers cannot be users of their own; empty if they can."""

    def open(self) -> None:
        """Find out what this machine permits, and clear away what nothing runs in any more. Blocking."""
        self.sweep()
        self.why_not = self._tried()
        if not self.why_not:
            self._profile = load_profile()

    def _tried(self) -> str:
        if os.geteuid() != 0:
            return "Polyvisor does not run as root"
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            return not_installed(missing[0])
        cover = closed(self.state)
        for ours in (sys.prefix, sys.base_prefix, os.fspath(Path(__file__).parents[3])):
            if Path(ours).is_relative_to(cover):
                return f"Polyvisor is installed below {cover}, which is closed to others and holds the state"
        command = self.command(self.state, ids.TRIAL, ["/dev/null"], "trial")
        becoming = ["setpriv", f"--reuid={ids.TRIAL}", f"--regid={ids.TRIAL}", "--clear-groups", "true"]
        tried = subprocess.run([*command, *becoming], capture_output=True, check=False)
        self.release("trial")
        return tried.stderr.decode(errors="replace").strip()[-300:] if tried.returncode else ""

    def command(self, folder: Path, user: int, devices: Sequence[str], id_: str, namespace: str = "") -> list[str]:
        """Return what to begin the command line of a launcher with that root starts in its folder."""
        group = self._made(id_, devices)
        command = ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c"]
        always = "\n".join(f"c {major}:{minor} rw" for _, major, minor in [("", TERMINALS, "*"), *_nodes(ALWAYS)])
        command += [SCRIPT.replace("@ALWAYS@", always), "sh", str(user), str(closed(self.state))]
        command += [str(group or ""), self._profile]
        for node in _nodes(_names(devices)):
            command += map(str, node)
        written = [folder, *(self.state / name / namespace for name in PLACES if namespace)]
        read = [self.state / name for name in READ if (self.state / name).is_dir()]
        return [*command, "--", *(f"rw:{place}" for place in written), *(f"ro:{place}" for place in read), "--"]

    def release(self, id_: str) -> None:
        """Take away what was made for a launcher that is over."""
        group, deadline = self._group(id_), time.monotonic() + RELEASE_SECONDS
        while group is not None and group.exists() and time.monotonic() < deadline:
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.01)  # nothing tells when the last of its processes has gone

    def sweep(self) -> None:
        """Take away the control groups of this folder's launchers in which nothing runs."""
        for base in (GROUPS, device_programs.base()):
            for group in base.glob(self._name("*")) if base is not None else ():
                with suppress(OSError):
                    group.rmdir()

    def _name(self, id_: str) -> str:
        return f"polyvisor{self.state}-{id_}".replace("/", "-")

    def _group(self, id_: str) -> Path | None:
        """Return the control group of a launcher; None where it can have none that holds its devices."""
        if (GROUPS / "devices.deny").exists() or (GROUPS / "devices.list").exists():
            return GROUPS / self._name(id_)
        base = device_programs.base()
        return base / self._name(id_) if base is not None else None

    def _made(self, id_: str, devices: Sequence[str]) -> Path | None:
        """Return the control group of a launcher: with version 2 made here, with version 1 by the script."""
        group = self._group(id_)
        if group is None or group.parent == GROUPS:
            return group
        rules = [(major, minor) for _, major, minor in _nodes([*ALWAYS, *_names(devices)])]
        try:
            device_programs.make(group, [(TERMINALS, None), *rules])
        except OSError as error:
            if self._without_devices != str(error):
                log.warning("machines have no list of devices: %s", error)
            self._without_devices = str(error)
            return None
        return group


def closed(state: Path) -> Path:
    """Return the topmost folder on the way to one that others cannot pass; if there is none, that one itself."""
    way = [*reversed(state.parents), state]
    return next((folder for folder in way if not folder.stat().st_mode & stat.S_IXOTH), state)


def _names(devices: Sequence[str]) -> list[str]:
    return [device.removeprefix("/dev/") for device in devices]


def _nodes(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Give name, major and minor number of those device nodes that there are."""
    for name in names:
        with suppress(OSError):
            found = Path("/dev", name).stat()
            if stat.S_ISCHR(found.st_mode):
                yield name, os.major(found.st_rdev), os.minor(found.st_rdev)


def load_profile(apparmor: Path = APPARMOR) -> str:
    """Load the profile where AppArmor is in force; return its name, or nothing where it is not, or refuses."""
    program = shutil.which("apparmor_parser")
    try:
        if program is None or apparmor.read_text().strip() != "Y":
            return ""
    except OSError:
        return ""
    loaded = subprocess.run([program, "--replace"], input=RULES.encode(), capture_output=True, check=False)
    if loaded.returncode:
        log.warning("machines have no AppArmor profile: %s", loaded.stderr.decode(errors="replace").strip())
        return ""
    return PROFILE
