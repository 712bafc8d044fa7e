"""A stopped machine goes to a real host by SSH, and back here, with what its guest wrote on its disk."""

from __future__ import annotations

import json

import pytest

from polyvisor.api.resources import DATAVOLUMES, PVCS, VMS
from polyvisor.cli.client import Client
from tests.agent.platform.endpoint.hosts import HypervisorHost

from .guest_shell import shell, true, until
from .remote_host import by_ssh, home, host  # noqa: F401, two fixtures
from .standalone import KERNEL, Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.root]
MACHINE = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": "mover"},
    "spec": {
        "runStrategy": "Always",
        "dataVolumeTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "source": {"blank": {}},
                    "pvc": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
                },
            }
        ],
        "template": {
            "spec": {
                "hypervisor": {"driver": "qemu", "virtType": "qemu"},
                "domain": {
                    "memory": {"guest": "128Mi"},
                    "resources": {"requests": {"cpu": "10m"}},
                    "devices": {"disks": [{"name": "data", "disk": {"bus": "virtio"}}], "interfaces": []},
                    "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}},
                },
                "terminationGracePeriodSeconds": 5,
                "networks": [],
                "volumes": [{"name": "data", "dataVolume": {"name": "data"}}],
            }
        },
    },
}


def test_a_machine_moves_to_a_host_and_back_with_its_disk(
    home: Standalone,  # noqa: F811
    host: HypervisorHost,  # noqa: F811
    client: Client,
) -> None:
    home.run("endpoint", "add", *by_ssh(host), "--name", "rack4")
    home.run_machines(MACHINE)
    until(client, "mover", lambda status: true(status, "Ready"))
    with shell(client, "mover") as console:
        console.says("echo i-was-here | dd of=/dev/vda bs=512 conv=sync; sync; echo $((6 * 7))", rb"42\r")
    home.run("stop", "mover", "--wait")
    report = json.loads(home.run("move", "mover", "--to", "rack4", "--dry-run", "-o", "json"))
    assert ("volume", "stays") in {(one["subject"], one["outcome"]) for one in report["findings"]}
    assert client.get(VMS.path("default", "mover"))["spec"]["template"]["spec"]["hypervisor"]["driver"] == "qemu"
    said = home.run("move", "mover", "--to", "rack4", "--old-claims", "delete")
    assert "VM mover is at rack4; its disks before stay as data" in said
    home.run("start", "mover")
    until(client, "mover", lambda status: true(status, "Ready"))
    assert host.virsh("list", "--name") == "default_mover"
    with shell(client, "mover") as console:
        console.says("head -c 10 /dev/vda; echo", rb"i-was-here")
        console.says("echo and-there | dd of=/dev/vda bs=512 seek=1 conv=sync; sync; echo $((6 * 7))", rb"42\r")
    for resource in (DATAVOLUMES, PVCS):
        assert "data" not in {one["metadata"]["name"] for one in client.get(resource.path("default"))["items"]}
    home.run("stop", "mover", "--wait")
    home.run("move", "mover", "--to", "qemu")
    home.run("start", "mover")
    until(client, "mover", lambda status: true(status, "Ready"))
    assert host.virsh("list", "--all", "--name") == ""
    with shell(client, "mover") as console:
        console.says("head -c 10 /dev/vda; echo", rb"i-was-here")
        console.says("dd if=/dev/vda bs=512 skip=1 count=1 2>/dev/null | head -c 9; echo", rb"and-there")
    home.run("delete", "vm", "mover")
