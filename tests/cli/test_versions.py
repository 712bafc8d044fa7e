"""Every version that the server serves a kind in goes through every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.api.resources import VMIS, VMS
from polyvisor.cli.client import Client, Obj
from polyvisor.cli.discovery import Discovery
from polyvisor.kube.config import from_kubeconfig

from .conftest import Cli, Server

OLD = "kubevirt.io/v1alpha3"
MANIFEST = """\
apiVersion: {version}
kind: VirtualMachine
metadata:
  name: aged
spec:
  runStrategy: Halted
  template:
    spec:
      domain:
        memory: {{guest: 64Mi}}
        devices: {{}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "vm.yaml"
    path.write_text(MANIFEST.format(version=OLD))
    return str(path)


def test_a_manifest_of_an_older_version_goes_through_every_command(on_server: Cli, manifest: str) -> None:
    explained = on_server("explain", manifest)
    assert explained.code == 0, explained.err
    assert "qemu" in explained.out
    assert on_server("apply", "-f", manifest).out == "virtualmachine.kubevirt.io/aged created\n"
    assert on_server("apply", "-f", manifest).out == "virtualmachine.kubevirt.io/aged unchanged\n"
    expanded = on_server("expand", "-f", manifest)
    assert expanded.code == 0, expanded.err
    assert on_server("get", "-f", manifest).code in (0, 2)
    dumped = on_server("get", "vm", "aged", "-o", "yaml")
    assert "apiVersion: kubevirt.io/v1\n" in dumped.out
    assert on_server("delete", "-f", manifest).code == 0
    created = on_server("create", "-f", manifest)
    assert created.code == 0, created.err
    assert on_server("delete", "vm", "aged").code == 0


def test_a_list_that_was_dumped_in_an_older_version_is_explained(on_server: Cli, tmp_path: Path) -> None:
    item = "\n".join("  " + line for line in MANIFEST.format(version=OLD).splitlines())
    path = tmp_path / "list.yaml"
    path.write_text(f"apiVersion: v1\nkind: List\nitems:\n-{item[1:]}\n")
    explained = on_server("explain", str(path))
    assert explained.code == 0, explained.err


def test_a_version_that_nobody_serves_is_refused_with_those_that_are(on_server: Cli, tmp_path: Path) -> None:
    path = tmp_path / "vm.yaml"
    path.write_text(MANIFEST.format(version="kubevirt.io/v2"))
    for command in (("explain",), ("apply", "-f")):
        refused = on_server(*command, str(path))
        assert refused.code == 3
        assert "kubevirt.io/v1" in refused.out + refused.err


class Older:
    """A server without aggregated discovery."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, path: str, *arguments: object, **_: object) -> Obj:
        return self._client.get(path, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("resource", [VMS, VMIS])
@pytest.mark.parametrize("older", [False, True])
def test_discovery_knows_a_kind_in_all_its_versions(server: Server, resource: object, older: bool) -> None:
    client = Client(from_kubeconfig(server.kubeconfig))
    discovery = Discovery(Older(client) if older else client)  # type: ignore[arg-type]
    assert discovery.find(resource.plural).version == "v1"  # type: ignore[attr-defined]
    for version in resource.api_versions:  # type: ignore[attr-defined]
        found = discovery.of(version, resource.kind)  # type: ignore[attr-defined]
        assert found is not None
        assert found.api_version == version
    assert discovery.of("kubevirt.io/v9", resource.kind) is None  # type: ignore[attr-defined]
