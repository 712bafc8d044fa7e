"""``make clean-room``: try this tree on a minimal Debian that has never seen it.

A bare Debian root (``mmdebstrap``; none of Polyvisor's packages) is unpacked into a new folder and entered in
namespaces of its own: mounts, processes, network, IPC, host name and cgroups. It holds a copy of the working tree and
nothing else of it. In there ``tools/clean-room/steps`` types what the README says: ``make demo``, then a part of
``make test``. The first command that fails ends the room with its exit code.

What is kept in the user's cache between rooms: downloaded packages (apt's and pip's own caches, filled by the rooms
alone) and the bare root, for a week. What was installed is never kept. The host lends its package sources, proxy and
pip settings, CA certificates, resolver and devices. One room runs at a time; when it ends, however it ends, its
processes end with it, and what an interrupted one left on the host the next one removes.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PARTS = TOP / "tools" / "clean-room"
RELEASES = {"12": "bookworm", "13": "trixie"}
INCLUDED = "ca-certificates,git,make"
"""What the bare root holds beside Debian's minimal set: what it takes to clone the tree and to type ``make``."""
WEEK = 7 * 24 * 3600
PREREQUISITES = "polyvisor/prerequisites/packages.toml"
HOME = "srv/polyvisor"
"""Where the tree lies in the room."""
LENT = re.compile(
    r"^((https?|ftp|no|all)_proxy|PIP_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$", re.IGNORECASE
)
"""Variables of the host that say how package registries are reached."""
NOT_LENT = {"PIP_FIND_LINKS", "PIP_CACHE_DIR", "PIP_TARGET", "PIP_PREFIX"}
"""Variables that name folders which only the host has."""
ACQUIRE = re.compile(r"^Acquire::(http|https|Check|Retries)[^;]*;$", re.MULTILINE)
VETH, PEER, TABLE = "pvclean0", "eth0", "polyvisor_clean_room"
OUTSIDE, INSIDE, SUBNET = "198.51.100.1", "198.51.100.2", "198.51.100.0/30"
"""Addresses that RFC 5737 keeps for documentation, so no network of the host has them."""
GROUP = "polyvisor-clean-room"
"""The room's control group in each hierarchy."""
NOISE = re.compile(
    rb"^(Get:|Selecting |Preparing to |Unpacking |Setting up |Processing |Adding group|Adding user|\(Reading database"
    rb"|update-alternatives:|Reading |Building |debconf:|Created symlink|invoke-rc.d:|Fetched |Need to get|After this)"
)
"""Lines of apt that go into the log alone."""


class RoomError(Exception):
    """The room cannot be made; the text says why and what to do."""


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(f"clean room: {text}\n")
    sys.stdout.flush()


def call(*command: str | Path, text: str | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        raise RoomError(f"{' '.join(map(str, command[:4]))} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def cache() -> Path:
    """Return the folder that is kept between rooms."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "clean-room"


# --- the bare root ----------------------------------------------------------------------------------------------------


def sources(release: str, etc: Path = Path("/etc")) -> dict[str, str]:
    """Return name -> text of the host's lists of Debian's own packages, for a release."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", (etc / "os-release").read_text(), re.MULTILINE)
    own = found[1] if found else ""
    lists = {}
    for path in (etc / "apt/sources.list", *sorted(etc.glob("apt/sources.list.d/*"))):
        if path.suffix not in (".list", ".sources") or not path.exists():
            continue
        text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
        foreign = re.search(r"[Ss]igned-[Bb]y[:=](?!\s*\S*debian-archive-keyring)", text)
        if own and not foreign and re.search(rf"\b{own}(-updates)?\b", text):
            lists[path.name] = re.sub(rf"\b{own}(?=\b|-)", release, text)
    if not lists:
        raise RoomError(f"/etc/apt names no source of Debian's packages for {own or 'this release'}")
    return lists


def apt_options() -> list[str]:
    """Return the host's settings that say how apt downloads."""
    return [match[0] for match in ACQUIRE.finditer(call("apt-config", "dump"))]


def bare_root(release: str) -> Path:
    """Return the tar file of a minimal Debian, made anew once a week."""
    tar = cache() / f"{release}-{hashlib.sha256(INCLUDED.encode()).hexdigest()[:8]}.tar"
    if tar.exists() and time.time() - tar.stat().st_mtime < WEEK:
        return tar
    begin = time.monotonic()
    lists = cache() / f".{release}.sources.d"
    shutil.rmtree(lists, ignore_errors=True)
    lists.mkdir()
    for name, text in sources(release).items():
        (lists / name).write_text(text)
    scratch = tar.with_name(f".{release}.new.tar")
    options = [f"--aptopt={option}" for option in apt_options()]
    options += ['--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap']
    call("mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}", *options, release, scratch,
         *lists.iterdir())  # fmt: skip
    scratch.replace(tar)
    shutil.rmtree(lists)
    say(f"made a bare Debian ({release}) in {time.monotonic() - begin:.0f} s")
    return tar


# --- what the host lends ----------------------------------------------------------------------------------------------


def lend(root: Path) -> None:
    """Copy what says how the registries are reached: apt's settings, pip's, CA certificates, the resolver.

    And have dpkg not wait for the disk after each file: of a room nothing has to outlive a power cut.
    """
    (root / "etc/dpkg/dpkg.cfg.d/90room").write_text("force-unsafe-io\n")
    (root / "etc/apt/apt.conf.d/90host").write_text("".join(f"{option}\n" for option in apt_options()))
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"):
        if path.exists():
            target = root / ("etc/pip.conf" if path.parts[1] == "etc" else "root/.config/pip/pip.conf")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        shutil.copyfile(path, root / "usr/local/share/ca-certificates" / path.name)
    resolver = Path("/etc/resolv.conf")
    real = Path("/run/systemd/resolve/resolv.conf")
    if "127.0.0.53" in resolver.read_text() and real.exists():  # reachable from the host's own network alone
        resolver = real
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copyfile(resolver, root / "etc/resolv.conf")
    (root / "etc/hostname").write_text("clean-room\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost clean-room\n::1 localhost\n")


def copy_tree(root: Path, without: list[str]) -> None:
    """Copy what git would take of the working tree, uncommitted changes included."""
    names = call("git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    target = root / HOME
    for name in filter(None, names):
        source = TOP / name
        if not os.path.lexists(source):
            continue  # removed, and not committed yet
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place, follow_symlinks=False)
    for package in without:
        forget(target / PREREQUISITES, package)


def forget(listed: Path, package: str) -> None:
    """Remove a Debian package's entries from the list of prerequisites."""
    entries = listed.read_text().split("\n\n")
    kept = [
        entry for entry in entries if not re.search(rf'^debian(13)? = "{re.escape(package)}"$', entry, re.MULTILINE)
    ]
    if len(kept) == len(entries):
        raise RoomError(f"{listed.name} has no entry for {package}")
    listed.write_text("\n\n".join(kept))
    say(f"left out on purpose: {package}")


def environment() -> dict[str, str]:
    """Return the variables that a newcomer has, and those that say how the registries are reached."""
    lent = {name: value for name, value in os.environ.items() if LENT.match(name) and name not in NOT_LENT}
    own = {"HOME": "/root", "USER": "root", "SHELL": "/bin/bash", "TERM": "dumb", "LANG": "C.UTF-8"}
    return {**lent, **own, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


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


# --- the room ---------------------------------------------------------------------------------------------------------


def enter(root: Path, log: Path, steps: list[str], downloads: dict[Path, str]) -> int:
    """Run the steps in the room; return their exit code."""
    binds = [f"{source}={target}" for source, target in downloads.items()]
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]
    # setpriv: when this process dies, unshare is killed, and with it the room's first process and so all of them
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, sys.executable, "-I", str(PARTS / "init.py")]
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as held:
        room = subprocess.Popen(
            [*command, str(root), *binds, "--", *steps], env=environment(), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        held.callback(end, room)
        assert room.stdin is not None
        assert room.stdout is not None
        folders = cgroups()
        held.callback(remove_cgroups, folders)
        held.callback(end, room)
        if room.stdout.readline() != b"ready\n":  # its first process stands in its namespaces
            raise RoomError("the room's first process did not start")
        first = int(Path(f"/proc/{room.pid}/task/{room.pid}/children").read_text())
        make_cgroups(folders, first)
        held.enter_context(network(first))
        room.stdin.close()  # it may go on
        with log.open("wb", buffering=0) as file:
            for line in room.stdout:
                stamped = b"%5.0f s  %s" % (time.monotonic() - begin, line)
                file.write(stamped)
                if not NOISE.match(line):
                    sys.stdout.buffer.write(stamped)
                    sys.stdout.flush()
        return room.wait()


def end(room: subprocess.Popen[bytes]) -> None:
    """End all processes of a room: the kernel ends them with the first one, before unshare sees that one's end."""
    if room.poll() is None:
        children = Path(f"/proc/{room.pid}/task/{room.pid}/children").read_text().split()
        os.kill(int(children[0]) if children else room.pid, signal.SIGKILL)
    room.wait()


def run(number: str, without: list[str], tests: str) -> int:
    """Make a room, run the steps in it, and remove it."""
    release = RELEASES[number]
    if os.geteuid():
        raise RoomError("a room of its own requires root")
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another room is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        root = cache() / "room"
        remove_cgroups(cgroups())
        call("rm", "-rf", root)
        begin = time.monotonic()
        try:
            tar = bare_root(release)
            root.mkdir()
            with tarfile.open(tar) as archive:
                archive.extractall(root, numeric_owner=True)
            lend(root)
            copy_tree(root, without)
            downloads = {cache() / f"{release}-archives": "var/cache/apt/archives", cache() / "pip": "root/.cache/pip"}
            for folder in downloads:
                (folder / "partial").mkdir(parents=True, exist_ok=True)
            say(f"Debian {number} is ready after {time.monotonic() - begin:.0f} s")
            log = TOP / "build" / f"clean-room-{number}.log"
            log.parent.mkdir(exist_ok=True)
            code = enter(root, log, [f"/{HOME}/tools/clean-room/steps", tests], downloads)
            word = "passed" if code == 0 else f"FAILED with exit code {code}"
            say(f"Debian {number} {word} after {time.monotonic() - begin:.0f} s; log: {log.relative_to(TOP)}")
            return 1 if code else 0
        finally:
            call("rm", "-rf", root)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Try this tree on a minimal Debian that has never seen it.")
    parser.add_argument("--debian", default="12", choices=RELEASES, metavar="12|13", help="the release (12)")
    parser.add_argument("--without", action="append", default=[], metavar="PACKAGE",
                        help="leave a package out of the lists, to see that the room then fails")  # fmt: skip
    parser.add_argument("--tests", default="", metavar="OPTIONS", help="options of pytest, instead of the fast part")
    given = parser.parse_args()
    try:
        return run(given.debian, given.without, given.tests)
    except RoomError as error:
        sys.stderr.write(f"clean room: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything that it started has ended")
        return 130


if __name__ == "__main__":
    sys.exit(main())
