"""virtctl's verbs on running guests: through the real subresource API, with a node that echoes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.cli import shell
from polyvisor.cli.app import run
from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError
from polyvisor.cli.forward import Port, Target, parse_port, parse_target
from polyvisor.cli.forward import _listen as listen
from polyvisor.kube.config import from_kubeconfig
from polyvisor.kube.errors import ApiError
from polyvisor.server.node import NodeError

from .conftest import Cli, Server

BASE = "/apis/subresources.kubevirt.io/v1/namespaces/default"
VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"
VMS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"


@pytest.fixture
def client(server: Server) -> Client:
    return Client(from_kubeconfig(server.kubeconfig))


@pytest.fixture(autouse=True)
def clean(on_server: Cli, server: Server) -> None:
    assert on_server("delete", "vmi,vm", "--all", "--grace-period", "0").code == 0
    server.node.asked.clear()
    server.node.refuse = None
    server.node.answer = {}


def make(client: Client, *conditions: str, driver: str = "", **spec: Any) -> dict[str, Any]:
    status = {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in conditions],
        "interfaces": [{"name": "default", "ipAddress": "10.0.0.1"}],
        **({"hypervisor": {"driver": driver}} if driver else {}),
    }
    whole = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}, **spec}
    metadata = {"name": "demo", "labels": {"app": "demo"}}
    kind = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance"}
    return client.request("POST", VMIS, {**kind, "metadata": metadata, "spec": whole, "status": status})


@pytest.mark.parametrize(("verb", "action"), [("soft-reboot", "softreboot"), ("reset", "reset")])
def test_guest_is_told(on_server: Cli, client: Client, server: Server, verb: str, action: str) -> None:
    make(client)
    assert on_server(verb, "demo").out == f"VMI demo was scheduled to {action}\n"
    assert server.node.asked == [(action, "demo")]
    assert on_server(verb, "nobody").code == 4
    client.request("DELETE", f"{VMIS}/demo")


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("guestosinfo", "VirtualMachineInstanceGuestAgentInfo"),
        ("fslist", "VirtualMachineInstanceFileSystemList"),
        ("userlist", "VirtualMachineInstanceGuestOSUserList"),
    ],
)
def test_guest_is_asked(on_server: Cli, client: Client, server: Server, verb: str, kind: str) -> None:
    make(client, "AgentConnected")
    server.node.answer = {"hostname": "web"}
    assert json.loads(on_server(verb, "demo").out).items() >= {"kind": kind, "hostname": "web"}.items()


def test_without_an_agent_there_is_nothing_to_ask(on_server: Cli, client: Client) -> None:
    make(client)
    assert "does not have guest agent connected" in on_server("guestosinfo", "demo").err


def test_a_driver_that_cannot_is_told_from_one_that_can(on_server: Cli, client: Client, server: Server) -> None:
    make(client, driver="lxc")
    refused = on_server("reset", "demo")
    assert refused.code == 3
    assert "reset is not possible on LXC" in refused.err
    assert "drivers that can: QEMU (qemu)" in refused.err
    assert on_server("vnc", "demo", "--proxy-only").code == 3
    assert on_server("vnc", "screenshot", "demo", "-f", "/dev/null").code == 3
    assert server.node.asked == []


def test_freeze_passes_its_time_limit_on(client: Client, server: Server) -> None:
    make(client, "AgentConnected")
    client.request("PUT", f"{BASE}/virtualmachineinstances/demo/freeze", {"unfreezeTimeout": "5m0s"})
    assert (server.node.asked, server.node.arguments) == ([("freeze", "demo")], {"timeout": 300.0})
    with pytest.raises(ApiError, match="not a duration"):
        client.request("PUT", f"{BASE}/virtualmachineinstances/demo/freeze", {"unfreezeTimeout": "soon"})


def test_older_version_is_served_too(client: Client, server: Server) -> None:
    make(client)
    path = f"{BASE.replace('/v1/', '/v1alpha3/')}/virtualmachineinstances/demo/reset"
    client.request("PUT", path, {})
    assert server.node.asked == [("reset", "demo")]


def test_screenshot(on_server: Cli, client: Client, server: Server, tmp_path: Path) -> None:
    make(client)
    file = tmp_path / "shot.png"
    assert on_server("vnc", "screenshot", "demo", "-f", str(file), "--move-cursor=true").code == 0
    assert file.read_bytes() == b"\x89PNG picture"
    assert server.node.arguments == {"wake": True}
    assert on_server("vnc", "screenshot", "demo", "-f", str(tmp_path / "no" / "such")).code == 1


def test_no_screen(on_server: Cli, client: Client) -> None:
    make(client, domain={"devices": {"autoattachGraphicsDevice": False}, "memory": {"guest": "64Mi"}})
    refused = on_server("vnc", "demo", "--proxy-only")
    assert (refused.code, refused.err) == (3, "polyvisor: No graphics devices are present.\n")


def command(server: Server, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "polyvisor.cli", "--kubeconfig", str(server.kubeconfig), *words]


@contextmanager
def running(server: Server, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command(server, *words), stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_vnc_proxy_joins_a_local_port(client: Client, server: Server) -> None:
    make(client)
    with running(server, "vnc", "demo", "--proxy-only", "--preserve-session") as proxy:
        assert proxy.stdout
        port = json.loads(proxy.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port), 10) as viewer:
            assert viewer.recv(7) == b"login: "
            viewer.sendall(b"hello")
            assert viewer.recv(100) == b"echo:hello"
        assert proxy.wait(20) == 0
    assert server.node.arguments == {"preserve": True}


def test_a_usb_slot_joins_a_local_port(client: Client, server: Server) -> None:
    make(client, domain={"devices": {"clientPassthrough": {}}, "memory": {"guest": "64Mi"}})
    with running(server, "usbredir", "demo", "--no-launch") as proxy:
        assert proxy.stdout
        words = proxy.stdout.readline().decode()
        assert words.startswith("User can connect usbredir client at: 127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(words.rpartition(":")[2])), 10) as program:
            assert program.recv(7) == b"login: "
        assert proxy.wait(20) == 0
    assert server.node.asked == [("usbredir", "demo")]


def test_usb_devices_are_named_and_brought_by_a_program(
    on_server: Cli, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from polyvisor.cli.usbredir import command

    make(client)
    refused = on_server("usbredir", "demo", "--no-launch")
    assert refused.code == 5
    assert "Not configured with USB Redirection: spec.domain.devices.clientPassthrough is missing" in refused.err
    assert on_server("usbredir", "demo").code == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CliError, match="no USB device"):
        command("keyboard")
    with pytest.raises(CliError, match="usbredirect is not installed"):
        command("1-4")
    program = tmp_path / "usbredirect"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert command("046d:c31c") == (str(program), "--device", "046d:c31c", "--to", "{address}:{port}")


def test_viewers(on_server: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from polyvisor.cli.vnc import viewer

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CliError, match="no VNC viewer"):
        viewer("", "")
    with pytest.raises(CliError, match="no viewer of type"):
        viewer("paper", "")
    program = tmp_path / "remote-viewer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert viewer("", "") == (str(program), "vnc://{address}:{port}")
    assert viewer("tiger", str(program)) == (str(program), "{address}::{port}")


def test_port_forward_over_standard_input(client: Client, server: Server) -> None:
    make(client)
    with running(server, "port-forward", "--stdio=true", "vmi/demo/default", "22") as process:
        assert process.stdout
        assert process.stdin
        assert os.read(process.stdout.fileno(), 100) == b"login: "
        process.stdin.write(b"logout")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 100) == b"echo:logout"
        assert process.wait(20) == 0
    assert server.node.arguments == {"port": 22, "protocol": "tcp"}


@contextmanager
def forwarding(target: Target, port: Port) -> Iterator[None]:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def work() -> None:
        task = asyncio.create_task(listen(target, [port], "127.0.0.1"))
        started.set_result((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    loop, task = started.result(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_port_forward_of_a_tcp_port_takes_many(client: Client, server: Server) -> None:
    make(client)
    number = free_port(socket.SOCK_STREAM)
    with forwarding(Target(client, "virtualmachineinstances", "demo", "default"), Port("tcp", number, 80)):
        for _ in range(3):
            with connected(number) as peer:
                assert peer.recv(7) == b"login: "
    assert server.node.asked == [("port", "demo")] * 3
    assert server.node.arguments == {"port": 80, "protocol": "tcp"}


def connected(number: int) -> socket.socket:
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", number), 10)
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
    raise AssertionError("nobody listens")


def test_port_forward_of_a_udp_port(client: Client, server: Server) -> None:
    make(client)
    number = free_port(socket.SOCK_DGRAM)
    with (
        forwarding(Target(client, "virtualmachineinstances", "demo", "default"), Port("udp", number, 53)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        peer.settimeout(0.5)
        heard, deadline = b"", time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            peer.sendto(b"ask", ("127.0.0.1", number))  # lost where nobody listens yet
            try:
                heard = peer.recv(100)
            except TimeoutError:
                continue
        assert heard == b"login: "
    assert server.node.arguments == {"port": 53, "protocol": "udp"}


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("virtualmachineinstances/demo/portforward/0", 400, "not a port"),
        ("virtualmachineinstances/demo/portforward/65536", 400, "not a port"),
        ("virtualmachineinstances/demo/portforward/x", 400, "not a port"),
        ("virtualmachineinstances/demo/portforward/22/sctp", 400, "tcp or udp"),
        ("virtualmachineinstances/nobody/portforward/22", 404, "not found"),
        ("virtualmachines/demo/portforward/22", 404, "not found"),
        ("virtualmachineinstances/demo/portforward/22", 400, "ask for an upgrade"),
    ],
)
def test_ports_that_cannot_be_forwarded(client: Client, path: str, code: int, message: str) -> None:
    make(client)
    with pytest.raises(ApiError, match=message) as caught:
        client.get(f"{BASE}/{path}")
    assert caught.value.code == code


def test_a_port_that_the_node_cannot_reach(client: Client, server: Server) -> None:
    make(client)
    server.node.refuse = NodeError("dialing the machine: refused", 502)
    done = subprocess.run(
        command(server, "port-forward", "--stdio", "vmi/demo", "22"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (1, "polyvisor: dialing the machine: refused\n")


@pytest.mark.parametrize("text", ["", "x", "1:2:3", "0", "1:0", "65536", "sctp/1", "-1", "/1", "tcp/x"])
def test_no_ports(text: str) -> None:
    with pytest.raises(CliError, match="is not a port"):
        parse_port(text)


def test_ports_and_targets() -> None:
    assert parse_port("8080:80") == Port("tcp", 8080, 80)
    assert parse_port("udp/53") == Port("udp", 53, 53)
    assert parse_port("0:22") == Port("tcp", 0, 22)
    assert parse_target("vm/a.b/c", "x") == ("virtualmachines", "a.b", "c")
    assert parse_target("demo", "x") == ("virtualmachineinstances", "demo", "x")
    for text in ("pod/x", "vmi/", "vmi/a/b/c", "/"):
        with pytest.raises(CliError, match="is not a machine"):
            parse_target(text, "x")


def test_ssh_and_scp_go_through_port_forward(on_server: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(shell, "run", lambda program, arguments: became.append((program, list(arguments))))
    words = ["--kubeconfig", str(server.kubeconfig)]
    assert run([*words, "ssh", "root@vmi/demo", "-c", "uptime", "-i", "key", "-t", "-v", "-p", "2222"]) == 0
    assert run([*words, "scp", "-r", "here", "vm/demo/ns:/there", "-l", "me"]) == 0
    program, arguments = became[0]
    assert program == "ssh"
    assert f"port-forward --stdio vmi/demo/default %p" in arguments[1]  # noqa: F541
    assert str(server.kubeconfig) in arguments[1]
    assert arguments[2:] == "-o HostKeyAlias=vmi.demo.default -i key -v -p 2222 -l root vmi.demo.default uptime".split()
    program, arguments = became[1]
    assert program == "scp"
    assert arguments[-3:] == ["--", "here", "me@vm.demo.ns:/there"]
    assert "-r" in arguments
    assert run([*words, "scp", "here", "there"]) == 2


def test_expose_on_one_machine_says_what_leads_to_the_port(on_server: Cli, client: Client) -> None:
    make(client)
    done = on_server("expose", "vmi", "demo", "--name", "web", "--port", "80")
    assert done.code == 0
    assert "Warning: a standalone installation routes nothing to Services" in done.err
    assert "polyvisor port-forward" in done.err
    made = client.get("/api/v1/namespaces/default/services/web")
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert on_server("expose", "vmi", "demo", "--name", "web").code == 2
    assert on_server("expose", "vmi", "demo", "--name", "web", "--port", "80", "--type", "Magic").code == 2


def test_permitted_devices(on_server: Cli) -> None:
    assert on_server("permitted-devices").out == "Permitted Devices:\nHost Devices:\nGPU Devices:\n"


def test_expand_spec(client: Client) -> None:
    vm = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "demo"},
        "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}},
    }
    client.request("POST", VMS, vm)
    assert client.get(f"{BASE}/virtualmachines/demo/expand-spec")["spec"]["runStrategy"] == "Halted"
    assert client.request("PUT", f"{BASE}/expand-vm-spec", vm)["spec"] == vm["spec"]
    for broken in ({}, {**vm, "spec": {"runStrategy": 5}}):
        with pytest.raises(ApiError) as caught:
            client.request("PUT", f"{BASE}/expand-vm-spec", broken)
        assert caught.value.code == 400


def test_as_a_plugin_of_kubectl(server: Server, client: Client) -> None:
    make(client)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from polyvisor.cli import plugin; plugin()", "reset", "demo"],
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "VMI demo was scheduled to reset\n"
