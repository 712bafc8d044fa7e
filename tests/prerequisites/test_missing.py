"""What of the list is missing on a machine, and the command that installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor import prerequisites
from polyvisor.prerequisites import Distribution, Prerequisite, distribution_of, install_command

DEBIAN_12 = distribution_of('ID=debian\nVERSION_ID="12"\n')
FEDORA = distribution_of("ID=fedora\nVERSION_ID=41\n")
SHARES = Prerequisite("package", {"debian": "", "debian13": "virtiofsd", "fedora": "virtiofsd"})
ENGINE = Prerequisite("package", {"debian": "engine", "fedora": "engine-bin"}, programs=("engine|motor",))
DEVICE = Prerequisite("kernel", paths=("/dev/none-such",), fix="modprobe none")


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(prerequisites, "MORE_PATH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("name", ["engine", "motor"])
def test_one_of_two_programs_is_enough(path: Path, name: str) -> None:
    assert ENGINE.missing() == ("engine or motor",)
    program(path, name)
    assert ENGINE.missing() == ()


def test_a_name_with_a_wildcard(path: Path) -> None:
    entry = Prerequisite("package", programs=("engine-*",))
    assert entry.missing() == ("engine-*",)
    program(path, "engine-x86")
    assert entry.missing() == ()


def test_one_of_several_files_is_enough(path: Path) -> None:
    entry = Prerequisite("package", files=(f"{path}/a", f"{path}/b*"))
    assert entry.missing() == (f"{path}/a",)
    (path / "bc").touch()
    assert entry.missing() == ()


@pytest.mark.parametrize(
    ("text", "key", "install"),
    [
        ("ID=debian\nVERSION_ID=12", "debian", "apt-get install"),
        ("ID=ubuntu\nID_LIKE=debian", "debian", "apt-get install"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"', "debian", "apt-get install"),
        ("ID=fedora", "fedora", "dnf install"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "fedora", "dnf install"),
        ("ID=arch", "arch", "pacman -S"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"', "suse", "zypper install"),
        ("ID=alpine", "alpine", "apk add"),
    ],
)
def test_a_distribution_is_known_by_its_family(text: str, key: str, install: str) -> None:
    found = distribution_of(text)
    assert found is not None
    assert (found.key, found.install) == (key, install)


@pytest.mark.parametrize("text", ["", "ID=nixos", "ID", "ID_LIKE="])
def test_an_unknown_distribution_has_no_command(text: str) -> None:
    assert distribution_of(text) is None


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("ID=debian\nVERSION_ID=12", ""),
        ("ID=debian\nVERSION_ID=13", "virtiofsd"),
        ("ID=debian", "virtiofsd"),
        ("ID=ubuntu\nVERSION_ID=22.04", ""),
        ("ID=ubuntu\nVERSION_ID=24.04", "virtiofsd"),
        ("ID=fedora\nVERSION_ID=12", "virtiofsd"),
        ("ID=arch", ""),
    ],
)
def test_a_package_has_the_name_that_its_release_has(text: str, package: str) -> None:
    assert SHARES.package(distribution_of(text)) == package


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        (DEBIAN_12, "apt-get install engine; modprobe none"),
        (FEDORA, "dnf install engine-bin virtiofsd; modprobe none"),
        (Distribution("none", "get"), "modprobe none"),
    ],
)
def test_one_command_for_all(distribution: Distribution, command: str) -> None:
    assert install_command([ENGINE, SHARES, ENGINE, DEVICE], distribution) == command


def test_a_reason_comes_with_the_command_only_if_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    engine = Prerequisite("package", {"debian": "engine"}, programs=("engine",), drivers=("one",))
    wing = Prerequisite("package", {"debian": "wing"}, programs=("wing",), drivers=("one",), without="no flying")
    monkeypatch.setattr(prerequisites, "everything", lambda: (engine, wing))
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: DEBIAN_12)
    assert prerequisites.advised("one", "it does not start") == "it does not start; apt-get install engine"
    assert prerequisites.advised("two", "it does not start") == "it does not start"
    program(path, "engine")
    assert prerequisites.advised("one", "it does not start") == "it does not start"


def test_a_program_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "everything", lambda: (ENGINE,))
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: FEDORA)
    assert prerequisites.not_installed("motor") == "motor is not installed; dnf install engine-bin"
    assert prerequisites.not_installed("mot") == "mot is not installed"


def test_a_message_of_a_missing_program_is_true_until_it_is_there(path: Path) -> None:
    message = f"writing a disc: {prerequisites.not_installed('engine')}"
    assert prerequisites.still_missing(message)
    program(path, "engine")
    assert not prerequisites.still_missing(message)
    assert not prerequisites.still_missing("the disk is full")


@pytest.mark.parametrize(("distribution", "missing"), [(DEBIAN_12, ("group none-such",)), (FEDORA, ()), (None, ())])
def test_accounts_are_those_of_debian(
    monkeypatch: pytest.MonkeyPatch, distribution: Distribution | None, missing: tuple[str, ...]
) -> None:
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: distribution)
    entry = Prerequisite("package", accounts=("user root", "group root", "group none-such"))
    assert entry.missing() == missing


def test_no_package_is_advised_where_it_would_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Prerequisite("package", {"debian": "engine"}, programs=("engine",), drivers=("one",))
    kernel = Prerequisite("kernel", paths=("/none-such",), drivers=("one",))
    monkeypatch.setattr(prerequisites, "everything", lambda: (engine, kernel))
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: DEBIAN_12)
    assert prerequisites.advised("one", "this is no such host") == "this is no such host"
