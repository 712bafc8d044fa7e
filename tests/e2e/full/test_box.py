"""The same Debian under LXC: what the machine of QEMU's shows, as far as a container can show it."""

from __future__ import annotations

import itertools
import time

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.errors import ApiError
from tests.e2e.guest_shell import true
from tests.e2e.standalone import Standalone

from .machines import BOOT_SECONDS, VMIS, Obj, Way, logged_in, messages, wait

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

PAUSE_SECONDS = 3
SHUT_DOWN = "The VirtualMachineInstance was shut down."


def test_cloud_init_was_applied_as_ssh_tells(box: str, ssh: Way) -> None:
    said = ssh(box, "cat /etc/written; hostname; id -un; cloud-init status --wait >/dev/null; cloud-init status")
    assert said.split() == ["by", "cloud-init", "box", "debian", "status:", "done"]


def test_the_console_lets_in_by_password(client: Client, box: str) -> None:
    with logged_in(client, box, "from-cloud-init") as console:
        console.says("systemctl is-active ssh", rb"[\r\n]active")


def test_a_pause_holds_the_guests_clock(home: Standalone, client: Client, box: str, ssh: Way) -> None:
    """Its clock is the host's, so what is looked at is a guest's program that reads it all the time."""
    ssh(box, "sudo systemd-run --quiet sh -c 'while :; do date +%s; sleep 0.2; done >/run/ticks'")
    ssh.until(box, "cat /run/ticks", bool)
    home.run("pause", "vmi", box)
    wait(client, box, lambda status: true(status, "Paused"))
    time.sleep(PAUSE_SECONDS)
    home.run("unpause", "vmi", box)
    wait(client, box, lambda status: not true(status, "Paused"))
    resumed = len(ssh(box, "cat /run/ticks").split())
    ticks = ssh.until(box, "cat /run/ticks", lambda said: len(said.split()) > resumed).split()
    assert max(int(later) - int(tick) for tick, later in itertools.pairwise(ticks)) >= PAUSE_SECONDS - 1


def test_a_probe_fails_and_recovers_with_what_it_asks(client: Client, box: str) -> None:
    with logged_in(client, box, "from-cloud-init") as console:
        console.says("sudo systemctl stop ssh; systemctl is-active ssh", rb"[\r\n]inactive")
        status = wait(client, box, lambda status: not true(status, "Ready"))
        assert "Readiness probe failed" in str(status["conditions"])
        console.says("sudo systemctl start ssh; systemctl is-active ssh", rb"[\r\n]active")
        wait(client, box, lambda status: true(status, "Ready"))


@pytest.mark.parametrize("action", ["softreboot", "guestosinfo", "vnc/screenshot"])
def test_what_a_container_cannot_is_refused(client: Client, box: str, action: str) -> None:
    path = f"/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/{box}/{action}"
    with pytest.raises(ApiError, match="is not possible on LXC"):
        client.request("PUT" if action == "softreboot" else "GET", path)


def test_a_restart_is_another_instance_on_the_same_tree(home: Standalone, client: Client, box: str, ssh: Way) -> None:
    instance = client.get(f"{VMIS}/{box}")["metadata"]["uid"]
    ssh(box, "echo of the first boot >kept")
    home.run("restart", box)

    def another(_: Obj) -> bool:
        return bool(client.get(f"{VMIS}/{box}")["metadata"]["uid"] != instance)

    wait(client, box, another, BOOT_SECONDS)
    wait(client, box, lambda status: true(status, "Ready"), BOOT_SECONDS)
    assert ssh.until(box, "cat kept", bool) == "of the first boot\n"
    assert messages(client, box).count(SHUT_DOWN) == 1


def test_a_stop_is_the_guests_own_and_a_forced_one_is_not(home: Standalone, client: Client, box: str) -> None:
    home.run("stop", box, "--wait")
    assert messages(client, box).count(SHUT_DOWN) == 2
    home.run("start", box)
    wait(client, box, lambda status: status.get("phase") == "Running")
    home.run("stop", box, "--force", "--grace-period", "0", "--wait")
    assert messages(client, box).count(SHUT_DOWN) == 2
