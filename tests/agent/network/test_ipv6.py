"""A guest behind a Pod's IPv6 address, for real, but for two things: namespaces play the Pod and its guest."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.link.streams import dial
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import PodNetworks

from .conftest import OUTSIDE, OUTSIDE6, POD, POD6, Net, Space, ask, listening, vmi, with_ipv6
from .test_pods import ID, LAUNCHER, POD_NETWORK, TAP, link, networks, spaces

__all__ = ["link", "networks", "spaces"]

MASQUERADE = {"masquerade": {}}
PORTS = {"masquerade": {}, "ports": [{"port": 8080}, {"port": 53, "protocol": "UDP"}]}
RESOLVER = Resolver(("198.51.100.53", "2001:db8::53"), ("svc.cluster.local",))
SOLICITATION, ADVERTISEMENT, MANAGED = 133, 134, 0x80
SAYS = """#!/bin/sh
[ $reason != PREINIT6 ] || exec ip link set dev $interface up
[ $reason = BOUND6 ] && env
"""


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[PodNetworks]:
    found = PodNetworks(tmp_path / "asking", RESOLVER)
    await found.open()
    yield found
    await found.release(ID)


def lease(guest: Space, folder: Path, duid: int) -> dict[str, str]:
    """Ask for an address by DHCPv6, as a client that calls itself by ``duid``; return what was told."""
    (folder / "says").write_text(SAYS)
    (folder / "says").chmod(0o755)
    kept = folder / f"leases{duid}"
    kept.write_text(f'default-duid "\\000\\003\\000\\001\\002\\000\\000\\000\\000\\00{duid}";\n')
    command = ["dhclient", "-6", "-1", "-d", "-lf", kept, "-pf", folder / "pid", "-sf", folder / "says", "eth0"]
    whole = ["nsenter", f"--net=/proc/{guest.pid}/ns/net", "--", *command]
    found: dict[str, str] = {}
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert client.stdout
        for line in client.stdout:
            key, _, value = line.strip().partition("=")
            found[key] = value
            if key == "reason" or "new_ip6_address" in found:
                break
        client.kill()
        found |= dict(line.split("=", 1) for line in client.stdout.read().splitlines() if "=" in line)
    return found


def told_of_the_router(guest: Space) -> str:
    """Wait until a router has said that it is there; return the routes."""
    script = "until ip -6 route show default | grep -q default; do sleep 0.1; done; ip -6 route"
    return guest.run("sh", "-c", script)


def flags_of_the_router(guest: Space) -> int:
    """Ask who the router is; return the flags of its answer."""
    index = guest.namespace.within(lambda: socket.if_nametoindex("eth0"))
    asking = lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)  # noqa: E731
    with guest.namespace.within(asking) as raw:
        raw.settimeout(10)
        raw.sendto(bytes([SOLICITATION, *bytes(7)]), ("ff02::2", 0, 0, index))
        while (said := raw.recv(1500))[0] != ADVERTISEMENT:
            pass
        return said[5]


async def test_a_guest_has_both(net: Net, asking: PodNetworks, link: Any, spaces: list[Space], tmp_path: Path) -> None:
    with_ipv6(net)
    (card,) = await asking.join(ID, vmi((PORTS, POD_NETWORK)), LAUNCHER, link, TAP)
    spaces.append(guest := net.guest(card.bridge, card.mac))
    assert "fd10:0:2::/120 dev eth0" in told_of_the_router(guest)
    assert "fd10" not in guest.run("ip", "-6", "address"), "its address it is to ask for"
    assert flags_of_the_router(guest) & MANAGED
    told = lease(guest, tmp_path, 1)
    assert (told["new_ip6_address"], told["new_dhcp6_name_servers"]) == ("fd10:0:2::2", "2001:db8::53")
    assert told["new_dhcp6_domain_search"].rstrip(".") == "svc.cluster.local"
    guest.batch("address add fd10:0:2::2/128 dev eth0 nodad")
    with (
        listening(guest, 8080, version=6),
        listening(guest, 9090, version=6),
        listening(guest, 53, socket.SOCK_DGRAM, version=6),
    ):
        assert ask(net.outside, POD6, 8080) == OUTSIDE6
        assert ask(net.outside, POD6, 9090) == "ConnectionRefusedError", "it is not declared"
        with net.outside.namespace.socket(socket.SOCK_DGRAM, 6) as peer:
            peer.settimeout(5)
            peer.sendto(b"x", (POD6, 53))
            assert peer.recv(100).decode() == OUTSIDE6
    with listening(net.outside, 80, version=6):
        assert ask(guest, OUTSIDE6, 80) == POD6, "what it sends comes from the Pod"
        guest.batch(
            "address add fd10:0:2::77/128 dev eth0 nodad", "route add 2001:db8::/64 via fd10:0:2::1 src fd10:0:2::77"
        )
        assert ask(guest, OUTSIDE6, 80, 1) == "TimeoutError", "another's address is not let through"
    guest.batch("address add 10.0.2.2/24 dev eth0", "route add default via 10.0.2.1")
    with listening(guest, 8080), listening(net.outside, 80):
        assert (ask(net.outside, POD, 8080), ask(guest, OUTSIDE, 80)) == (OUTSIDE, POD)


async def test_the_cluster_chooses_what_is_behind_the_pod(
    net: Net, networks: PodNetworks, link: Any, spaces: list[Space], tmp_path: Path
) -> None:
    with_ipv6(net)
    chosen = {"pod": {"vmIPv6NetworkCIDR": "fd99:7::/64"}}
    (card,) = await networks.join(ID, vmi((MASQUERADE, chosen)), LAUNCHER, link, TAP)
    spaces.append(guest := net.guest(card.bridge, card.mac))
    assert "fd99:7::/64 dev eth0" in told_of_the_router(guest)
    assert "fd99" not in guest.run("ip", "-6", "address"), "a network of 64 bits gives nobody an address of its own"
    assert lease(guest, tmp_path, 1)["new_ip6_address"] == "fd99:7::2"


async def test_a_pod_with_ipv6_alone(
    net: Net, networks: PodNetworks, link: Any, spaces: list[Space], tmp_path: Path
) -> None:
    with_ipv6(net, only=True)
    (card,) = await networks.join(ID, vmi((MASQUERADE, POD_NETWORK)), LAUNCHER, link, TAP)
    assert card.address is None
    spaces.append(guest := net.guest(card.bridge, card.mac))
    told_of_the_router(guest)
    assert lease(guest, tmp_path, 1)["new_ip6_address"] == "fd10:0:2::2"
    guest.batch("address add fd10:0:2::2/128 dev eth0 nodad")
    with listening(guest, 9090, version=6):
        assert ask(net.outside, POD6, 9090) == OUTSIDE6
        found = networks.socket(ID, socket.SOCK_STREAM)
        assert found is not None
        stream = await dial(found[1], 9090, "tcp", found[0])
        assert await stream.read() == b"fd10:0:2::1"
        await stream.close()


async def test_what_the_pod_learned_of_routers_stays(net: Net, networks: PodNetworks, link: Any) -> None:
    with_ipv6(net)
    setting = "/proc/sys/net/ipv6/conf/eth0/accept_ra"
    net.pod.namespace.set("net/ipv6/conf/eth0/accept_ra", "1")
    await networks.join(ID, vmi((MASQUERADE, POD_NETWORK)), LAUNCHER, link, TAP)
    assert net.pod.namespace.within(Path(setting).read_text) == "2\n", "who forwards heeds no router, unless told to"


async def test_a_pod_without_ipv6_gives_none(net: Net, networks: PodNetworks, link: Any) -> None:
    (card,) = await networks.join(ID, vmi((MASQUERADE, POD_NETWORK)), LAUNCHER, link, TAP)
    assert card.address6 is None
    assert "ip6" not in net.pod.run("nft", "list", "tables")
    assert net.pod.namespace.within(Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text) == "0\n"
