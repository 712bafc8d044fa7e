"""How one gets into the whole Debian under QEMU: cloud-init, SSH, keys and passwords; and what its agent tells."""

from __future__ import annotations

import json

import pytest

from polyvisor.cli.client import Client
from tests.e2e.guest_shell import true
from tests.e2e.standalone import Standalone

from .machines import SECRETS, Way, condition, logged_in, secret, wait

pytestmark = [pytest.mark.e2e, pytest.mark.proof]


def test_cloud_init_was_applied_as_ssh_tells(client: Client, full: str, ssh: Way) -> None:
    wait(client, full, lambda status: true(status, "AccessCredentialsSynchronized"), 120)
    wait(client, full, lambda status: true(status, "Ready"), 120)
    done = ssh(full, "cat /etc/written; hostname; id -un; cloud-init status --wait >/dev/null; cloud-init status")
    assert done.split() == ["by", "cloud-init", "full", "debian", "status:", "done"]


def test_the_agent_tells_of_debian(home: Standalone, client: Client, full: str) -> None:
    status = wait(client, full, lambda status: "guestOSInfo" in status)
    assert status["guestOSInfo"]["id"] == "debian"
    assert status["guestOSInfo"]["kernelRelease"].endswith("cloud-amd64")
    info = json.loads(home.run("guestosinfo", full))
    assert info["hostname"] == "full"
    mounts = {each["mountPoint"]: each["fileSystemType"] for each in json.loads(home.run("fslist", full))["items"]}
    assert mounts["/"] == "ext4"


def test_a_password_out_of_a_secret_opens_the_console(client: Client, full: str) -> None:
    with logged_in(client, full, "from-a-secret") as console:
        console.says("echo lo''gged in as $USER", rb"logged in as debian")


def test_keys_follow_their_secret(client: Client, full: str, ssh: Way) -> None:
    secret(client, "keys", second=(ssh.keys / "second.pub").read_text())
    ssh.key = "second"
    try:
        ssh.until(full, "echo in", lambda said: said == "in\n", 120)
        ssh.key = "first"
        refused = ssh.tried(full, "echo in")
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr
        secret(client, "keys", first=(ssh.keys / "first.pub").read_text())
    finally:
        ssh.key = "first"
    ssh.until(full, "echo in", lambda said: said == "in\n", 120)


def test_a_secret_that_is_gone_is_told(client: Client, full: str) -> None:
    client.request("DELETE", f"{SECRETS}/passwords")
    status = wait(client, full, lambda s: condition(s, "AccessCredentialsSynchronized").get("status") == "False", 60)
    assert (
        "Secret passwords of the access credentials does not exist"
        in condition(status, "AccessCredentialsSynchronized")["message"]
    )
    secret(client, "passwords", debian="from-a-secret")
    wait(client, full, lambda status: true(status, "AccessCredentialsSynchronized"), 60)
