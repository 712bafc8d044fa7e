"""``make clean-room``: try this tree on a minimal Debian that has never seen it.

A bare Debian root (``mmdebstrap``; none of Polyvisor's packages) is unpacked into a new folder and entered in
namespaces of its own: mounts, processes, network, IPC, host name and cgroups. It holds a copy of the working tree and
nothing else of it. In there ``tools/clean-room/steps`` types what the README says: ``make demo``, then a part of
``make test``. The first command that fails ends the room with its exit code.

What is kept in the user's cache between rooms: downloaded packages (apt's and pip's own caches, filled by the rooms
alone) and the bare root, for a week. What was installed is never kept. The host lends its package sources, proxy and
pip settings, CA certificates, resolver and devices. One room runs at a time; when it ends, however it ends, its
processes end with it, and what an interrupted one left on the host the next one removes.

``--stay`` is for mending what failed: the room is kept, the next ``--stay`` of that release brings the tree up to date
in it and runs the tests alone, and it proves nothing, since what is installed there may come from an earlier tree.
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
from contextlib import ExitStack
from pathlib import Path

from room_spaces import RoomError, call, cgroups, make_cgroups, network, remove_cgroups

TOP = Path(__file__).resolve().parent.parent
PARTS = TOP / "tools" / "clean-room"
RELEASES = {"12": "bookworm", "13": "trixie"}
INCLUDED = "ca-certificates,git,make"
"""What the bare root holds beside Debian's minimal set: what it takes to clone the tree and to type ``make``."""
WEEK = 7 * 24 * 3600
PREREQUISITES = "polyvisor/prerequisites/packages.toml"
HOME = "srv/polyvisor"
"""Where the tree lies in the room."""
INSTALLED = ".venv"
"""What set-up makes in the tree; a room that is kept keeps it."""
LENT = re.compile(
    r"^((https?|ftp|no|all)_proxy|PIP_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$", re.IGNORECASE
)
"""Variables of the host that say how package registries are reached."""
NOT_LENT = {"PIP_FIND_LINKS", "PIP_CACHE_DIR", "PIP_TARGET", "PIP_PREFIX"}
"""Variables that name folders which only the host has."""
ACQUIRE = re.compile(r"^Acquire::(http|https|Check|Retries)[^;]*;$", re.MULTILINE)
NOISE = re.compile(
    rb"^(Get:|Selecting |Preparing to |Unpacking |Setting up |Processing |Adding group|Adding user|\(Reading database"
    rb"|update-alternatives:|Reading |Building |debconf:|Created symlink|invoke-rc.d:|Fetched |Need to get|After this)"
)
"""Lines of apt that go into the log alone."""


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(f"clean room: {text}\n")
    sys.stdout.flush()


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
    for old in target.iterdir() if target.exists() else ():
        if old.name != INSTALLED:
            call("rm", "-rf", old)
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


def furnish(root: Path, release: str) -> None:
    """Unpack the bare root and lend it what it needs of the host."""
    tar = bare_root(release)
    scratch = root.with_name(f".{root.name}")
    call("rm", "-rf", scratch)
    scratch.mkdir()
    with tarfile.open(tar) as archive:
        archive.extractall(scratch, numeric_owner=True)
    lend(scratch)
    scratch.rename(root)


def run(number: str, without: list[str], tests: str, stay: bool) -> int:
    """Make a room, run the steps in it, and remove it; a room that is to stay is used again, and kept."""
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
        root = cache() / (f"stays-{number}" if stay else "room")
        remove_cgroups(cgroups())
        if not stay:
            call("rm", "-rf", root)
        begin = time.monotonic()
        try:
            if not root.exists():
                furnish(root, release)
            copy_tree(root, without)
            downloads = {cache() / f"{release}-archives": "var/cache/apt/archives", cache() / "pip": "root/.cache/pip"}
            for folder in downloads:
                (folder / "partial").mkdir(parents=True, exist_ok=True)
            say(f"Debian {number} is ready after {time.monotonic() - begin:.0f} s")
            log = TOP / "build" / f"clean-room-{number}{'-stays' if stay else ''}.log"
            log.parent.mkdir(exist_ok=True)
            steps = [f"/{HOME}/tools/clean-room/steps", tests, *(["stay"] if stay else [])]
            code = enter(root, log, steps, downloads)
            word = "passed" if code == 0 else f"FAILED with exit code {code}"
            say(f"Debian {number} {word} after {time.monotonic() - begin:.0f} s; log: {log.relative_to(TOP)}")
            if stay:
                say(f"kept for the next --stay, and no proof: {root}")
            return 1 if code else 0
        finally:
            if not stay:
                call("rm", "-rf", root)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Try this tree on a minimal Debian that has never seen it.")
    parser.add_argument("--debian", default="12", choices=RELEASES, metavar="12|13", help="the release (12)")
    parser.add_argument("--without", action="append", default=[], metavar="PACKAGE",
                        help="leave a package out of the lists, to see that the room then fails")  # fmt: skip
    parser.add_argument("--tests", default="", metavar="OPTIONS", help="options of pytest, instead of the fast part")
    parser.add_argument(
        "--stay", action="store_true", help="keep the room, use it again next time, and run the tests alone"
    )
    given = parser.parse_args()
    try:
        return run(given.debian, given.without, given.tests, given.stay)
    except RoomError as error:
        sys.stderr.write(f"clean room: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything that it started has ended")
        return 130


if __name__ == "__main__":
    sys.exit(main())
