"""The list of prerequisites is held against what the repository's code runs, imports and opens."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from polyvisor import prerequisites
from polyvisor.prerequisites import Prerequisite

from . import libvirt_modules
from .executed import Found, Reader
from .shell_words import programs as shell_programs

TOP = Path(__file__).resolve().parents[2]
FOLDERS = ("polyvisor", "tests", "tools", "bench")
SCRIPTS = ("tools/setup", "tools/demo", "tools/clean", "tools/lint", "tools/lock", "tools/clean-room/steps", ".ci/run")
UNKNOWN = {
    "tests/agent/platform/endpoint/hosts.py": "programs of the list, behind nsenter",
    "polyvisor/agent/launchers/confinement.py": "unshare, to try what a launcher is confined by",
    "polyvisor/agent/launchers/processes.py": "a launcher: Python, behind nsenter in a Pod's networks, and unshare",
    "polyvisor/cli/vnc.py": "a viewer out of VIEWERS",
    "polyvisor/launcher/endpoint/guests.py": "the SSH client of an endpoint, whose screen it forwards",
    "polyvisor/kube/credentials.py": "a plug-in that the user's kubeconfig names",
    "polyvisor/prerequisites/__init__.py": "nothing: it looks for a program that a message names",
    "tests/agent/launchers/test_confinement.py": "unshare and a shell",
    "tests/agent/launchers/test_device_programs.py": "unshare and a shell",
    "tests/agent/images/test_hostile_images.py": "bwrap and a shell",
    "tests/e2e/test_virtctl.py": "a virtctl that is built here",
    "tests/lab/host.py": "the emulator, behind setpriv",
    "tests/test_needs.py": "Python and cat, as another user",
    "tools/lanes.py": "make",
    "tools/images.py": "buildah, behind unshare where there is no root",
    "tools/try_launcher.py": "a launcher in a container, by runc",
}
"""Calls whose program cannot be read from the code -> what they run."""
RUN_THERE = {"nsenter", "remote-viewer", "xtigervncviewer", "vncviewer", "gvncviewer", "buildah", "runc", "unshare"}
"""What those run."""
HOST_PATH = re.compile(r"/(?:usr|bin|sbin|lib\w*|dev|proc|sys|etc)/[\w./*-]+")
OTHERS = {
    "/bin/busybox": "inside guests and images",
    "/sbin/init": "inside containers",
    "/etc/*": "read where it is there",
    "/dev/nmdm*": "made by bhyve's host",
    "/usr/local/share/libvirt/schemas/domain.rng": "a libvirt built from source",
    "/usr/lib*": "folders that are looked through",
    "/usr/local/*": "folders that are looked through",
    "/usr/bin": "a folder that is looked through",
    "/usr/sbin": "a folder that is looked through",
    "/dev/": "a beginning",
    "/sys/devices/virtual/powercap/": "hidden from containers",
    "/sys/devices/system/cpu": "there with every kernel",
    "/sys/firmware/": "hidden from containers",
    "/sys/module/apparmor/parameters/enabled": "there where the kernel has AppArmor",
    "/dev/data": "inside launcher Pods",
    "/dev/termination-log": "inside Pods",
}
"""Paths in the package's code that are no prerequisite, with the reason."""


@cache
def executed() -> Found:
    files = [path for folder in FOLDERS for path in sorted((TOP / folder).rglob("*.py"))]
    return Reader(TOP, files).read()


def run_by_scripts() -> Iterator[tuple[str, str]]:
    for script in SCRIPTS:
        for name in shell_programs((TOP / script).read_text()):
            yield name, script


def undeclared(entries: Iterable[Prerequisite]) -> dict[str, list[str]]:
    """Return the programs that run and are in no entry, with the places."""
    known = {word for entry in entries for words in entry.programs for word in words.split("|")}
    known |= {Path(place).name for entry in entries for place in entry.files}
    found: dict[str, set[str]] = {name: set(places) for name, places in executed().programs.items()}
    for name, script in run_by_scripts():
        found.setdefault(name, set()).add(script)
    for name in RUN_THERE:
        found.setdefault(name, set()).add("RUN_THERE")
    return {
        name: sorted(places)
        for name, places in found.items()
        if name not in known and not any(fnmatch(name.rpartition("/")[2], word) for word in known)
    }


def test_every_program_that_runs_is_declared() -> None:
    assert undeclared(prerequisites.everything()) == {}


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ("busybox-static", "busybox"),
        ("genisoimage", "genisoimage"),
        ("swtpm", "swtpm"),
        ("nftables", "nft"),
        ("mount", "umount"),
        ("containerd", "ctr"),
        ("openssh-client", "ssh-keygen"),
    ],
)
def test_a_line_that_is_taken_away_is_missed(package: str, program: str) -> None:
    left = [entry for entry in prerequisites.everything() if entry.packages.get("debian") != package]
    assert program in undeclared(left)


def undeclared_modules(entries: Iterable[Prerequisite]) -> dict[str, set[str]]:
    """Return the modules of libvirt's daemon that are used and that no entry brings, with the places."""
    files = [path for folder in FOLDERS for path in sorted((TOP / folder).rglob("*.py"))]
    brought = libvirt_modules.brought(file for entry in entries for file in entry.files)
    return {name: places for name, places in libvirt_modules.used(files, TOP).items() if name not in brought}


def test_every_module_of_libvirts_daemon_that_is_used_is_declared() -> None:
    assert undeclared_modules(prerequisites.everything()) == {}


@pytest.mark.parametrize("module", ["storage", "network"])
def test_a_module_that_is_taken_away_is_missed(module: str) -> None:
    left = [entry for entry in prerequisites.everything() if module not in libvirt_modules.brought(entry.files)]
    places = undeclared_modules(left).pop(module)
    assert any(place.startswith("polyvisor/launcher/endpoint/") for place in places)
    assert any(place.startswith("tests/agent/platform/endpoint/") for place in places)


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("connection.storagePoolDefineXML(x)", "storage"),
        ("c.listAllNodeDevices()", "nodedev"),
        ("c.interfaceLookupByName('eth0')", "interface"),
        ("c.secretDefineXML(x)", "secret"),
        ("c.nwfilterLookupByName('clean')", "nwfilter"),
        ("host.virsh('vol-list', 'images')", "storage"),
        ("virsh('net-start', 'lan')", "network"),
    ],
)
def test_a_use_of_a_module_is_seen(code: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    assert libvirt_modules.used([tmp_path / "code.py"], tmp_path) == {module: {"code.py:1"}}


def test_the_clean_room_tries_every_test_that_runs_an_installed_program() -> None:
    base = {word for entry in prerequisites.everything() if "base" in entry.lists for word in entry.programs}
    files = {
        place.partition(":")[0]
        for name, places in executed().programs.items()
        if name.rpartition("/")[2] not in base
        for place in places
    }
    steps = (TOP / "tools/clean-room/steps").read_text()
    tried = steps.partition("machine='")[2].partition("'")[0].split()
    assert all((TOP / place).exists() for place in tried)
    elsewhere = ("tests/e2e/", "tests/lab/", "tests/tools/", "tests/prerequisites/")
    tests = {file for file in files if file.startswith("tests/") and not file.startswith(elsewhere)}
    assert {file for file in tests if not any(Path(file).is_relative_to(place) for place in tried)} == set()
    assert "tests/agent/storage/test_contents.py" in tests


def test_calls_that_cannot_be_followed_are_explained() -> None:
    assert {place.partition(":")[0] for place in executed().unknown} == set(UNKNOWN)


def test_every_declared_program_is_used() -> None:
    used = {name.rpartition("/")[2] for name in executed().programs} | {name for name, _ in run_by_scripts()}
    used |= RUN_THERE | {path.rpartition("/")[2] for path, _ in opened()} | BY_OTHERS.keys()
    for entry in prerequisites.everything():
        for words in entry.programs if "base" not in entry.lists else ():
            assert any(fnmatch(name, word) or word in used for word in words.split("|") for name in used), words


BY_OTHERS = {
    "pkg-config": "pip",
    "containerd": "a script of tests/e2e/node.py",
    "iptables": "kube-proxy",
    "make": "the user",
    "sudo": "tools/setup",
    "python3": "the user",
    "runc": "containerd",
    "/Applications/Chicken.app/Contents/MacOS/Chicken": "VIEWERS",
    "timeout": "scripts in tests",
    "truncate": "scripts in tests",
    "losetup": "scripts in tests",
}
"""Programs that the code does not start itself -> who does."""


def opened() -> Iterator[tuple[str, str]]:
    """Yield paths that the code which touches the host names, with the file; other code speaks of Pods."""
    folders = ("agent", "drivers", "launcher", "testing")
    for path in (path for folder in folders for path in sorted((TOP / "polyvisor" / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and HOST_PATH.fullmatch(node.value):
                yield node.value, str(path.relative_to(TOP))


def test_every_path_of_the_host_is_declared() -> None:
    entries = prerequisites.everything()
    known = [place for entry in entries for words in (*entry.files, *entry.paths) for place in words.split("|")]
    programs = {word for entry in entries for words in entry.programs for word in words.split("|")}
    wrong = {
        path: file
        for path, file in opened()
        if path.rpartition("/")[2] not in programs
        and not any(fnmatch(path, place) or place.startswith(path.rstrip("/") + "/") for place in known)
        and not any(fnmatch(path, other) for other in OTHERS)
    }
    assert wrong == {}


def test_imports_are_of_the_library_ours_or_pinned() -> None:
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (TOP / "requirements.lock").read_text(), re.MULTILINE))
    brought = {
        module
        for module, distributions in packages_distributions().items()
        if any(re.sub(r"[._]", "-", name.lower()) in pinned for name in distributions)
    }
    ours = {"polyvisor", "tests", "bench", *(path.stem for path in (TOP / "tools").glob("*.py"))}
    ours |= {path.parent.name for path in (TOP / "tests").rglob("*/__init__.py")}
    wrong = {}
    ours |= OTHER_MODULES.keys()
    for folder in FOLDERS:
        for path in (TOP / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in (name.partition(".")[0] for name in names):
                    if name not in sys.stdlib_module_names | brought | ours:
                        wrong[name] = str(path.relative_to(TOP))
    assert wrong == {}


OTHER_MODULES = {
    "compression": "the library from Python 3.14 on, and backports.zstd before",
    "kr8s": "other clients that `make bench` compares with, installed by it",
    "kubernetes_asyncio": "the same",
    "lightkube": "the same",
    "ocp_resources": "a client that a test installs for itself",
}


def test_packages_of_images_are_declared() -> None:
    known = {entry.packages.get("debian") for entry in prerequisites.everything()}
    for file in (TOP / "polyvisor").rglob("Containerfile"):
        installed = re.findall(r"--no-install-recommends\s+(.*?)&&", file.read_text().replace("\\\n", " "), re.S)
        assert set(" ".join(installed).split()) - known == set(), file


CALLS = "find_family; prerequisites environment machine"


@pytest.mark.parametrize(("version", "key"), [("12", "debian"), ("13", "debian13")])
def test_set_up_reads_the_same_packages(version: str, key: str, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text(f'ID=debian\nVERSION_ID="{version}"\n')
    script = (TOP / "tools/setup").read_text()
    functions = script[script.index("find_family() {") : script.index("missing_packages() {")]
    functions = functions.replace("/etc/os-release", str(release)) + CALLS
    environment = {**os.environ, "prerequisites": str(prerequisites.LIST)}
    command = ["bash", "-euc", functions]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = {row.split("\t")[0] for row in said.splitlines()} - {"-"}
    document = tomllib.loads(prerequisites.LIST.read_text())["package"]
    wanted = [entry for entry in document if {"environment", "machine"} & set(entry["lists"])]
    assert found == {entry.get(key, entry["debian"]) for entry in wanted} - {""}
    assert ("virtiofsd" in found) == (version == "13")
