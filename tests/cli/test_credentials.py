"""SSH keys and passwords in a machine's Secrets, as the command line changes them."""

from __future__ import annotations

import base64
import io
import json
import sys
from typing import Any

import pytest

from polyvisor.cli.client import Client
from polyvisor.kube.config import from_kubeconfig

from .conftest import Cli, Server

SECRETS = "/api/v1/namespaces/default/secrets"
VMS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
ONE, TWO = "ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"
BY_AGENT: dict[str, Any] = {"qemuGuestAgent": {"users": ["ann"]}}


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def vm(on_server: Cli, client: Client) -> str:
    assert on_server("delete", "vmi,vm,secrets", "--all", "--grace-period", "0").code == 0
    make(client)
    return "demo"


def make(client: Client, *credentials: dict[str, Any]) -> None:
    spec = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}, "accessCredentials": list(credentials)}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "demo"}}
    client.request("POST", VMS, {**vm, "spec": {"runStrategy": "Halted", "template": {"spec": spec}}})


def secret(client: Client, name: str, **texts: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts}
    client.request("POST", SECRETS, body)


def texts(client: Client, name: str) -> list[str]:
    data = client.get(f"{SECRETS}/{name}").get("data") or {}
    return sorted(base64.b64decode(text).decode() for text in data.values())


def test_keys_come_and_go(on_server: Cli, client: Client) -> None:
    key = ("credentials", "add-ssh-key", "demo", "--user", "ann", "--value")
    assert on_server(*key, ONE).code == 0
    (credential,) = client.get(f"{VMS}/demo")["spec"]["template"]["spec"]["accessCredentials"]
    name = credential["sshPublicKey"]["source"]["secret"]["secretName"]
    assert credential["sshPublicKey"]["propagationMethod"] == BY_AGENT
    assert client.get(f"{SECRETS}/{name}")["metadata"]["ownerReferences"][0]["name"] == "demo"
    assert on_server(*key, TWO).code == 0
    assert texts(client, name) == [ONE, TWO]
    assert "has this key already" in on_server(*key, "ssh-ed25519 BBBB of another name").out
    assert on_server("credentials", "remove-ssh-key", "demo", "--user", "ann", "--value", ONE).code == 0
    assert texts(client, name) == [TWO]
    assert (
        "does not have this key" in on_server("credentials", "remove-ssh-key", "demo", "-u", "ann", "--value", ONE).out
    )


def test_a_running_machine_gets_no_new_secret_unless_forced(on_server: Cli, client: Client) -> None:
    spec = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "demo"}, "spec": spec}
    client.request("POST", VMIS, vmi)
    key = ("credentials", "add-ssh-key", "demo", "--user", "ann", "--value", ONE)
    assert "--force" in on_server(*key).err
    assert client.get(SECRETS)["items"] == []
    assert on_server(*key, "--force").code == 0


def test_a_secret_that_others_may_use_is_left_alone_unless_forced(on_server: Cli, client: Client) -> None:
    client.request("DELETE", f"{VMS}/demo")
    on_server("delete", "vm", "--all", "--grace-period", "0")
    secret(client, "shared", ann="old")
    password = {"source": {"secret": {"secretName": "shared"}}, "propagationMethod": {"qemuGuestAgent": {}}}
    make(client, {"userPassword": password})
    change = ("credentials", "set-password", "demo", "--user", "ann", "--password", "new")
    assert "does not belong to demo alone" in on_server(*change).err
    assert texts(client, "shared") == ["old"]
    assert on_server(*change, "--force").code == 0
    assert texts(client, "shared") == ["new"]


def test_a_password_can_come_by_standard_input(on_server: Cli, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    on_server("delete", "vm", "--all", "--grace-period", "0")
    secret(client, "shared", ann="old")
    password = {"source": {"secret": {"secretName": "shared"}}, "propagationMethod": {"qemuGuestAgent": {}}}
    make(client, {"userPassword": password})
    monkeypatch.setattr(sys, "stdin", io.StringIO("by a pipe\n"))
    assert on_server("credentials", "set-password", "demo", "--user", "ann", "--force").code == 0
    assert texts(client, "shared") == ["by a pipe"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("add-ssh-key demo --value x", "public key"),
        ("add-ssh-key demo --user ann", "--file, --value"),
        (f"add-ssh-key demo --value|{ONE}", "--user"),
        (f"add-ssh-key demo --user ann --update-secret --value|{ONE}", "--create-secret makes one"),
        (f"remove-ssh-key demo --user ann --value|{ONE}", "no Secret with keys of ann"),
        ("set-password demo --user ann --password x", "names no Secret with passwords"),
        (f"add-ssh-key nobody --user ann --value|{ONE}", "not found"),
    ],
)
def test_what_cannot_be_is_said(on_server: Cli, client: Client, words: str, said: str) -> None:
    before, _, key = words.partition("|")
    done = on_server("credentials", *before.split(), *([key] if key else []))
    assert done.code != 0
    assert said in done.err
    assert json.loads(json.dumps(client.get(SECRETS)["items"])) == []
