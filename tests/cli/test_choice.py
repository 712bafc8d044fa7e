"""explain and features: what a user reads and what a script gets, without any cluster or hypervisor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from polyvisor.api.resources import ENDPOINTS, NODES
from polyvisor.cli.app import run
from polyvisor.cli.client import MERGE, Client
from polyvisor.drivers import registry
from polyvisor.drivers.features import FEATURES
from polyvisor.kube.config import from_kubeconfig
from tests.cli.conftest import Server

PLAIN = """
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: plain, namespace: default}
spec:
  hypervisor: {driver: qemu}
  domain: {devices: {}, memory: {guest: 64Mi}}
"""
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MACHINE = """
kind: ConfigMap
apiVersion: v1
metadata: {{name: passed-over}}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: one
spec:
  hypervisor: {hypervisor}
  domain:
    memory: {{guest: 64Mi}}
    devices:
      watchdog:
        name: dog
        i6300esb: {{}}
  volumes:
  - name: root
    containerDisk: {{image: "localhost/polyvisor/demo:1"}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "one.yaml"


def explained(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    data = json.loads(capsys.readouterr().out)["machines"][0]
    return {driver["driver"]: driver for driver in data["drivers"]}


def test_examples_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", str(EXAMPLES)]) == 0
    shown = capsys.readouterr().out
    assert "VirtualMachine demo-qemu" in shown
    assert "VirtualMachine demo-lxc" in shown
    assert "VirtualMachine tiny" in shown


def test_what_keeps_a_guest_from_its_node_is_told(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(MACHINE.format(hypervisor="{driver: qemu}"))
    assert run(["explain", str(manifest)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Isolation under ")]
    assert len(lines) == 1
    assert lines[0].startswith("Isolation under QEMU: a kernel of the guest's own, and a launcher without privileges; ")
    assert "a user for each machine" in lines[0]
    assert run(["explain", str(manifest), "-o", "json"]) == 0
    isolation = json.loads(capsys.readouterr().out)["machines"][0]["isolation"]
    assert "a user for each machine" in isolation["qemu"]
    assert "a user for each machine" not in isolation["lxc"]


def test_a_machine_is_judged_with_the_preference_beside_it(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (EXAMPLES / "instancetype.yaml").read_text()
    manifest.write_text(text.replace("  devices:\n    preferred", "  devices:\n    preferredTPM: {}\n    preferred"))
    assert run(["explain", str(manifest), "-o", "json"]) == 3
    found = explained(capsys)
    assert found["lxc"]["allowed"]
    assert [reason["feature"] for reason in found["lxc"]["reasons"]] == ["tpm"]  # type: ignore[attr-defined]
    manifest.write_text(text.replace("kind: VirtualMachineInstancetype\n    name: tiny", "name: tiny"))
    assert run(["explain", str(manifest)]) == 3
    assert "Failure to find instancetype" in capsys.readouterr().out


def test_driver_that_cannot_is_told_with_line_and_change(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(MACHINE.format(hypervisor="{driver: lxc}"))
    assert run(["explain", str(manifest)]) == 3
    said = capsys.readouterr()
    assert "line 17: spec.domain.devices.watchdog.i6300esb" in said.out
    assert "leave out spec.domain.devices.watchdog" in said.out
    assert "cannot run as written" in said.err


def test_the_template_of_a_replica_set_is_judged(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = yaml.safe_load(MACHINE.format(hypervisor="{driver: lxc}").partition("---")[2])
    one["metadata"] |= {"labels": {"app": "web"}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}}
    spec["template"] = {"metadata": one["metadata"], "spec": one.pop("spec")}
    one |= {"kind": "VirtualMachineInstanceReplicaSet", "spec": spec}
    manifest.write_text(yaml.safe_dump(one))
    assert run(["explain", "-f", str(manifest)]) == 3
    said = capsys.readouterr()
    assert "spec.template.spec.domain.devices.watchdog.i6300esb" in said.out
    assert "leave out spec.template.spec.domain.devices.watchdog" in said.out


def test_a_container_without_a_root_volume_cannot_run_and_is_told_what_to_add(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MACHINE.format(hypervisor="{driver: lxc}")
    without = text[: text.index("  volumes:")].replace("      watchdog:\n        name: dog\n        i6300esb: {}\n", "")
    manifest.write_text(without.replace("    devices:", "    devices: {}"))
    assert run(["explain", str(manifest)]) == 3
    said = capsys.readouterr()
    assert "lacks: Start without a root volume" in " ".join(said.out.split())
    assert 'add to spec.volumes, such as {"name": "root", "containerDisk": {"image": "IMAGE"}}' in said.out
    assert "cannot run as written" in said.err
    assert run(["explain", str(manifest), "-o", "json"]) == 3
    found = explained(capsys)
    wanting = {name for name, one in found.items() if "boot.without-root" in str(one["reasons"])}
    assert wanting == {"lxc", "openvz", "esx", "vmware"}
    assert found["qemu"]["verdict"] == "Runs"
    manifest.write_text(text)
    assert run(["explain", str(manifest), "-o", "json"]) == 3
    assert "boot.without-root" not in capsys.readouterr().out


def test_json_has_every_driver(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(MACHINE.format(hypervisor="{driver: qemu}"))
    assert run(["explain", str(manifest), "-o", "json"]) == 0
    drivers = explained(capsys)
    assert set(drivers) == set(registry().names())
    assert drivers["qemu"]["allowed"] is True
    assert drivers["lxc"]["verdict"] == "Unsupported"
    assert drivers["lxc"]["changes"] == [{"action": "remove", "field": "spec.domain.devices.watchdog"}]


def test_nodes_count_against_a_cluster(server: Server, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(MACHINE.format(hypervisor="{driver: qemu}"))
    assert run(["explain", str(manifest), "--against", str(server.kubeconfig), "-o", "json"]) == 3
    said = capsys.readouterr()
    (machine,) = json.loads(said.out)["machines"]
    assert machine["placement"]["candidates"][0]["verdict"] == "NoNode"
    assert run(["explain", str(manifest), "--against", str(server.kubeconfig)]) == 3
    assert "NoNode" in capsys.readouterr().out


def test_an_endpoint_that_fits_is_told_where_no_node_does(
    server: Server, manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYVISOR_STATE_DIR", str(server.root))
    monkeypatch.setattr("polyvisor.cli.drivers.try_again", lambda _: None)
    client = Client(from_kubeconfig(server.kubeconfig))
    networks = [{"name": "pod", "network": "lan"}]
    spec = {"uri": "qemu:///system", "allowedNamespaces": {"selector": {}}, "networks": networks}
    metadata = {"name": "rack4"}
    endpoint = {"apiVersion": "hypervisor.kubevirt.io/v1alpha1", "kind": "HypervisorEndpoint", "metadata": metadata}
    prefix = "hypervisor.kubevirt.io/"
    labels = {f"{prefix}endpoint": "rack4", f"{prefix}qemu": "true", f"{prefix}qemu.kvm": "true"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "endpoint-rack4", "labels": labels}}
    client.request("POST", ENDPOINTS.path(), {**endpoint, "spec": spec})
    client.request("POST", NODES.path(), node)
    try:
        manifest.write_text(PLAIN)
        assert run(["explain", str(manifest), "--against", str(server.kubeconfig)]) == 0
        assert "Endpoint rack4 (qemu): Chosen" in capsys.readouterr().out
        closed = {"spec": {"networks": None}}
        client.request("PATCH", ENDPOINTS.path(name="rack4"), closed, content_type=MERGE)
        assert run(["explain", str(manifest), "--against", str(server.kubeconfig)]) == 3
        assert "Endpoint rack4 (qemu): NoNode: endpoint rack4 maps no network 'pod'" in capsys.readouterr().out
    finally:
        client.request("DELETE", NODES.path(name="endpoint-rack4"))
        client.request("DELETE", ENDPOINTS.path(name="rack4"))
        client.close()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["explain", "nowhere.yaml"], 4, "no such file"),
        (["explain", str(EXAMPLES / "qemu.yaml"), "--against", "nowhere"], 4, "nowhere does not exist"),
        (["features", "--driver", "qemuu"], 4, "Did you mean qemu?"),
        (["features", "--feature", "tmp"], 4, "Did you mean tpm?"),
    ],
)
def test_bad_words(arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    assert says in capsys.readouterr().err


def test_file_without_a_machine(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text("kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n")
    assert run(["explain", str(manifest)]) == 3
    assert "found ConfigMap" in capsys.readouterr().err
    assert run(["explain"]) == 2
    assert "explain which manifest?" in capsys.readouterr().err


def test_features_have_a_source_for_each_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["features", "-o", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [driver["name"] for driver in table["drivers"]] == list(registry().names())
    assert len(table["features"]) == len(FEATURES)
    for feature in table["features"]:
        for answer in feature["drivers"].values():
            assert answer["verdict"] == "unknown" or answer["source"], feature["id"]


def test_one_driver_shows_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["features", "--driver", "lxc", "--feature", "firmware"]) == 0
    shown = capsys.readouterr().out
    assert "firmware.kernel-boot" in shown
    assert "disk.cdrom" not in shown
    assert "qemu" not in shown
