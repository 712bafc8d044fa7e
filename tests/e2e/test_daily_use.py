"""What KubeVirt's users do with a machine every day, on real guests through the command line and the websockets."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from polyvisor.cli.streams import options
from polyvisor.cli.websocket import Websocket
from polyvisor.kube.errors import ApiError

from .agent_guest import IMAGE, add_image
from .guest_shell import VMIS, Shell, shell, true, until
from .screen import BASE, Viewer, picture, screen
from .standalone import BIN, Standalone, standalone

pytestmark = pytest.mark.e2e

CONSOLES = 50
CARD = {"name": "default", "masquerade": {}, "ports": [{"port": 7777}]}


def machine(name: str, driver: str, **domain: Any) -> dict[str, Any]:
    volumes = []
    if driver == "lxc":
        volumes.append({"name": "root", "containerDisk": {"image": "localhost/polyvisor/demo-rootfs:1"}})
    else:
        container = {"image": IMAGE, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
        domain["firmware"] = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": container}}
        volumes.append({"name": "data", "containerDisk": {"image": "localhost/polyvisor/demo-disk:1"}})
        domain["devices"] = {"interfaces": [CARD], **(domain.get("devices") or {})}
    spec = {
        "hypervisor": {"driver": driver},
        "domain": {"memory": {"guest": "128Mi"}, "devices": {}, **domain},
        "volumes": volumes,
    }
    if driver != "lxc":
        spec["networks"] = [{"name": "default", "pod": {}}]
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        add_image(home.folder / "images")
        home.run("up")
        try:
            home.run_machines(machine("talk", "qemu"), machine("box", "lxc"))
            yield home
        finally:
            home.run("down")


@pytest.fixture
def talk(client: Client) -> str:
    """The name of a guest whose agent is there."""
    until(client, "talk", lambda status: true(status, "AgentConnected"))
    return "talk"


def uptime(console: Shell) -> float:
    return float(console.says("echo up=$(cut -d' ' -f1 /proc/uptime)", rb"up=([0-9.]+)\r")[1])


def test_pause_holds_the_guests_clock(home: Standalone, client: Client, talk: str) -> None:
    with shell(client, talk) as console:
        before, begin = uptime(console), time.monotonic()
        home.run("pause", "vmi", talk)
        status = until(client, talk, lambda status: true(status, "Paused"))
        assert not true(status, "Ready")
        held = time.monotonic()
        time.sleep(4)
        held = time.monotonic() - held
        home.run("unpause", "vmi", talk)
        until(client, talk, lambda status: not true(status, "Paused") and true(status, "Ready"))
        passed = uptime(console) - before
        assert passed < time.monotonic() - begin - held + 1


def test_agent_tells_of_the_guest(home: Standalone, client: Client, talk: str) -> None:
    status = until(client, talk, lambda status: "guestOSInfo" in status)
    assert status["guestOSInfo"]["prettyName"] == "Polyvisor Demo 1 (agent)"
    assert status["guestOSInfo"]["kernelRelease"].endswith("cloud-amd64")
    status = until(client, talk, lambda status: "interfaceName" in status["interfaces"][0])
    assert status["interfaces"][0]["infoSource"] == "domain, guest-agent"
    info = json.loads(home.run("guestosinfo", talk))
    assert info["guestAgentVersion"].startswith("7.2")
    assert info["os"] == status["guestOSInfo"]
    assert {"name": "guest-ping", "enabled": True} in info["supportedCommands"]
    mounts = {each["mountPoint"]: each for each in json.loads(home.run("fslist", talk))["items"]}
    assert mounts["/mnt/demo"]["fileSystemType"] == "ext4"
    assert mounts["/mnt/demo"]["totalBytes"] > mounts["/mnt/demo"]["usedBytes"] > 0
    assert json.loads(home.run("userlist", talk))["kind"] == "VirtualMachineInstanceGuestOSUserList"


def test_freeze_is_seen_and_ends_by_itself(client: Client, talk: str) -> None:
    client.request("PUT", f"{BASE}/{talk}/freeze", {"unfreezeTimeout": "5m0s"})
    until(client, talk, lambda status: status.get("fsFreezeStatus") == "frozen")
    client.request("PUT", f"{BASE}/{talk}/unfreeze", {})
    until(client, talk, lambda status: "fsFreezeStatus" not in status)
    client.request("PUT", f"{BASE}/{talk}/freeze", {"unfreezeTimeout": "1s"})
    with shell(client, talk) as console:
        console.says("touch /mnt/demo/x && echo writ''ten", rb"written")
        console.says("rm /mnt/demo/x && echo remo''ved", rb"removed")


def why_closed(websocket: Websocket) -> str:
    try:
        while True:
            websocket.recv(timeout=10)
    except ConnectionClosed as error:
        return error.rcvd.reason if error.rcvd else ""


def test_vnc_shakes_hands_and_has_one_session(client: Client, talk: str) -> None:
    with screen(client, talk) as first:
        assert first.subprotocol == "plain.kubevirt.io"
        viewer = Viewer(first)
        width, height = viewer.width, viewer.height
        assert (width, height) >= (640, 400)
        with pytest.raises(Exception, match="HTTP 409"):
            screen(client, talk, {"preserveSession": "true"})
        with screen(client, talk) as second:
            assert Viewer(second).look().width == width
            assert "another client" in why_closed(first)
    with screen(client, talk, {"preserveSession": "true"}) as third:
        assert Viewer(third).look().height == height


def test_vnc_proxy_of_the_command_line(home: Standalone, talk: str) -> None:
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    command = [BIN / "polyvisor", "vnc", talk, "--proxy-only"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as proxy:
        assert proxy.stdout
        port = json.loads(proxy.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port), 10) as viewer:
            assert viewer.recv(12) == b"RFB 003.008\n"
        assert proxy.wait(20) == 0


def test_screenshot_is_a_picture_of_the_screen(home: Standalone, client: Client, talk: str, tmp_path: Path) -> None:
    file = tmp_path / "shot.png"
    home.run("vnc", "screenshot", talk, "-f", file, "-m")
    shot = picture(file.read_bytes())
    with screen(client, talk) as websocket:
        seen = Viewer(websocket).look()
    assert (shot.width, shot.height) == (seen.width, seen.height)
    assert len(shot.lit()) > 2, "the firmware's text is on the screen"


@pytest.mark.parametrize("verb", ["soft-reboot", "reset"])
def test_guest_starts_again(home: Standalone, client: Client, talk: str, verb: str) -> None:
    uid = client.get(f"{VMIS}/{talk}")["metadata"]["uid"]
    with shell(client, talk) as console:
        console.says("echo before > /run/mark; cat /run/mark", rb"\nbefore")
        home.run(verb, talk)
        console.until(rb"polyvisor-demo: ready", 120)
    with shell(client, talk) as console:
        console.says("cat /run/mark || echo go''ne", rb"gone")
    after = client.get(f"{VMIS}/{talk}")
    assert (after["metadata"]["uid"], after["status"]["phase"]) == (uid, "Running")
    until(client, talk, lambda status: true(status, "AgentConnected"))


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "vnc"),
        ("GET", "vnc/screenshot"),
        ("PUT", "softreboot"),
        ("PUT", "reset"),
        ("PUT", "freeze"),
        ("GET", "guestosinfo"),
    ],
)
def test_what_a_container_cannot_is_refused_with_who_can(client: Client, method: str, action: str) -> None:
    with pytest.raises(ApiError) as caught:
        client.request(method, f"{BASE}/box/{action}")
    assert caught.value.code == 400
    assert f"{action} is not possible on LXC: " in caught.value.message
    assert "drivers that can: QEMU (qemu)" in caught.value.message
    (cause,) = caught.value.causes
    assert cause["field"] == "spec.hypervisor.driver"


def descriptors(home: Standalone) -> int:
    return len(list(Path(f"/proc/{home.pid}/fd").iterdir()))


def settled(home: Standalone, most: int) -> int:
    deadline = time.monotonic() + 20
    while (count := descriptors(home)) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return count


def test_fifty_consoles_at_once_leave_nothing_behind(home: Standalone, client: Client) -> None:
    with shell(client, "box") as console:
        console.says("echo he''re", rb"here")

    def join(number: int) -> bool:
        try:
            with connected(client, "default", "box", 60) as websocket:
                websocket.send(f"echo n{number}\n".encode())
                return bool(websocket.recv(timeout=2))
        except ConnectionClosed as error:  # whoever came later has the console now
            return "another client" in (error.rcvd.reason if error.rcvd else "")

    most = 0
    for last in (
        False,
        False,
        True,
    ):  # connections between the parts of the process are kept for a while, and used again
        with concurrent.futures.ThreadPoolExecutor(CONSOLES) as threads:
            assert all(threads.map(join, range(CONSOLES)))
        with shell(client, "box") as console:
            console.says("echo st''ill", rb"still")
        if last:
            assert settled(home, most) <= most
        most = max(most, descriptors(home))


def test_a_slow_reader_and_a_broken_line_do_not_hold_up_the_guest(home: Standalone, client: Client) -> None:
    with shell(client, "box"):  # who is logged in: `login` throws away what was typed ahead of it
        before = descriptors(home)
    with ExitStack() as stack:
        slow = stack.enter_context(connected(client, "default", "box"))
        slow.send(b"seq 1 1000000; touch /run/done\n")  # nobody reads the 7 MB
        time.sleep(1)
        with shell(client, "box") as console:
            console.says("until [ -e /run/done ]; do sleep 0.1; done; echo do''ne", rb"\ndone")
    command = [BIN / "polyvisor", "console", "box"]
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as broken:
        assert broken.stdin
        assert broken.stdout
        broken.stdin.write(b"echo al''ive\n")
        broken.stdin.flush()
        heard = b""
        while b"alive" not in heard:
            heard += os.read(broken.stdout.fileno(), 4096)
        broken.send_signal(signal.SIGKILL)
    with shell(client, "box") as console:
        console.says("echo aga''in", rb"again")
    assert settled(home, before + 2) <= before + 2


def test_ports_of_the_guest_are_forwarded(home: Standalone, client: Client, talk: str) -> None:
    with shell(client, talk) as console:
        console.says("ip addr show eth0 | grep -q 10.0.2.15 || udhcpc -q -n -i eth0; echo on''line", rb"\nonline")
        console.type("(while :; do echo hello from the guest | nc -l -p 7777; done) >/dev/null 2>&1 &")
    for _ in range(3):
        deadline = time.monotonic() + 30  # the guest's program listens anew for each connection
        while not (sent := home.run("port-forward", "--stdio", f"vmi/{talk}", "7777", stdin="")):
            assert time.monotonic() < deadline
        assert sent == "hello from the guest\n"
    url, arguments = options(client, f"{BASE}/{talk}/portforward/7778", 20)
    with pytest.raises(Exception, match="HTTP 409"):
        Websocket(url, **arguments)


def test_a_network_in_user_mode_has_ipv6_too(client: Client, talk: str) -> None:
    # A router is asked for when the card comes up; a guest that was held just then asks again only if it is told to.
    again = "for off in 1 0; do echo $off >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; done; sleep 5"
    with shell(client, talk) as console:
        console.says(f"until ip -6 -o address show dev eth0 | grep fec0:; do {again}; done", rb"fec0::[0-9a-f:]+/64")


def test_a_port_of_a_guest_without_an_address_or_a_card(home: Standalone, client: Client) -> None:
    with pytest.raises(ApiError, match="no network interfaces are present") as caught:
        client.get(f"{BASE}/box/portforward/22")
    assert caught.value.code == 400
