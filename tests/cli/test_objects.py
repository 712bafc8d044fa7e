"""get, describe, apply, create and delete against a real API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import Cli

VMI = """\
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  domain:
    memory: {{guest: 64Mi}}
    devices: {{}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "vmi.yaml"
    file.write_text(VMI.format(name="one") + "---\n" + VMI.format(name="two"))
    return file


@pytest.fixture(autouse=True)
def clean(on_server: Cli) -> None:
    assert on_server("delete", "vmi,vm", "--all").code == 0


def test_apply_tells_created_unchanged_and_configured(on_server: Cli, manifest: Path) -> None:
    assert on_server("apply", "-f", str(manifest)).out.splitlines() == [
        "virtualmachineinstance.kubevirt.io/one created",
        "virtualmachineinstance.kubevirt.io/two created",
    ]
    assert "one unchanged" in on_server("apply", "-f", str(manifest)).out
    manifest.write_text(manifest.read_text().replace("app: two", "app: changed"))
    assert on_server("apply", "-f", str(manifest)).out.splitlines() == [
        "virtualmachineinstance.kubevirt.io/one unchanged",
        "virtualmachineinstance.kubevirt.io/two configured",
    ]


def test_kinds_that_kubevirt_gave_up_are_named_with_what_to_do_instead(on_server: Cli, tmp_path: Path) -> None:
    file = tmp_path / "preset.yaml"
    preset = "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstancePreset\nmetadata: {name: small}\nspec: {}\n"
    file.write_text(preset)
    said = "VirtualMachineInstancePreset is not implemented by Polyvisor: KubeVirt itself has given presets up"
    for command in ("apply", "explain"):
        result = on_server(command, "-f", str(file))
        assert result.code == 3
        assert said in result.err
        assert "preset.yaml:" in result.err
    file.write_text(f"{VMI.format(name='one')}---\n{preset}")
    result = on_server("explain", "-f", str(file))
    assert result.code == 3
    assert said in result.err
    assert "VirtualMachineInstance one" in result.out
    assert "presets" not in on_server("get", "--raw", "/apis/kubevirt.io/v1").out
    listed = on_server("get", "vmipreset")
    assert listed.code == 4
    assert "the server has no kind 'vmipreset'" in listed.err


def test_get_prints_the_servers_table(on_server: Cli, manifest: Path) -> None:
    on_server("apply", "-f", str(manifest))
    lines = on_server("get", "vmi").out.splitlines()
    assert lines[0].split() == ["NAME", "AGE", "PHASE", "IP", "NODENAME", "READY"]
    assert [line.split()[0] for line in lines[1:]] == ["one", "two"]
    assert on_server("get", "vmi", "-A").out.split()[0] == "NAMESPACE"
    assert "HYPERVISOR" in on_server("get", "vmi", "-o", "wide").out


def test_get_formats(on_server: Cli, manifest: Path) -> None:
    on_server("apply", "-f", str(manifest))
    assert on_server("get", "vmi", "-o", "name").out.splitlines()[0] == "virtualmachineinstance.kubevirt.io/one"
    assert json.loads(on_server("get", "vmi", "one", "-o", "json").out)["metadata"]["name"] == "one"
    items = yaml.safe_load(on_server("get", "vmi,vm", "-o", "yaml").out)["items"]
    assert [item["kind"] for item in items] == ["VirtualMachineInstance"] * 2
    assert on_server("get", "vmi/two", "-o", "name").out == "virtualmachineinstance.kubevirt.io/two\n"


def test_selectors(on_server: Cli, manifest: Path) -> None:
    on_server("apply", "-f", str(manifest))
    assert on_server("get", "vmi", "-l", "app=two", "-o", "name").out.strip().endswith("/two")
    assert on_server("get", "vmi", "--field-selector", "metadata.name=one", "-o", "name").out.strip().endswith("/one")
    empty = on_server("get", "vmi", "-l", "app=none")
    assert (empty.code, empty.out, empty.err) == (0, "", "No resources found in default namespace.\n")


def test_describe_shows_spec_and_events(on_server: Cli, manifest: Path) -> None:
    on_server("apply", "-f", str(manifest))
    text = on_server("describe", "vmi", "one").out
    assert "Name:         one" in text
    assert "Guest:  64Mi" in text
    assert "Events:       <none>" in text


def test_create_twice_is_a_conflict(on_server: Cli, manifest: Path) -> None:
    assert on_server("create", "-f", str(manifest)).code == 0
    again = on_server("create", "-f", str(manifest))
    assert again.code == 5
    assert "vmi.yaml:1: document 1 (VirtualMachineInstance one)" in again.err
    assert "already exists" in again.err
    assert "document 2 (VirtualMachineInstance two)" in again.err


def test_a_manifest_dumped_from_an_object_that_is_gone_is_refused_with_what_to_leave_out(
    on_server: Cli, manifest: Path
) -> None:
    on_server("apply", "-f", str(manifest))
    manifest.write_text(on_server("get", "vmi", "one", "-o", "yaml").out)
    on_server("delete", "vmi", "one")
    result = on_server("apply", "-f", str(manifest))
    assert result.code == 5
    assert "document 1 (VirtualMachineInstance one): refused: " in result.err
    assert "leave metadata.uid and metadata.resourceVersion out" in result.err


def test_delete_waits_and_reports(on_server: Cli, manifest: Path) -> None:
    on_server("apply", "-f", str(manifest))
    assert on_server("delete", "vmi", "one").out == 'virtualmachineinstance.kubevirt.io "one" deleted\n'
    gone = on_server("get", "vmi", "one")
    assert gone.code == 4
    assert "not found" in gone.err
    assert on_server("delete", "vmi", "one").code == 4
    assert on_server("delete", "vmi", "one", "--ignore-not-found").code == 0
    assert on_server("delete", "-f", str(manifest), "--ignore-not-found").code == 0
    assert on_server("get", "vmi").out == ""


def test_dry_run_changes_nothing(on_server: Cli, manifest: Path) -> None:
    assert "created (dry run)" in on_server("apply", "-f", str(manifest), "--dry-run").out
    assert on_server("get", "vmi").out == ""


def test_namespaces_must_agree(on_server: Cli, manifest: Path) -> None:
    manifest.write_text(VMI.format(name="one").replace("name: one\n", "name: one\n  namespace: default\n"))
    result = on_server("apply", "-f", str(manifest), "-n", "kubevirt")
    assert result.code == 2
    assert "vmi.yaml:5" in result.err
    assert "'default', but -n says 'kubevirt'" in result.err


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("a: [1, 2\nb: 3\n", 3, "bad.yaml:2:"),
        ("just text\n", 3, "bad.yaml:1: document 1: is not an object"),
        ("kind: VirtualMachine\nmetadata: {name: x}\n", 3, "apiVersion is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", 3, "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", 3, "metadata.name is not a string"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: x}\n", 3, "bad.yaml:3: kind: is given twice"),
        ("apiVersion: v1\nkind: Wrong\nmetadata: {name: x}\n", 3, "no kind 'Wrong' in 'v1'"),
        ("apiVersion: v1\nkind: VirtualMachine\nmetadata: {name: x}\n", 3, "do you mean VirtualMachine in kubevirt.io"),
        ("apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {name: A_B}\nspec: {}\n", 3, "A_B"),
        ("", 3, "no objects"),
    ],
)
def test_bad_manifests(on_server: Cli, tmp_path: Path, text: str, code: int, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    result = on_server("apply", "-f", str(file))
    assert said in result.err
    assert result.code == code
    assert "Traceback" not in result.err


def test_missing_file_and_unknown_kind(on_server: Cli) -> None:
    missing = on_server("apply", "-f", "/nowhere.yaml")
    assert (missing.code, missing.err) == (4, "polyvisor: /nowhere.yaml: no such file\n")
    unknown = on_server("get", "vmx")
    assert unknown.code == 4
    assert "no kind 'vmx'; do you mean 'vm" in unknown.err


def test_watch_needs_one_kind(on_server: Cli) -> None:
    assert on_server("get", "vm,vmi", "-w").code == 2
