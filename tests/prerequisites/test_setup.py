"""tools/setup on a distribution whose packages it does not install: it says what is missing, and goes on or stops."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
