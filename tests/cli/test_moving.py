"""``move``: the report, the copies, and the one step in which the machine changes; copies are filled by the test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import DATAVOLUMES, ENDPOINTS, PVCS, SNAPSHOTS, VMIS, VMS
from polyvisor.cli.client import MERGE, Client
from polyvisor.cli.errors import CliError
from polyvisor.cli.moving import new_name
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.errors import ApiError
from tests.cli.conftest import Cli, Result, Server

VM = VMS.path("default", "mover")


@pytest.fixture
def client(server: Server, on_server: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("POLYVISOR_STATE_DIR", str(server.root))  # it is the installation of this machine
    found = Client(from_kubeconfig(server.kubeconfig))
    make(found, ENDPOINTS.path(), endpoint())
    make(found, PVCS.path("default"), claim("disk"))
    make(found, VMS.path("default"), machine())
    yield found
    for path in (VM, PVCS.path("default", "disk"), ENDPOINTS.path(name="rack4"), VMIS.path("default", "mover")):
        gone(found, path)
    for one in found.get(DATAVOLUMES.path("default"))["items"]:
        gone(found, DATAVOLUMES.path("default", one["metadata"]["name"]))
    found.close()


def make(client: Client, path: str, obj: Obj) -> None:
    client.request("POST", path, obj)


def gone(client: Client, path: str) -> None:
    with suppress(ApiError):  # it is not there
        client.request("DELETE", path)


def endpoint(**spec: Any) -> Obj:
    storage = [{"storageClass": "images", "pool": "default", "defaultForImages": True}]
    whole = {"uri": "qemu+ssh://root@h/system", "storage": storage, "allowedNamespaces": {"selector": {}}, **spec}
    return {
        "apiVersion": "hypervisor.kubevirt.io/v1alpha1",
        "kind": "HypervisorEndpoint",
        "metadata": {"name": "rack4"},
        "spec": whole,
    }


def claim(name: str) -> Obj:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def machine() -> Obj:
    disks = [{"name": "data", "disk": {"bus": "virtio"}}]
    domain = {"memory": {"guest": "64Mi"}, "devices": {"disks": disks, "interfaces": []}}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}]
    spec = {"hypervisor": {"driver": "qemu"}, "domain": domain, "networks": [], "volumes": volumes}
    whole = {"runStrategy": "Halted", "template": {"spec": spec}}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "mover"}, "spec": whole}


@contextmanager
def filler(client: Client, fill: Callable[[Obj], Obj]) -> Iterator[list[Obj]]:
    """Play whoever fills DataVolumes: each new one gets the status that ``fill`` gives; gives those that were seen."""
    seen: list[Obj] = []
    over = threading.Event()
    own = Client(client.connection)

    def work() -> None:
        while not over.is_set():
            for one in own.get(DATAVOLUMES.path("default"))["items"]:
                if one["metadata"]["uid"] not in [known["metadata"]["uid"] for known in seen]:
                    seen.append(one)
                    path = f"{DATAVOLUMES.path('default', one['metadata']['name'])}/status"
                    own.request("PATCH", path, {"status": fill(one)}, content_type=MERGE)
            time.sleep(0.02)  # nothing is awaited but objects of another process

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        own.close()


def done(_: Obj) -> Obj:
    return {"phase": "Succeeded", "progress": "100.0%"}


def test_a_machine_gets_its_copies_and_keeps_the_old_claims(on_server: Cli, client: Client) -> None:
    with filler(client, done) as seen:
        result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 0, result
    assert "VM mover is at rack4; its disks before stay as disk" in result.out
    (copy,) = seen
    assert copy["spec"]["source"] == {"pvc": {"namespace": "default", "name": "disk"}}
    assert copy["spec"]["pvc"]["storageClassName"] == "images"
    assert copy["spec"]["pvc"]["resources"] == {"requests": {"storage": "16Mi"}}
    assert "ownerReferences" not in copy["metadata"]  # the claim before is not the machine's either
    spec = client.get(VM)["spec"]["template"]["spec"]
    assert spec["hypervisor"] == {"endpoint": "rack4"}
    assert spec["volumes"] == [{"name": "data", "dataVolume": {"name": "disk-rack4"}}]
    assert client.get(PVCS.path("default", "disk"))
    moved = json.loads(client.get(VM)["metadata"]["annotations"]["hypervisor.kubevirt.io/moved"])
    assert moved == {"claims": ["disk"], "from": "qemu", "policy": "Retain", "to": "rack4"}


def test_a_dry_run_reports_and_changes_nothing(on_server: Cli, client: Client) -> None:
    before = client.get(VM)
    for name, source in (("s1", "mover"), ("s2", "another")):
        reference = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": source}
        kind = {"apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot"}
        snapshot = {**kind, "metadata": {"name": name}, "spec": {"source": reference}}
        make(client, SNAPSHOTS.path("default"), snapshot)
    result: Result = on_server("move", "mover", "--to", "rack4", "--dry-run", "-o", "json")
    assert result.code == 0, result
    for name in ("s1", "s2"):
        gone(client, SNAPSHOTS.path("default", name))
    findings = json.loads(result.out)["findings"]
    assert [one["message"][:12] for one in findings if one["subject"] == "snapshots"] == ["1 snapshots "]
    found = {(one["subject"], one["outcome"]) for one in findings}
    assert {("driver", "changes"), ("bus", "stays"), ("volume", "stays")} <= found
    assert client.get(VM) == before
    assert client.get(DATAVOLUMES.path("default"))["items"] == []


def test_a_machine_that_was_changed_meanwhile_stays_and_the_copies_go(on_server: Cli, client: Client) -> None:
    def change(volume: Obj) -> Obj:
        other = Client(client.connection)
        other.request("PATCH", VM, {"metadata": {"labels": {"changed": "yes"}}}, content_type=MERGE)
        other.close()
        return done(volume)

    with filler(client, change):
        result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 5, result
    assert "was changed or started meanwhile, and stays where it is" in result.err
    assert client.get(VM)["spec"]["template"]["spec"]["hypervisor"] == {"driver": "qemu"}
    assert client.get(DATAVOLUMES.path("default"))["items"] == []


def test_copies_that_the_machine_has_already_are_never_removed(
    on_server: Cli, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was changed, and the answer was lost."""
    request = Client.request

    def lost(self: Client, method: str, path: str, *arguments: Any, **more: Any) -> Obj:
        answer = request(self, method, path, *arguments, **more)
        if method == "PUT" and not more.get("query"):
            raise CliError("the connection broke")
        return answer

    monkeypatch.setattr(Client, "request", lost)
    with filler(client, done):
        result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 1, result
    assert "it is not known whether VM mover has moved to rack4: the connection broke" in result.err
    assert [one["metadata"]["name"] for one in client.get(DATAVOLUMES.path("default"))["items"]] == ["disk-rack4"]


def test_no_two_claims_have_copies_of_one_name() -> None:
    """A copy that has the name of another claim's would take its place."""
    long = "d" * 60
    names = [long + "-a", long + "-b", long + "-rk", "d" * 63]
    copies = {new_name(name, "rk") for name in names}
    assert len(copies) == len(names)
    assert not copies & set(names)
    assert all(len(name) <= 63 for name in copies)
    assert len(new_name("d", "t" * 63)) <= 63
    assert new_name("disk", "rack4") == "disk-rack4"


def test_a_copy_that_fails_is_told_and_removed(on_server: Cli, client: Client) -> None:
    condition = {"type": "Running", "status": "False", "reason": "Error", "message": "no room there"}
    with filler(client, lambda _: {"phase": "Failed", "conditions": [condition]}):
        result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 1
    assert "copying disk-rack4 failed: no room there" in result.err
    assert client.get(DATAVOLUMES.path("default"))["items"] == []


def test_a_copy_that_a_move_left_is_made_anew_and_another_s_claim_is_not_touched(
    on_server: Cli, client: Client
) -> None:
    uid = client.get(VM)["metadata"]["uid"]
    labels = {"hypervisor.kubevirt.io/move-of": uid}
    spec = {"source": {"blank": {}}, "pvc": claim("x")["spec"]}
    left = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "spec": spec}
    make(client, DATAVOLUMES.path("default"), {**left, "metadata": {"name": "disk-rack4", "labels": labels}})
    with filler(client, done) as seen:
        assert on_server("move", "mover", "--to", "rack4").code == 0
    assert seen[-1]["spec"]["source"] == {"pvc": {"namespace": "default", "name": "disk"}}
    client.request("DELETE", DATAVOLUMES.path("default", "disk-rack4"))
    client.request("DELETE", VM)
    make(client, VMS.path("default"), machine())
    make(client, DATAVOLUMES.path("default"), {**left, "metadata": {"name": "disk-rack4"}})
    result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 5
    assert "there is a claim default/disk-rack4 already, which is not of this move" in result.err
    assert client.get(DATAVOLUMES.path("default", "disk-rack4"))


@pytest.mark.parametrize(
    ("to", "change", "says"),
    [
        ("rack9", {}, "--to 'rack9' is neither an endpoint nor a driver"),
        ("qemu", {}, "VM mover is for driver qemu already"),
        ("rack4", {"runStrategy": "Always"}, "so it may start at any moment"),
        ("xen", {}, "VM mover cannot move to xen as it is"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    on_server: Cli, client: Client, to: str, change: Obj, says: str
) -> None:
    if to == "xen":
        disks = [{"name": "data", "disk": {"bus": "sata"}}]
        change = {"template": {"spec": {"domain": {"devices": {"disks": disks, "tpm": {}}}}}}
    client.request("PATCH", VM, {"spec": change}, content_type=MERGE)
    result: Result = on_server("move", "mover", "--to", to)
    assert result.code != 0
    assert says in result.err
    assert client.get(DATAVOLUMES.path("default"))["items"] == []


def test_a_machine_that_runs_is_refused(on_server: Cli, client: Client) -> None:
    spec = machine()["spec"]["template"]["spec"]
    vmi = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "mover"},
        "spec": spec,
    }
    make(client, VMIS.path("default"), vmi)
    result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 5
    assert "only a stopped one moves" in result.err
    assert "polyvisor stop mover --wait" in result.err


def test_another_cluster_s_machines_are_refused(on_server: Cli) -> None:
    result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 3
    assert "move works with the installation of this machine" in result.err


def test_an_endpoint_without_a_pool_is_told(on_server: Cli, client: Client) -> None:
    client.request("PATCH", ENDPOINTS.path(name="rack4"), {"spec": {"storage": None}}, content_type=MERGE)
    result: Result = on_server("move", "mover", "--to", "rack4")
    assert result.code == 3
    assert "polyvisor endpoint map rack4 --storage CLASS=POOL" in result.err
