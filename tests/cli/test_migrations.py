"""migrate, migrate-cancel and evacuate-cancel, through the real subresource API."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig

from .conftest import Cli, Server

Obj = dict[str, Any]
BASE = "/apis/kubevirt.io/v1/namespaces/default"
MIGRATIONS = f"{BASE}/virtualmachineinstancemigrations"
SPEC = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def clean(on_server: Cli) -> None:
    assert on_server("delete", "vmim,vmi,vm", "--all").code == 0


def make(client: Client, phase: str = "Running", **status: Any) -> None:
    about = {"apiVersion": "kubevirt.io/v1", "metadata": {"name": "web"}}
    template = {"metadata": {}, "spec": SPEC}
    body = {"runStrategy": "Always", "template": template}
    client.request("POST", f"{BASE}/virtualmachines", {**about, "kind": "VirtualMachine", "spec": body})
    vmi = {**about, "kind": "VirtualMachineInstance", "spec": SPEC, "status": {"phase": phase, **status}}
    client.request("POST", f"{BASE}/virtualmachineinstances", vmi)


def migrations(client: Client) -> list[Obj]:
    return list(client.get(MIGRATIONS)["items"])


def test_a_vm_is_migrated_by_an_object_of_its_own(on_server: Cli, client: Client) -> None:
    make(client)
    assert on_server("migrate", "web", "--dry-run").code == 0
    assert migrations(client) == []
    done = on_server("migrate", "web", "--addedNodeSelector", "disk=fast,zone=a")
    assert (done.code, done.out) == (0, "VM web was scheduled to migrate\n")
    (made,) = migrations(client)
    assert made["metadata"]["name"].startswith("kubevirt-migrate-vm-")
    assert made["spec"] == {"vmiName": "web", "addedNodeSelector": {"disk": "fast", "zone": "a"}}


def test_what_does_not_run_is_not_migrated(on_server: Cli, client: Client) -> None:
    make(client, "Scheduled")
    refused = on_server("migrate", "web")
    assert refused.code == 5
    assert "VM is not running" in refused.err
    assert on_server("migrate", "nobody").code == 4
    wrong = on_server("migrate", "web", "--addedNodeSelector", "disk")
    assert (wrong.code, "'disk' is not LABEL=VALUE" in wrong.err) == (2, True)


def test_a_migration_is_given_up_by_its_deletion(on_server: Cli, client: Client) -> None:
    missing = on_server("migrate-cancel", "web")
    assert (missing.code, "Found no migration to cancel for web" in missing.err) == (4, True)
    for name, phase in (("over", "Succeeded"), ("runs", "Running")):
        metadata = {"name": name, "labels": {"kubevirt.io/vmi-name": "web"}}
        body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration", "metadata": metadata}
        made = client.request("POST", MIGRATIONS, {**body, "spec": {"vmiName": "web"}})
        client.request("PUT", f"{MIGRATIONS}/{name}/status", {**made, "status": {"phase": phase}})
    assert on_server("migrate-cancel", "web").code == 0
    assert [one["metadata"]["name"] for one in migrations(client)] == ["over"]


def test_a_machine_stays_that_a_drain_was_to_move(on_server: Cli, client: Client) -> None:
    make(client, evacuationNodeName="n1")
    assert on_server("evacuate-cancel", "vmi", "web", "--dry-run").code == 0
    path = f"{BASE}/virtualmachineinstances/web"
    assert client.get(path)["status"]["evacuationNodeName"] == "n1"
    assert on_server("evacuate-cancel", "vm", "web").code == 0
    assert "evacuationNodeName" not in client.get(path)["status"]
