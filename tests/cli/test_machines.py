"""start, stop, pause, console and logs: through the real subresource API, with a node that echoes."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from polyvisor import __version__
from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.errors import ApiError
from polyvisor.server.node import NodeError

from .conftest import Cli, Server

VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
VMS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
UUID = "d577ab1c-1b00-4d14-a7ee-aa245b590f11"
SPEC = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def clean(on_server: Cli, server: Server) -> None:
    assert on_server("delete", "vmi,vm,pods", "--all", "--grace-period", "0").code == 0
    server.node.asked.clear()
    server.node.refuse = None


def make_vmi(client: Client, name: str = "demo", phase: str = "Running", *conditions: str) -> dict[str, Any]:
    found = [{"type": kind, "status": "True"} for kind in conditions]
    return client.request(
        "POST",
        VMIS,
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": name},
            "spec": SPEC,
            "status": {"phase": phase, "conditions": found},
        },
    )


def make_vm(client: Client, strategy: str) -> None:
    template = {"metadata": {}, "spec": SPEC}
    vm = {"metadata": {"name": "demo"}, "spec": {"runStrategy": strategy, "template": template}}
    client.request("POST", VMS, {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", **vm})


def test_start_and_stop_change_the_run_strategy(on_server: Cli, client: Client) -> None:
    make_vm(client, "Halted")
    assert on_server("start", "demo").out == "VM demo was scheduled to start\n"
    assert client.get(f"{VMS}/demo")["spec"]["runStrategy"] == "Always"
    again = on_server("start", "demo")
    assert again.code == 5
    assert "Always does not support manual start requests" in again.err
    assert on_server("stop", "demo").code == 0
    assert client.get(f"{VMS}/demo")["spec"]["runStrategy"] == "Halted"


def test_dry_run_is_passed_on(on_server: Cli, client: Client) -> None:
    make_vm(client, "Halted")
    assert on_server("start", "demo", "--dry-run").code == 0
    assert client.get(f"{VMS}/demo")["spec"]["runStrategy"] == "Halted"


def test_restart_leaves_requests_in_the_status(on_server: Cli, client: Client) -> None:
    make_vm(client, "Always")
    uid = make_vmi(client)["metadata"]["uid"]
    assert on_server("restart", "demo").code == 0
    requests = client.get(f"{VMS}/demo")["status"]["stateChangeRequests"]
    assert requests == [{"action": "Stop", "uid": uid}, {"action": "Start"}]
    assert "already underway" in on_server("restart", "demo").err


def test_stop_with_a_grace_period_shortens_the_instances(on_server: Cli, client: Client) -> None:
    make_vm(client, "Always")
    make_vmi(client)
    assert on_server("stop", "demo", "--force").code == 0
    assert client.get(f"{VMIS}/demo")["spec"]["terminationGracePeriodSeconds"] == 0


def test_a_stop_that_is_waited_for_is_done_when_a_start_is_accepted(on_server: Cli, client: Client) -> None:
    """The instance is gone a moment before the controller has taken the request away."""
    make_vm(client, "Manual")
    make_vmi(client)
    merge = {"content_type": "application/merge-patch+json"}
    request: dict[str, Any] = {"status": {"created": True, "stateChangeRequests": None}}

    def play_the_controller() -> None:
        for event, vm in client.watch(VMS, {}, timeout=30):
            if event == "MODIFIED" and (vm.get("status") or {}).get("stateChangeRequests"):
                break
        client.request("DELETE", f"{VMIS}/demo")
        waiting.wait(30)
        client.request("PATCH", f"{VMS}/demo/status", {"status": {"stateChangeRequests": None}}, **merge)
        client.request("PATCH", f"{VMS}/demo/status", {"status": {"created": None}}, **merge)

    client.request("PATCH", f"{VMS}/demo/status", request, **merge)
    waiting = threading.Event()
    controller = threading.Thread(target=play_the_controller)
    controller.start()
    late = threading.Timer(1.0, waiting.set)  # so long, `stop --wait` does not come back
    late.start()
    assert on_server("stop", "demo", "--wait").code == 0
    assert waiting.is_set()
    controller.join()
    assert on_server("start", "demo").code == 0


def test_missing_machine(on_server: Cli) -> None:
    result = on_server("start", "nobody")
    assert (result.code, result.err) == (4, 'polyvisor: virtualmachine.kubevirt.io "nobody" not found\n')
    assert on_server("console", "nobody").code == 4
    assert on_server("logs", "nobody").code == 4


@pytest.mark.parametrize("command", [("pause", "vmi"), ("console",), ("vnc", "--proxy-only")])
def test_what_needs_a_running_machine_says_how_to_get_one(
    on_server: Cli, client: Client, command: tuple[str, ...]
) -> None:
    make_vm(client, "Halted")
    result = on_server(*command, "demo")
    assert result.code == 4
    assert "`polyvisor start demo` starts it" in result.err


def test_the_log_of_a_machine_that_ended_says_how_it_ended(on_server: Cli, client: Client) -> None:
    make_vm(client, "Always")
    failure = {"type": "Failure", "status": "True", "message": "the last instance failed: no such kernel"}
    status = {"printableStatus": "CrashLoopBackOff", "conditions": [failure]}
    client.request("PATCH", f"{VMS}/demo/status", {"status": status}, content_type="application/merge-patch+json")
    result = on_server("logs", "demo")
    assert result.code == 4
    assert "'demo' is not running (CrashLoopBackOff): the last instance failed: no such kernel" in result.err
    assert "describe vm demo" in result.err


def test_pause_and_unpause_reach_the_node(on_server: Cli, client: Client, server: Server) -> None:
    make_vmi(client)
    assert on_server("pause", "vmi", "demo").out == "VMI demo was scheduled to pause\n"
    assert server.node.asked == [("pause", "demo")]
    refused = on_server("unpause", "demo")
    assert refused.code == 5
    assert "VMI is not paused" in refused.err
    make_vmi(client, "held", "Running", "Paused")
    assert on_server("unpause", "held").code == 0
    assert "VMI is already paused" in on_server("pause", "held").err
    assert on_server("pause", "pod", "demo").code == 2


def test_a_node_that_refuses_is_quoted(on_server: Cli, client: Client, server: Server) -> None:
    make_vmi(client)
    server.node.refuse = NodeError("the hypervisor cannot pause", 409)
    result = on_server("pause", "demo")
    assert (result.code, result.err) == (5, "polyvisor: the hypervisor cannot pause\n")


def test_console_with_piped_input(on_server: Cli, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_vmi(client)
    read, write = os.pipe()
    os.write(write, b"root\nlogout\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        result = on_server("console", "demo")
    assert result.out == "login: echo:root\nlogout\n"


def test_console_refused_before_the_upgrade(on_server: Cli, client: Client) -> None:
    make_vmi(client, phase="Scheduled")
    result = on_server("console", "demo")
    assert result.code == 3
    assert "VMI is not running" in result.err


def test_console_can_wait_for_the_machine(on_server: Cli, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    vmi = make_vmi(client, phase="Scheduled")

    def run_it() -> None:
        client.request("PUT", f"{VMIS}/demo", {**vmi, "status": {"phase": "Running"}})

    timer = threading.Timer(0.3, run_it)
    timer.start()
    with Path("/dev/null").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        result = on_server("console", "demo", "--timeout", "1", "--idle", "0.2")
    timer.join()
    assert (result.code, result.out) == (0, "login: ")


def test_console_speaks_the_subprotocol_and_closes_the_old_one(client: Client) -> None:
    make_vmi(client)
    with connected(client, "default", "demo") as first:
        assert first.subprotocol == "plain.kubevirt.io"
        assert first.recv() == b"login: "
        with connected(client, "default", "demo") as second:
            assert second.recv() == b"login: "
            # KubeVirt's client says nothing of a normal end.
            with pytest.raises(Exception, match=r"1001 .*EOF: .*another client"):
                first.recv(timeout=10)


def test_console_needs_the_token(client: Client) -> None:
    make_vmi(client)
    client.connection.token = "wrong"
    with pytest.raises(ApiError) as caught, connected(client, "default", "demo"):
        pass
    assert caught.value.code == 401


def test_logs_are_read_through_the_pod(on_server: Cli, client: Client) -> None:
    vmi = make_vmi(client)
    assert "has no launcher yet" in on_server("logs", "demo").err
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "demo"}
    pod = {
        "metadata": {"name": "virt-launcher-demo", "ownerReferences": [{**owner, "uid": vmi["metadata"]["uid"]}]},
        "spec": {"containers": [{"name": "compute", "image": "x"}]},
    }
    client.request("POST", "/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
    assert on_server("logs", "demo", "--tail", "3").out == "guest-console-log follow=False tail=3\n"
    assert on_server("logs", "demo", "--launcher").out == "compute follow=False tail=None\n"


def test_the_log_of_the_last_instance_is_shown(on_server: Cli, client: Client, server: Server) -> None:
    make_vm(client, "Halted")
    path = {"spec": {"template": {"spec": {"domain": {"firmware": {"uuid": UUID}}}}}}
    client.request("PATCH", f"{VMS}/demo", path, content_type="application/merge-patch+json")
    assert "not running" in on_server("logs", "demo").err
    server.node.last_logs[UUID] = b"kernel panic\n"
    result = on_server("logs", "demo", "--tail", "3", "--follow")
    assert (result.code, result.out) == (0, "guest-console-log tail=3\nkernel panic\n")
    assert "'demo' is not running (Stopped); this is the log of its last instance" in result.err
    server.node.last_logs[UUID] = b""
    assert on_server("logs", "demo").code == 4


def test_discovery_of_the_subresources(client: Client) -> None:
    answer = client.get("/apis/subresources.kubevirt.io/v1")
    names = {resource["name"] for resource in answer["resources"]}
    assert {"virtualmachines/start", "virtualmachineinstances/console"} <= names
    assert client.get("/apis/subresources.kubevirt.io/v1/version")["gitVersion"].startswith("v")


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"gracePeriod": "soon"}', b'{"gracePeriod": -1}'])
def test_broken_bodies(client: Client, body: bytes) -> None:
    make_vm(client, "Always")
    connection = client._open(10)
    path = "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/demo/stop"
    connection.request("PUT", path, body=body, headers=client._headers("application/json"))
    response = connection.getresponse()
    assert response.status == 400
    assert json.loads(response.read())["kind"] == "Status"
    connection.close()


def test_the_servers_version_stands_beside_this_programs(on_server: Cli) -> None:
    assert on_server("version").out == f"polyvisor {__version__}\nserver {__version__}\n"
    assert "serverVersion" not in on_server("version", "--client", "-o", "json").out


def test_completion_and_version(cli: Cli, tmp_path: Path) -> None:
    assert cli("version", "--client").out == f"polyvisor {__version__}\n"
    assert "_POLYVISOR_COMPLETE" in cli("completion", "bash").out
    assert cli("completion", "tcsh").code == 2
