"""The life of the whole Debian under QEMU: held, asked whether it is ready, given a disk, booted again, stopped."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from polyvisor.kube.errors import ApiError
from tests.e2e.guest_shell import Shell, true
from tests.e2e.standalone import Standalone

from .machines import BOOT_SECONDS, MORE_CLAIM, VMIS, Obj, Way, apply, claim, logged_in, messages, wait

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PAUSE_SECONDS = 5
SHUT_DOWN = "The VirtualMachineInstance was shut down."
PROBED = "Readiness probe failed"
SERIAL = "more-of-it"
DISK = f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{SERIAL}"


def wait_gone(client: Client, name: str) -> None:
    deadline = time.monotonic() + 60
    with suppress(ApiError):
        while client.get(f"{VMIS}/{name}"):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def uid(client: Client, name: str) -> str:
    return str(client.get(f"{VMIS}/{name}")["metadata"]["uid"])


def test_a_pause_holds_the_guests_clock(home: Standalone, client: Client, full: str, ssh: Way) -> None:
    def uptime() -> float:
        return float(ssh(full, "cat /proc/uptime").split()[0])

    before, began = uptime(), time.monotonic()
    home.run("pause", "vmi", full)
    wait(client, full, lambda status: true(status, "Paused"))
    held = time.monotonic()
    time.sleep(PAUSE_SECONDS)
    held = time.monotonic() - held
    home.run("unpause", "vmi", full)
    wait(client, full, lambda status: not true(status, "Paused"))
    assert uptime() - before < time.monotonic() - began - held + 1


def test_a_probe_fails_and_recovers_with_what_it_asks(client: Client, full: str) -> None:
    wait(client, full, lambda status: true(status, "Ready"), BOOT_SECONDS)
    with logged_in(client, full, "from-a-secret") as console:
        console.says("sudo systemctl stop ssh; systemctl is-active ssh", rb"[\r\n]inactive")
        status = wait(client, full, lambda status: not true(status, "Ready"))
        assert PROBED in str(status["conditions"])
        console.says("sudo systemctl start ssh; systemctl is-active ssh", rb"[\r\n]active")
        wait(client, full, lambda status: true(status, "Ready"))


def test_a_disk_comes_and_goes_in_the_running_guest(home: Standalone, client: Client, full: str, ssh: Way) -> None:
    apply(home, claim(MORE_CLAIM, "8Mi"))
    home.run("addvolume", full, "--volume-name", MORE_CLAIM, "--serial", SERIAL)
    ssh.until(full, f"test -b {DISK} && echo there", lambda said: said == "there\n", 120)
    assert ssh(full, f"sudo blockdev --getsize64 {DISK}") == f"{8 << 20}\n"
    ssh(full, f"echo out of the guest | sudo dd of={DISK} conv=fsync status=none")
    content = (home.folder / "volumes" / "default" / MORE_CLAIM / "disk.img").read_bytes()
    assert content.startswith(b"out of the guest\n")
    home.run("removevolume", full, "--volume-name", MORE_CLAIM)
    ssh.until(full, f"test -b {DISK} || echo gone", lambda said: said == "gone\n", 120)
    wait(client, full, lambda status: MORE_CLAIM not in str(status.get("volumeStatus")))


def test_a_soft_reboot_is_another_boot_of_the_same_instance(
    home: Standalone, client: Client, full: str, ssh: Way
) -> None:
    instance, boot = uid(client, full), ssh.boot(full)
    ssh(full, "echo of the first boot >kept; sync")
    home.run("soft-reboot", full)
    ssh.until(full, "cat /proc/sys/kernel/random/boot_id", lambda said: said not in ("", boot))
    assert ssh(full, "cat kept") == "of the first boot\n"
    wait(client, full, lambda status: true(status, "AgentConnected"), BOOT_SECONDS)
    assert uid(client, full) == instance


def test_a_restart_is_another_instance_on_the_same_disk(home: Standalone, client: Client, full: str, ssh: Way) -> None:
    instance, boot = uid(client, full), ssh.boot(full)
    home.run("restart", full)

    def another(_: Obj) -> bool:
        return uid(client, full) != instance

    wait(client, full, another, BOOT_SECONDS)
    wait(client, full, lambda status: true(status, "AgentConnected"), BOOT_SECONDS)
    assert ssh.until(full, "cat /proc/sys/kernel/random/boot_id", bool) != boot
    assert ssh(full, "cat kept") == "of the first boot\n"
    assert messages(client, full).count(SHUT_DOWN) == 1


def test_a_stop_is_the_guests_own_and_a_forced_one_is_not(home: Standalone, client: Client, full: str) -> None:
    with connected(client, "default", full) as websocket:
        home.run("stop", full)
        Shell(websocket).until(rb"reboot: Power down", 120)
    deadline = time.monotonic() + 120
    while messages(client, full).count(SHUT_DOWN) < 2:
        assert time.monotonic() < deadline, messages(client, full)
        time.sleep(0.2)
    wait_gone(client, full)
    home.run("start", full)
    wait(client, full, lambda status: status.get("phase") == "Running")
    home.run("stop", full, "--force", "--grace-period", "0", "--wait")
    assert messages(client, full).count(SHUT_DOWN) == 2
