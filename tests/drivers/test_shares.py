"""What shares a folder in a launcher Pod runs with the capabilities that its container has, and keeps fewer."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from polyvisor.controllers.pod_volumes import SHARING
from polyvisor.drivers.qemu.plan import SHARE
from tests.needs import need

CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "SETGID": 6, "SETUID": 7}
"""What a program needs that writes a guest's files under the guest's users, and the bits of the kernel."""
FOR_A_MOMENT = {"SYS_CHROOT", "SETPCAP"}
SERVES = ("virtio_loop: Entry", "Client connected, servicing requests")
"""What virtiofsd says when a guest has come: the one of QEMU 7.2, and the one in Rust that took its place."""
EMULATOR = "qemu-system-x86_64"

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("programs")]


@pytest.fixture
def programs() -> None:
    need("/usr/lib/qemu/virtiofsd", "qemu-system-*")


def added() -> list[str]:
    return list(cast(dict[str, Any], SHARING["capabilities"])["add"])


def test_the_container_has_no_more_than_that() -> None:
    assert set(added()) == set(CAPABILITIES) | FOR_A_MOMENT
    assert SHARING["allowPrivilegeEscalation"] is False


def test_it_starts_with_these_and_gives_up_the_rest(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    path = tmp_path / "s"
    words = [word.format(socket=path, folder=tmp_path / "shared") for word in SHARE]
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in added())])
    program = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--no-new-privs", *words]
    machine = [EMULATOR, "-accel", "tcg", "-m", "64", "-display", "none", "-S", "-M", "q35,memory-backend=m"]
    machine += ["-object", "memory-backend-memfd,id=m,size=64M,share=on", "-chardev", f"socket,id=c,path={path}"]
    machine += ["-device", "vhost-user-fs-pci,chardev=c,tag=x"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as sharing:
        assert sharing.stderr is not None
        try:
            said = iter(sharing.stderr.readline, "")
            assert any("Waiting for vhost-user socket connection" in line for line in said)
            with subprocess.Popen(machine, stderr=subprocess.DEVNULL) as guest:
                try:
                    assert any(word in line for line in said for word in SERVES), "it ended before it served"
                    status = Path(f"/proc/{sharing.pid}/status").read_text()
                    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                    assert int(found["CapEff"], 16) == sum(1 << bit for bit in CAPABILITIES.values())
                    assert (int(found["CapBnd"], 16), found["Seccomp"]) == (0, "2")
                    root = Path(f"/proc/{sharing.pid}/root")
                    assert root.samefile(tmp_path / "shared")
                finally:
                    guest.kill()
        finally:
            sharing.send_signal(signal.SIGKILL)
