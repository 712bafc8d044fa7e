"""Networks inside a Pod's namespace, for real: addresses by DHCP, connections from outside, and what is left behind."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link import containers
from polyvisor.agent.link.connection import LauncherGone
from polyvisor.agent.link.streams import dial, port_of
from polyvisor.agent.network import dhcp, guests
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.namespace import Namespace, NetworkError
from polyvisor.agent.network.pods import TUN, PodNetworks, trial
from polyvisor.drivers.base import CardKind
from tests.needs import need, unmet

from .conftest import OUTSIDE, POD, Net, Space, ask, listening, vmi

ID = "0123456789ab"
POD_NETWORK = {"pod": {}}
FURTHER = {"multus": {"networkName": "more"}}
USER = 64999
"""Nobody's: newer versions of ip print an account's name."""
UID = "6f0c6d0e-3d1b-4a53-9d6b-0e8a2d3c4b5a"
LAUNCHER = {
    "metadata": {"namespace": "default", "uid": UID},
    "status": {"podIPs": [{"ip": POD}]},
    "spec": {"containers": [{"name": "compute", "resources": {"limits": {TUN: "1"}}}]},
}
TAP: Any = SimpleNamespace(cards=CardKind.TAP)
STRANGER = "02:bb:00:00:00:09"
BROADCAST = """
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((sys.argv[1], 0))
link.send(b"\\xff" * 6 + bytes.fromhex(sys.argv[2].replace(":", "")) + b"\\x88\\xb5" + bytes(46))
"""
"""Sends a frame to everybody, as a node's bridge does with a guest's own if its ports are hairpins."""
RESOLVER = Resolver(("198.51.100.53",), ("kubevirt.svc.cluster.local", "svc.cluster.local"))


@pytest.fixture
async def networks(tmp_path: Path) -> AsyncIterator[PodNetworks]:
    if why := trial():
        unmet(f"networks of Pods cannot be made here: {why}")
    found = PodNetworks(tmp_path / "networks", RESOLVER)
    await found.open()
    yield found
    await found.release(ID)


@pytest.fixture
def link(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(containers, "PROC", tmp_path / "proc")
    belongs(tmp_path / "proc", net.pod.pid, UID)
    return SimpleNamespace(pid=net.pod.pid, user=USER, gid=USER, active=False, closed=False)


def belongs(proc: Path, pid: int, pod: str) -> None:
    """Have the kernel say that a process is of a Pod."""
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "cgroup").write_text(f"0::/kubepods/burstable/pod{pod}/c\n")


@pytest.fixture
def spaces() -> Iterator[list[Space]]:
    found: list[Space] = []
    yield found
    for space in found:
        space.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What udhcpc calls: it tells what was leased."""
    path = tmp_path / "udhcpc"
    path.write_text("#!/bin/sh\n[ $1 = bound ] || exit 0\nenv\n")
    path.chmod(0o755)
    return path


def lease(guest: Space, script: Path, *asked: str) -> str:
    """Have a guest ask for its address; return what it is told."""
    need("busybox")
    options = [word for name in ("mtu", "search", *asked) for word in ("-O", name)]
    return guest.run(
        "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-t", "10", "-T", "1", "-f", "-s", str(script), *options
    )


def command_of(pid: int) -> bytes:
    """A process's command line; empty if it has ended, whether or not anybody has noticed."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def told(said: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", said, re.MULTILINE)
    return found[1] if found else ""


def use(guest: Space, said: str) -> None:
    """Set up what was leased."""
    guest.batch(
        f"address add {told(said, 'ip')}/{told(said, 'mask')} dev eth0",
        f"route add default via {told(said, 'router') or told(said, 'staticroutes').split()[-1]}",
    )


async def test_a_guest_behind_the_pods_address(
    net: Net, networks: PodNetworks, link: Any, spaces: list[Space], script: Path
) -> None:
    machine = vmi(({"masquerade": {}, "ports": [{"port": 8080}, {"port": 53, "protocol": "UDP"}]}, POD_NETWORK))
    (card,) = await networks.join(ID, machine, LAUNCHER, link, TAP)
    assert (card.bridge, card.tap, card.mtu) == ("k6t-eth0", "tap0", 1400)
    assert f"user {USER} group {USER}" in net.pod.run("ip", "-details", "link", "show", "tap0")
    spaces.append(guest := net.guest(card.bridge, card.mac))
    said = lease(guest, script)
    assert [told(said, name) for name in ("ip", "router", "mtu", "dns", "hostname")] == [
        *("10.0.2.2", "10.0.2.1", "1400", "198.51.100.53", "one")
    ]
    assert told(said, "search") == "default.svc.cluster.local svc.cluster.local"
    use(guest, said)
    with listening(guest, 8080), listening(guest, 9090), listening(guest, 53, socket.SOCK_DGRAM):
        assert ask(net.outside, POD, 8080) == OUTSIDE
        assert ask(net.outside, POD, 9090) == "ConnectionRefusedError", "it is not declared"
        with net.outside.namespace.socket(socket.SOCK_DGRAM) as peer:
            peer.settimeout(5)
            peer.sendto(b"x", (POD, 53))
            assert peer.recv(100).decode() == OUTSIDE
        with pytest.raises(LauncherGone, match="is being set up again"):
            PodNetworks(networks._folder, RESOLVER).socket(ID, socket.SOCK_STREAM)  # as after a start of the agent
        found = networks.socket(ID, socket.SOCK_STREAM)
        assert found is not None
        stream = await dial(found[1], 9090, "tcp", found[0])
        assert await stream.read() == b"10.0.2.1"
        await stream.close()
        stream = await port_of(machine, Path("/nowhere"), 53, "udp", lambda kind: networks.socket(ID, kind))
        await stream.write(b"x")
        assert await stream.read() == b"10.0.2.1"
        await stream.close()
    with listening(net.outside, 80):
        assert ask(guest, OUTSIDE, 80) == POD, "what it sends comes from the Pod"
        guest.batch("address add 10.0.2.77/24 dev eth0", "route replace default via 10.0.2.1 src 10.0.2.77")
        assert ask(guest, OUTSIDE, 80, 1) == "TimeoutError", "another's address is not let through"


async def test_a_pods_addresses_are_known_before_the_kubelet_reports_them(
    net: Net, networks: PodNetworks, link: Any
) -> None:
    unreported = {**LAUNCHER, "status": {}}
    assert networks.addresses(ID, unreported) == []
    await networks.join(ID, vmi(({"masquerade": {}}, POD_NETWORK)), unreported, link, TAP)
    assert networks.addresses(ID, unreported) == [POD]
    assert networks.addresses(ID, {**LAUNCHER, "status": {"podIPs": [{"ip": "192.0.2.9"}]}}) == ["192.0.2.9"]


async def test_a_guest_that_has_the_pods_address_is_reached_once_the_kubelet_has_reported_it(
    net: Net, networks: PodNetworks, link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "is_local", lambda _: False)
    await networks.join(ID, vmi(({"bridge": {}}, POD_NETWORK)), {**LAUNCHER, "status": {}}, link, TAP)
    assert networks.socket(ID, socket.SOCK_STREAM) is None
    networks.addresses(ID, LAUNCHER)
    found = networks.socket(ID, socket.SOCK_STREAM)
    assert found is not None
    found[0].close()


async def test_what_a_root_is_told_of_names(networks: PodNetworks) -> None:
    machine = vmi(({"masquerade": {}}, POD_NETWORK))
    told = "nameserver 198.51.100.53\nsearch default.svc.cluster.local svc.cluster.local\n"
    assert networks.resolver(machine, LAUNCHER) == told
    assert networks.resolver(vmi(), LAUNCHER) == "", "a machine without a network has nobody to ask"
    own = {**LAUNCHER, "spec": {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]}}}
    assert networks.resolver(machine, own) == "nameserver 192.0.2.53\n"
    assert networks.resolver(machine, {**LAUNCHER, "spec": {"dnsPolicy": "None"}}) == ""


async def test_a_guest_that_has_the_pods_address(
    net: Net,
    networks: PodNetworks,
    link: Any,
    spaces: list[Space],
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {
        "bootFileName": "pxe.0",
        "tftpServerName": "tftp.example",
        "ntpServers": ["192.0.2.7", "192.0.2.8"],
        "privateOptions": [{"option": 240, "value": "private.options; 240"}],
    }
    machine = vmi(({"bridge": {}, "dhcpOptions": options}, POD_NETWORK))
    (card,) = await networks.join(ID, machine, LAUNCHER, link, TAP)
    assert card.mac == "02:aa:00:00:00:01", "the Pod's own"
    again = PodNetworks(networks._folder, RESOLVER)
    await again.open()
    link.active = True
    assert await again.join(ID, machine, LAUNCHER, link, TAP) == [card], "a later agent knows what the Pod had"
    await again.release("other")
    spaces.append(guest := net.guest(card.bridge, card.mac))
    said = lease(guest, script, "bootfile", "tftp", "ntpsrv", "240")
    assert [told(said, name) for name in ("ip", "router", "mtu", "ntpsrv")] == [
        *(POD, OUTSIDE, "1400", "192.0.2.7 192.0.2.8")
    ]
    assert (told(said, "bootfile"), told(said, "tftp")) == ("pxe.0", "tftp.example")
    assert bytes.fromhex(told(said, "opt240")) == b"private.options; 240"
    use(guest, said)
    with listening(guest, 8080), listening(net.outside, 80):
        assert ask(net.outside, POD, 8080) == OUTSIDE
        net.outside.run(sys.executable, "-c", BROADCAST, "p0", STRANGER)
        assert ask(guest, OUTSIDE, 80) == POD
    assert STRANGER not in net.pod.run("bridge", "fdb", "show"), "a frame that comes back moves nobody"
    monkeypatch.setattr(guests, "is_local", lambda address: str(address) != POD)
    found = networks.socket(ID, socket.SOCK_STREAM)
    assert found is not None
    with found[0]:
        assert found[1] == POD, "what was the Pod's"
    monkeypatch.setattr(guests, "is_local", lambda address: str(address) == POD)
    assert networks.socket(ID, socket.SOCK_STREAM) is None, "it is the node's own"
    monkeypatch.setattr(guests, "is_local", lambda _: False)
    other = {**LAUNCHER, "status": {"podIPs": [{"ip": OUTSIDE}]}}
    await networks.join(ID, machine, other, link, TAP)
    assert networks.socket(ID, socket.SOCK_STREAM) is None, "the kubelet says another"


async def test_a_number_that_has_become_another_pods_process_is_not_joined(
    net: Net, networks: PodNetworks, link: Any, tmp_path: Path
) -> None:
    belongs(tmp_path / "proc", net.pod.pid, "11111111-3d1b-4a53-9d6b-0e8a2d3c4b5a")
    with pytest.raises(NetworkError, match="launcher has ended"):
        await networks.join(ID, vmi(({"masquerade": {}}, POD_NETWORK)), LAUNCHER, link, TAP)
    assert "k6t" not in net.pod.run("ip", "link")


@pytest.mark.parametrize("cidr", ["127.7.0.0/24", "169.254.169.0/24"])
async def test_a_network_that_means_the_node_is_not_connected_to(networks: PodNetworks, link: Any, cidr: str) -> None:
    machine = vmi(({"masquerade": {}}, {"pod": {"vmNetworkCIDR": cidr}}))
    await networks.join(ID, machine, LAUNCHER, link, TAP)
    assert networks.socket(ID, socket.SOCK_STREAM) is None


async def test_a_further_network_without_addresses(net: Net, networks: PodNetworks, link: Any) -> None:
    machine = vmi(({"masquerade": {}}, POD_NETWORK), ({"bridge": {}}, FURTHER))
    with pytest.raises(AgentError, match="is Multus installed"):
        await networks.join(ID, machine, LAUNCHER, link, TAP)
    hashed = "poda2213f7c5db"  # of the network's name, as KubeVirt has it
    net.outside.batch(f"link add p1 type veth peer name {hashed} netns {net.pod.pid}", "link set p1 up")
    first, second = await networks.join(ID, machine, LAUNCHER, link, TAP)
    assert second.outer == hashed
    assert (second.address, second.mac) == (None, (await networks.join(ID, machine, LAUNCHER, link, TAP))[1].mac)
    devices = net.pod.run("ip", "-brief", "link")
    assert f"{second.tap} " in devices
    assert f"master {second.bridge}" in net.pod.run("ip", "link", "show", hashed)
    assert "interface=k6t-eth0\n" in (networks._folder / ID / dhcp.CONFIG).read_text()
    assert second.bridge not in (networks._folder / ID / dhcp.CONFIG).read_text()
    assert first.mac != second.mac


async def test_the_dhcp_server_is_found_again_and_ends(net: Net, networks: PodNetworks, link: Any) -> None:
    machine = vmi(({"masquerade": {}}, POD_NETWORK))
    await networks.join(ID, machine, LAUNCHER, link, TAP)
    folder = networks._folder / ID
    first = dhcp.process(folder)
    link.active = True
    later = PodNetworks(networks._folder, RESOLVER)
    await later.open()
    assert later.joined(ID) is None
    await later.join(ID, machine, LAUNCHER, link, TAP)
    assert dhcp.process(folder) == first != 0
    os.kill(first, 9)
    while dhcp.process(folder):  # it is init's child, whose end nobody tells us of
        pass
    await later.join(ID, machine, LAUNCHER, link, TAP)
    second = dhcp.process(folder)
    assert second not in (0, first)
    await later.sweep({"another"})
    assert not folder.exists()
    assert not command_of(second)


async def test_a_machine_that_runs_without_goes_on_without(net: Net, networks: PodNetworks, link: Any) -> None:
    link.active = True
    assert await networks.join(ID, vmi(({"masquerade": {}}, POD_NETWORK)), LAUNCHER, link, TAP) == []
    assert "k6t" not in net.pod.run("ip", "-brief", "link")


async def test_a_launcher_that_may_open_no_taps(net: Net, networks: PodNetworks, link: Any) -> None:
    bare = {"spec": {"containers": [{"name": "compute"}]}}
    assert await networks.join(ID, vmi(({"masquerade": {}}, POD_NETWORK)), bare, link, TAP) == [], "user mode is left"
    with pytest.raises(AgentError, match=f"needs {TUN}"):
        await networks.join(ID, vmi(({"bridge": {}}, POD_NETWORK)), bare, link, TAP)
    assert "k6t" not in net.pod.run("ip", "-brief", "link")


def test_the_nodes_own_network_is_never_touched(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="the node's own network namespace"):
        Namespace.open(Path("/proc/self/ns/net"))
    with pytest.raises(NetworkError, match="cannot be opened"):
        Namespace.open(tmp_path / "none")


async def test_a_node_without_the_programs_gives_no_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = PodNetworks(tmp_path / "networks", RESOLVER)
    await found.open()
    assert found.facts() == frozenset()
    assert found.reason.startswith("ip is not installed")
    assert await found.join(ID, vmi(({"masquerade": {}}, POD_NETWORK)), LAUNCHER, link, TAP) == []


def test_whom_guests_ask_for_names(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.53\nnameserver 10.96.0.10\nnameserver ::1\nsearch kubevirt.svc.x svc.x x\n")
    own = Resolver.read(file)
    assert own == Resolver(("10.96.0.10",), ("kubevirt.svc.x", "svc.x", "x"))
    assert Resolver.read(tmp_path / "none") == Resolver()
    pod = {"metadata": {"namespace": "mine"}, "spec": {}}
    assert own.of(pod) == Resolver(("10.96.0.10",), ("mine.svc.x", "svc.x", "x"))
    pod["spec"] = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1", "x,y"], "searches": ["a.b", "a\nb"]}}
    assert own.of(pod) == Resolver(("192.0.2.1",), ("a.b",))
