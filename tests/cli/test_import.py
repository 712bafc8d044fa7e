"""import: domain XML into manifests and objects; what a user reads and what a script gets."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml

from polyvisor.cli.errors import ExitCode
from tests.cli.conftest import Cli

DOMAIN = """\
<domain type='kvm'>
  <name>{name}</name>
  <title>Somebody's</title>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices>{devices}</devices>
</domain>
"""
DISK = "<disk type='file'><source file='/var/lib/libvirt/images/a.img'/><target dev='vda' bus='virtio'/></disk>"
CARD = "<interface type='network'><source network='default'/></interface>"
POOL = ("--storage", "fast=images:/var/lib/libvirt/images")
NETWORK = ("--network", "pod=default")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "guest.xml"
    path.write_text(DOMAIN.format(name="guest", devices=DISK + CARD))
    return path


def test_a_dry_run_needs_no_cluster_and_prints_manifests_that_explain_accepts(
    cli: Cli, file: Path, tmp_path: Path
) -> None:
    done = cli("import", "--dry-run", str(file), *POOL, *NETWORK)
    assert done.code == 0
    volume, claim, machine = yaml.safe_load_all(done.out)
    assert (volume["kind"], claim["kind"]) == ("PersistentVolume", "PersistentVolumeClaim")
    assert machine["metadata"]["namespace"] == "default"
    assert machine["spec"]["runStrategy"] == "Halted"
    assert "domain guest (qemu) is VirtualMachine default/guest" in done.err
    assert "not expressible" in next(line for line in done.err.splitlines() if line.startswith("  title"))
    manifests = tmp_path / "guest.yaml"
    manifests.write_text(done.out)
    assert cli("explain", str(manifests)).code == 0


def test_formats(cli: Cli, file: Path) -> None:
    listed = json.loads(cli("import", "--dry-run", "-o", "json", str(file), *POOL, *NETWORK).out)
    assert [item["kind"] for item in listed["items"]] == [
        "PersistentVolume",
        "PersistentVolumeClaim",
        "VirtualMachine",
    ]
    names = cli("import", "--dry-run", "-o", "name", str(file), *POOL, *NETWORK)
    assert names.out.splitlines()[-1] == "virtualmachine/guest"
    assert "spec.template.spec.domain.memory.guest" not in names.err
    wide = cli("import", "--dry-run", "-o", "wide", str(file), *POOL, *NETWORK)
    assert "spec.template.spec.domain.memory.guest" in wide.err


def test_what_is_not_mapped_is_said_all_at_once_and_nothing_is_printed(cli: Cli, file: Path) -> None:
    done = cli("import", "--dry-run", str(file))
    assert (done.code, done.out) == (ExitCode.INVALID, "")
    assert "devices/disk: disk vda (/var/lib/libvirt/images/a.img) is in no mapped pool" in done.err
    assert "map it: --network NAME=default" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("not xml", "is not valid XML"),
        ("<pool/>", "is the XML of a <pool>"),
        ("<domain type='nothing'><name>x</name></domain>", "domain 'x': no driver has domains of type 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(text)
    done = cli("import", "--dry-run", str(path))
    assert done.code == ExitCode.INVALID
    assert done.err.startswith(f"polyvisor: {path}: ")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), ExitCode.USAGE, "import which file?"),
        (("nowhere.xml",), ExitCode.NOT_FOUND, "nowhere.xml: no such file"),
        (("--name", "A_B", "x"), ExitCode.USAGE, "--name: 'A_B' is not a valid name"),
        (("--storage", "fast", "x"), ExitCode.USAGE, "--storage 'fast': expected CLASS=POOL or CLASS=POOL:/FOLDER"),
        (("--storage", "fast=a:b", "x"), ExitCode.USAGE, "expected CLASS=POOL or CLASS=POOL:/FOLDER"),
        (("--storage", "F=a", "x"), ExitCode.USAGE, "the name of a StorageClass"),
        (("--network", "pod", "x"), ExitCode.USAGE, "--network 'pod': expected NAME=NETWORK"),
    ],
)
def test_wrong_usage(cli: Cli, options: tuple[str, ...], code: ExitCode, said: str) -> None:
    done = cli("import", "--dry-run", *options)
    assert done.code == code
    assert said in done.err


def test_standard_input_and_several_domains(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOMAIN.format(name="one", devices="") + DOMAIN.format(name="two", devices="")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    done = cli("import", "--dry-run", "-n", "shop", "-")
    assert done.code == 0
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(done.out)] == ["one", "two"]
    assert {one["metadata"]["namespace"] for one in yaml.safe_load_all(done.out)} == {"shop"}


def test_two_domains_of_one_name_are_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "two.xml"
    path.write_text(DOMAIN.format(name="a_b", devices="") + DOMAIN.format(name="A-B", devices=""))
    done = cli("import", "--dry-run", str(path))
    assert done.code == ExitCode.CONFLICT
    assert "2 domains would all be called a-b: a_b, A-B" in done.err
    assert cli("import", "--dry-run", "--name", "x", str(path)).code == ExitCode.USAGE


def test_a_value_with_control_characters_stays_on_its_line(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "odd.xml"
    path.write_text(DOMAIN.format(name="odd", devices="").replace("Somebody's", "a&#10;b&#x9b;31m" + "c" * 100))
    done = cli("import", "--dry-run", str(path))
    assert done.code == 0
    assert "\x9b" not in done.err
    assert next(line for line in done.err.splitlines() if line.startswith("  title")).split()[1] == "a"


def test_a_name_cannot_write_to_the_terminal(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "odd.xml"
    path.write_text(DOMAIN.format(name="a&#10;polyvisor: done&#x9b;31m", devices=DISK))
    done = cli("import", "--dry-run", str(path))
    assert done.code == ExitCode.INVALID
    assert "\x9b" not in done.err
    assert not any(line.startswith("polyvisor: done") for line in done.err.splitlines())


def test_objects_are_created_halted(on_server: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plain.xml"
    path.write_text(DOMAIN.format(name="imported", devices=""))
    done = on_server("import", str(path))
    assert done.code == 0
    assert done.out == "virtualmachine.kubevirt.io/imported created\n"
    stored = json.loads(on_server("get", "vm", "imported", "-o", "json").out)
    assert stored["spec"]["runStrategy"] == "Halted"
    assert "Somebody's" in stored["metadata"]["annotations"]["hypervisor.kubevirt.io/kept-of-domain"]
    again = on_server("import", str(path))
    assert again.code == ExitCode.CONFLICT


def test_a_disk_is_imported_as_a_volume_that_its_claim_alone_may_have(on_server: Cli, file: Path) -> None:
    done = on_server("import", "--name", "whole", str(file), *POOL, *NETWORK)
    assert done.code == 0
    assert done.out.splitlines() == [
        "persistentvolume/default.whole-vda created",
        "persistentvolumeclaim/whole-vda created",
        "virtualmachine.kubevirt.io/whole created",
    ]
    volume = json.loads(on_server("get", "pv", "default.whole-vda", "-o", "json").out)
    assert volume["spec"]["claimRef"]["name"] == "whole-vda"


def test_nothing_is_created_unless_the_server_accepts_all_of_it(on_server: Cli, file: Path, tmp_path: Path) -> None:
    claim = tmp_path / "claim.yaml"
    size = "resources: {requests: {storage: 1Gi}}"
    head = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: refused-vda}"
    claim.write_text(f"{head}\nspec: {{accessModes: [ReadWriteOnce], {size}}}\n")
    assert on_server("create", "-f", str(claim)).code == 0
    done = on_server("import", "--name", "refused", str(file), *POOL, *NETWORK)
    assert done.code == ExitCode.CONFLICT
    assert "refused-vda" in done.err
    for kind, name in (("vm", "refused"), ("pv", "default.refused-vda")):
        assert on_server("get", kind, name).code == ExitCode.NOT_FOUND


def test_what_an_endpoint_maps_need_not_be_said_again(on_server: Cli, tmp_path: Path) -> None:
    endpoint = {
        "apiVersion": "hypervisor.kubevirt.io/v1alpha1",
        "kind": "HypervisorEndpoint",
        "metadata": {"name": "mapped"},
        "spec": {"uri": "qemu:///system", "networks": [{"name": "pod", "network": "default"}]},
    }
    manifest = tmp_path / "mapped.yaml"
    manifest.write_text(yaml.safe_dump(endpoint))
    assert on_server("create", "-f", str(manifest)).code == 0
    path = tmp_path / "guest.xml"
    path.write_text(DOMAIN.format(name="joined", devices=CARD))
    assert "map it: --network NAME=default" in on_server("import", str(path)).err
    done = on_server("import", "--endpoint", "mapped", str(path))
    assert done.code == 0, done.err
    absent = on_server("import", "--endpoint", "rack5", str(path))
    assert absent.code == ExitCode.NOT_FOUND
    assert "there is no HypervisorEndpoint 'rack5'" in absent.err
