"""What Polyvisor needs of a machine, what of it is missing, and the command that installs it here.

The list is ``packages.toml`` beside this file, which tools/setup and the tests read too. Looking takes no rights and
starts nothing: whether a driver really works is what its probe finds out.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("packages.toml")
MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where programs are that users who are not root do not have on their path."""
OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
NOT_INSTALLED = re.compile(r"(\S+) is not installed\b")


@dataclass(frozen=True, slots=True)
class Distribution:
    """A family of distributions: its key in the list, and how a package is installed."""

    key: str
    install: str
    version: str = ""


FAMILIES = {
    "debian": Distribution("debian", "apt-get install"),
    "ubuntu": Distribution("debian", "apt-get install"),
    "fedora": Distribution("fedora", "dnf install"),
    "rhel": Distribution("fedora", "dnf install"),
    "arch": Distribution("arch", "pacman -S"),
    "suse": Distribution("suse", "zypper install"),
    "opensuse": Distribution("suse", "zypper install"),
    "alpine": Distribution("alpine", "apk add"),
}


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """One entry of the list.

    ``programs`` and ``accounts`` (Debian's) must all be there, of ``files`` and ``paths`` (the kernel's) one.
    ``without`` says what does not work without it where the drivers work all the same; ``fix`` is the command for what
    the kernel lacks.
    """

    kind: str
    packages: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    needed_by: str = ""
    without: str = ""
    lists: tuple[str, ...] = ()
    fix: str = ""

    def missing(self) -> tuple[str, ...]:
        """Return what of it is not on this machine."""
        lacking = [words for words in self.programs if not any(map(find, words.split("|")))]
        if self.accounts and (here := this_distribution()) and here.key == "debian":
            lacking += [account for account in self.accounts if not _is_account(account)]
        for places in (self.files, self.paths):
            single = [place for words in places for place in words.split("|")]
            if single and not any(map(_exists, single)):
                lacking.append(places[0])
        return tuple(words.replace("|", " or ") for words in lacking)

    def package(self, distribution: Distribution | None) -> str:
        """Return the name of its package; empty if it is not known there."""
        if distribution is None:
            return ""
        if distribution.key == "debian" and "debian13" in self.packages and _is_new(distribution):
            return self.packages["debian13"]
        return self.packages.get(distribution.key, "")


def find(program: str) -> str | None:
    """Return the path of a program; a name may have a wildcard."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *MORE_PATH])
    if "*" in program:
        found = (each for folder in path.split(os.pathsep) for each in Path(folder).glob(program))
        return next(map(str, found), None)
    return shutil.which(program, path=path)


@cache
def everything() -> tuple[Prerequisite, ...]:
    """Return the whole list."""
    document = tomllib.loads(LIST.read_text())
    return tuple(_parse(kind, entry) for kind, entries in document.items() for entry in entries)


def of_driver(driver: str) -> tuple[Prerequisite, ...]:
    """Return what a driver needs."""
    return tuple(entry for entry in everything() if driver in entry.drivers)


@cache
def this_distribution() -> Distribution | None:
    """Return the family of this machine's distribution, if it is one that the list knows."""
    return distribution_of(next((path.read_text() for path in OS_RELEASE if path.exists()), ""))


def distribution_of(os_release: str) -> Distribution | None:
    """Read os-release's text: the distribution itself, else those that it says it is like."""
    lines = (line.partition("=") for line in os_release.splitlines())
    values = {key: value.strip("\"'") for key, _, value in lines}
    for name in (values.get("ID", ""), *values.get("ID_LIKE", "").split()):
        family = FAMILIES.get(name) or FAMILIES.get(name.partition("-")[0])
        if family:
            own = name in ("debian", "ubuntu") and name == values.get("ID")
            version = f"{name} {values.get('VERSION_ID', '')}" if own else ""
            return Distribution(family.key, family.install, version)
    return None


def install_command(entries: Iterable[Prerequisite], distribution: Distribution | None = None) -> str:
    """Return the command that installs or provides them all; empty where none is known."""
    distribution = distribution or this_distribution()
    found = list(entries)
    packages = dict.fromkeys(filter(None, (entry.package(distribution) for entry in found)))
    commands = [f"{distribution.install} {' '.join(packages)}"] if distribution and packages else []
    return "; ".join([*commands, *dict.fromkeys(entry.fix for entry in found if entry.fix)])


def not_installed(program: str) -> str:
    """Say that a program is not installed, with the command that changes that where it is known."""
    command = install_command(entry for entry in everything() if program in "|".join(entry.programs).split("|"))
    return f"{program} is not installed" + (f"; {command}" if command else "")


def still_missing(message: str) -> bool:
    """Say whether a message of :func:`not_installed` is still true of this machine; False for any other message."""
    found = NOT_INSTALLED.search(message)
    return found is not None and find(found[1]) is None


def advice(driver: str) -> str:
    """Return the command that provides what a driver cannot work without and this machine lacks; empty if none."""
    lacking = [entry for entry in of_driver(driver) if not entry.without and entry.missing()]
    return "" if beyond_help(lacking) else install_command(lacking)


def beyond_help(lacking: Iterable[Prerequisite]) -> bool:
    """Say whether something is missing that no package and no setting brings."""
    return any(not entry.fix and entry.kind != "package" for entry in lacking)


def advised(driver: str, reason: str) -> str:
    """Return a probe's reason with the command that helps, if there is one."""
    command = advice(driver)
    return f"{reason}; {command}" if command else reason


def _is_account(account: str) -> bool:
    kind, _, name = account.partition(" ")
    try:
        pwd.getpwnam(name) if kind == "user" else grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _exists(place: str) -> bool:
    return any(Path("/").glob(place.lstrip("/")))


def _is_new(distribution: Distribution) -> bool:
    """Say whether packages have the names of Debian 13: there, in what follows it, and in Ubuntu from 24.04 on."""
    name, _, version = distribution.version.partition(" ")
    number = version.partition(".")[0]
    return not number.isdigit() or int(number) >= {"debian": 13, "ubuntu": 24}[name]


def _parse(kind: str, entry: Mapping[str, Any]) -> Prerequisite:
    names = ("debian", "debian13", "fedora", "arch", "suse", "alpine")
    packages = {name: str(entry[name]) for name in names if name in entry}
    more: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key not in names
    }
    return Prerequisite(kind, packages, **more)
