"""tools/setup on a distribution whose packages it does not install: it says what is missing, and goes on or stops."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from polyvisor import prerequisites

TOP = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("ready")]
HIDE = """
mount --bind {release} /etc/os-release
for file in {hidden}; do
    mount -t tmpfs none "${{file%/*}}" 2>/dev/null
done
cd {top} && exec tools/setup
"""


@pytest.fixture(scope="module")
def ready() -> None:
    """The machine as `make test` has it: after set-up."""
    subprocess.run([TOP / "tools/setup"], check=True)


def set_up(tmp_path: Path, release: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    """Run it where the distribution is another and the folders of these files are empty."""
    file = tmp_path / "os-release"
    file.write_text(release)
    script = HIDE.format(release=file, hidden=" ".join(hidden), top=TOP)
    return subprocess.run(["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, timeout=60)


def test_all_is_there() -> None:
    done = subprocess.run([TOP / "tools/setup"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "setup: nothing is missing\n", "")


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=fedora\nVERSION_ID=41\n", "setup: install them with: dnf install edk2-ovmf\n"),
        ("ID=arch\n", "setup: install them with: pacman -S edk2-ovmf\n"),
        ("ID=manjaro\nID_LIKE=arch\n", "setup: install them with: pacman -S edk2-ovmf\n"),
        ("ID=alpine\nVERSION_ID=3.21.0\n", "setup: install them with: apk add ovmf\n"),
        (
            'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n',
            "setup: install them with: zypper install qemu-ovmf-x86_64\n",
        ),
        ("ID=solus\n", ""),
    ],
)
def test_what_it_can_do_without_is_said(tmp_path: Path, release: str, command: str) -> None:
    done = set_up(tmp_path, release, "/usr/share/qemu/firmware/x")
    missing = "setup: missing: /usr/share/qemu/firmware/*.json\n"
    assert (done.returncode, done.stdout) == (0, f"{missing}{command}setup: nothing else is missing\n")


def test_without_what_it_needs_itself_it_stops(tmp_path: Path) -> None:
    done = set_up(tmp_path, 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "/usr/include/libvirt/x")
    assert done.returncode == 1
    assert done.stdout.endswith(
        "setup: missing: /usr/include/libvirt/libvirt.h\nsetup: install them with: zypper install libvirt-devel\n"
    )
    assert done.stderr == "setup: run this again when they are there\n"


NEWER = """
set -e
mount --bind {folder}/os-release /etc/os-release
mount --bind {folder}/apt-get /usr/bin/apt-get
mount -t tmpfs none {folder}/sbin
mkdir {folder}/sbin/upper {folder}/sbin/work
mount -t overlay -o lowerdir=/usr/sbin,upperdir={folder}/sbin/upper,workdir={folder}/sbin/work none /usr/sbin
cd {top} && exec tools/setup
"""
"""Where apt-get only says what it is asked for; /usr/sbin is written to while it runs."""


@pytest.mark.parametrize(("version", "newer"), [("22.04", False), ("24.04", True)])
def test_ubuntu_has_the_names_of_the_debian_that_it_is_made_of(tmp_path: Path, version: str, newer: bool) -> None:
    (tmp_path / "os-release").write_text(f'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="{version}"\n')
    (tmp_path / "apt-get").write_text('#!/bin/sh\necho "apt-get $*"\nexit 100\n')
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "sbin").mkdir()
    there = set(
        subprocess.run(["dpkg-query", "-W", "-f", "${Package} "], capture_output=True, text=True).stdout.split()
    )
    wanted = [
        entry.packages.get("debian13" if newer and "debian13" in entry.packages else "debian", "")
        for entry in prerequisites.everything()
        if {"environment", "machine"} & set(entry.lists)
    ]
    missing = list(dict.fromkeys(name for name in wanted if name and name not in there))
    script = NEWER.format(folder=tmp_path, top=TOP)
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, timeout=60)
    if missing:
        assert done.stdout.startswith(f"setup: Debian packages to install: {' '.join(missing)}\n"), done.stderr
        assert "\napt-get update -q\n" in done.stdout
        assert done.returncode == 100
    else:
        assert (done.returncode, done.stdout) == (0, "setup: nothing is missing\n"), done.stderr
