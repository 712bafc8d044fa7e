"""A user's first machine on a host without a kubelet, by the command line alone: a real libvirt, reached by SSH."""

from __future__ import annotations

import json

import pytest

from polyvisor.api.resources import ENDPOINTS
from polyvisor.cli.client import Client
from polyvisor.kube.errors import ApiError
from tests.agent.platform.endpoint.hosts import HypervisorHost

from .guest_shell import shell, true, until
from .remote_host import by_ssh, home, host  # noqa: F401, two fixtures
from .standalone import Standalone

pytestmark = [pytest.mark.e2e, pytest.mark.root]
KERNEL = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
MACHINE = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": "afar"},
    "spec": {
        "runStrategy": "RerunOnFailure",
        "template": {
            "spec": {
                "hypervisor": {"endpoint": "rack4", "virtType": "qemu"},
                "domain": {
                    "memory": {"guest": "128Mi"},
                    "resources": {"requests": {"cpu": "10m"}},
                    "devices": {},
                    "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}},
                },
                "volumes": [{"name": "data", "containerDisk": {"image": "localhost/polyvisor/demo-disk:1"}}],
            }
        },
    },
}


def test_a_machine_on_a_host_is_made_used_stopped_and_removed(
    home: Standalone,  # noqa: F811
    host: HypervisorHost,  # noqa: F811
    client: Client,
) -> None:
    added = home.run("endpoint", "add", *by_ssh(host), "--name", "rack4")
    assert "pool images of the host is where disks go (storage class rack4)" in added
    home.run_machines(MACHINE)
    until(client, "afar", lambda status: true(status, "Ready"))
    assert "afar" in home.run("get", "vmi")
    assert host.virsh("list", "--name") == "default_afar"
    with shell(client, "afar") as console:
        assert console.says("echo $((6 * 7))", rb"42\r")
    assert "polyvisor-demo: disk vda, 8 MiB" in home.run("logs", "afar")
    explained = json.loads(home.run("domains", "rack4", "-o", "json"))
    assert [one["management"] for one in explained["items"]] == ["Managed"]
    with pytest.raises(ApiError, match="has virtual machines on its host: default/afar"):
        client.request("DELETE", ENDPOINTS.path(name="rack4"))
    home.run("delete", "vm", "afar")
    assert host.virsh("list", "--all", "--name") == ""
    assert "endpoint rack4 removed" in home.run("endpoint", "remove", "rack4")
