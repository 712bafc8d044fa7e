"""addvolume and removevolume, from the command line through the subresource API into the objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.errors import ApiError

from .conftest import Cli, Server
from .test_machines import VMIS, VMS, make_vm, make_vmi

CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
DVS = "/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes"
ADDVOLUME = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/demo/addvolume"


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def clean(on_server: Cli) -> None:
    assert on_server("delete", "vmi,vm,pvc,dv", "--all", "--grace-period", "0").code == 0


def make_claim(client: Client, name: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    client.request(
        "POST", CLAIMS, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    )


def spec_of(client: Client, path: str) -> tuple[Any, Any]:
    spec = client.get(path)["spec"]
    spec = spec["template"]["spec"] if "template" in spec else spec
    return spec.get("volumes"), spec["domain"]["devices"].get("disks")


def test_a_volume_of_an_instance(on_server: Cli, client: Client) -> None:
    make_vmi(client)
    make_claim(client, "data")
    assert on_server("addvolume", "demo", "--volume-name", "data", "--dry-run").code == 0
    assert not spec_of(client, f"{VMIS}/demo")[0]
    result = on_server("addvolume", "demo", "--volume-name", "data", "--cache", "none")
    assert result.out == "Successfully submitted add volume request to VM demo for volume data\n"
    volumes, disks = spec_of(client, f"{VMIS}/demo")
    assert volumes == [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": True}}]
    assert disks == [{"name": "data", "disk": {"bus": "scsi"}, "serial": "data", "cache": "none"}]
    again = on_server("addvolume", "demo", "--volume-name", "data")
    assert (again.code, "volume with that name already exists" in again.err) == (5, True)
    assert on_server("removevolume", "demo", "--volume-name", "data").code == 0
    assert spec_of(client, f"{VMIS}/demo") == ([], [])
    assert "does not exist" in on_server("removevolume", "demo", "--volume-name", "data").err


def test_a_volume_of_a_machine_is_in_both(on_server: Cli, client: Client) -> None:
    make_vm(client, "Always")
    make_vmi(client)
    volume = {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1Mi"}}}}
    kind = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": "dv"}}
    client.request("POST", DVS, {**kind, "spec": volume})
    assert on_server("addvolume", "demo", "--volume-name", "dv", "--persist", "--bus", "virtio").code == 0
    wanted = [{"name": "dv", "dataVolume": {"name": "dv", "hotpluggable": True}}]
    assert spec_of(client, f"{VMS}/demo")[0] == spec_of(client, f"{VMIS}/demo")[0] == wanted
    assert on_server("removevolume", "demo", "--volume-name", "dv", "--persist").code == 0
    assert spec_of(client, f"{VMS}/demo")[0] == spec_of(client, f"{VMIS}/demo")[0] == []


def test_what_is_refused(on_server: Cli, client: Client) -> None:
    missing = on_server("addvolume", "demo", "--volume-name", "data")
    assert (missing.code, "there is no DataVolume and no PersistentVolumeClaim" in missing.err) == (4, True)
    make_claim(client, "data")
    assert on_server("addvolume", "demo", "--volume-name", "data").code == 4
    make_vmi(client, "demo", "Scheduling")
    assert "VMI is not running" in on_server("addvolume", "demo", "--volume-name", "data").err
    wrong = on_server("addvolume", "demo", "--volume-name", "data", "--bus", "sata")
    assert "found 'sata', accepted: scsi, virtio" in wrong.err


SOURCE = {"persistentVolumeClaim": {"claimName": "c"}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "AddVolumeOptions requires name to be set"),
        ({"name": "a"}, "AddVolumeOptions requires disk to not be nil"),
        ({"name": "a", "disk": {"disk": {}}}, "AddVolumeOptions requires VolumeSource to not be nil"),
        ({"name": "a", "disk": {"disk": {}}, "volumeSource": SOURCE, "nane": "b"}, "did you mean name?"),
        ({"name": "a", "disk": {"lun": {}}, "volumeSource": SOURCE}, "only a target of kind disk"),
        ({"name": "a", "disk": 3, "volumeSource": SOURCE}, "an object is wanted"),
    ],
)
def test_bad_bodies_are_refused_as_with_kubevirt(client: Client, body: Any, words: str) -> None:
    make_vmi(client)
    with pytest.raises(ApiError) as caught:
        client.request("PUT", ADDVOLUME, body)
    assert (caught.value.code, words in caught.value.message) == (400, True), caught.value.message


def test_memory_dumps(on_server: Cli, client: Client) -> None:
    make_vm(client, "Always")
    make_claim(client, "mem")
    assert on_server("memory-dump", "get", "demo", "--claim-name", "mem").code == 4
    make_vmi(client)
    missing = on_server("memory-dump", "get", "demo")
    assert "requires claim name" in missing.err
    assert on_server("memory-dump", "get", "demo", "--claim-name", "none").code == 4
    small = on_server("memory-dump", "get", "demo", "--claim-name", "mem")
    assert (small.code, "should be bigger" in small.err) == (5, True)
    assert on_server("memory-dump", "get", "demo", "--create-claim").code == 2
    assert "already exists" in on_server("memory-dump", "get", "demo", "--create-claim", "--claim-name", "mem").err
    wrong = on_server("memory-dump", "get", "demo", "--create-claim", "--claim-name", "m", "--access-mode", "None")
    assert "ReadWriteOnce, ReadWriteMany" in wrong.err
    made = on_server("memory-dump", "get", "demo", "--create-claim", "--claim-name", "new", "--storage-class", "fast")
    assert made.out == "PVC default/new created\nSuccessfully submitted memory dump request of VM demo\n"
    spec = client.get(f"{CLAIMS}/new")["spec"]
    assert (spec["accessModes"], spec["storageClassName"]) == (["ReadWriteOnce"], "fast")
    request = client.get(f"{VMS}/demo")["status"]["memoryDumpRequest"]
    assert request == {"claimName": "new", "phase": "Associating"}
    assert "already in progress" in on_server("memory-dump", "get", "demo").err
    assert "still associated" in on_server("memory-dump", "get", "demo", "--claim-name", "mem").err
    removed = on_server("memory-dump", "remove", "demo")
    assert removed.out == "Successfully submitted remove memory dump association of VM demo\n"
    request = client.get(f"{VMS}/demo")["status"]["memoryDumpRequest"]
    assert request == {"claimName": "new", "phase": "Dissociating", "remove": True}
    assert "already exists" in on_server("memory-dump", "remove", "demo").err
    assert "remove memory dump request is in progress" in on_server("memory-dump", "get", "demo").err


def test_memory_dumps_that_are_not_there(on_server: Cli) -> None:
    for arguments in (
        ("download", "demo", "--output", "f"),
        ("get", "demo", "--output", "f"),
        ("get", "demo", "--port-forward"),
    ):
        refused = on_server("memory-dump", *arguments)
        assert (refused.code, "download of a memory dump is not implemented" in refused.err) == (2, True)
    assert "accepted: get, download, remove" in on_server("memory-dump", "put", "demo").err


def test_what_is_made_for_an_upload_says_what_machines_of_it_are(
    on_server: Cli, client: Client, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(512))
    sizes = ("--default-instancetype", "small", "--default-preference", "plain")
    upload = ("image-upload", "pvc", "sized", "--image-path", str(image), "--wait-secs", "0")
    on_server(*upload, "--size", "1Mi", *sizes, "--uploadproxy-url", "https://127.0.0.1:1")
    labels = client.get("/api/v1/namespaces/default/persistentvolumeclaims/sized")["metadata"]["labels"]
    assert labels == {
        "instancetype.kubevirt.io/default-instancetype": "small",
        "instancetype.kubevirt.io/default-preference": "plain",
    }
    refused = on_server(*upload, "--no-create", *sizes)
    assert (refused.code, "keeps its labels" in refused.err) == (2, True)
