"""What a guest's agent says, in KubeVirt's words; and nonsense, which guests are free to say."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.guests import guestinfo

OS = {
    "id": "debian",
    "name": "Debian GNU/Linux",
    "pretty-name": "Debian GNU/Linux 12 (bookworm)",
    "version": "12 (bookworm)",
    "version-id": "12",
    "kernel-release": "6.1.0-56-amd64",
    "kernel-version": "#1 SMP",
    "machine": "x86_64",
    "variant": "left out",
}
CARDS = [
    {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
    {
        "name": "eth0",
        "hardware-address": "52:54:00:AA:BB:CC",
        "ip-addresses": [
            {"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64},
            {"ip-address-type": "ipv4", "ip-address": "10.0.2.15", "prefix": 24},
        ],
    },
    {"name": "docker0", "hardware-address": "02:42:00:00:00:01"},
]


def vmi(**card: Any) -> dict[str, Any]:
    return {"spec": {"domain": {"devices": {"interfaces": [{"name": "default", **card}]}}}}


def card(**more: Any) -> dict[str, Any]:
    return {"name": "default", "mac": "52:54:00:aa:bb:cc", "infoSource": "domain", **more}


def test_operating_system() -> None:
    found = guestinfo.os_info(OS)
    assert found["prettyName"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["kernelRelease"] == "6.1.0-56-amd64"
    assert set(found) == set(guestinfo.OS)


def test_users_and_file_systems() -> None:
    said = [{"user": "root", "login-time": 1700000000.5}, {"user": "x", "domain": "AD", "login-time": 1}, {}]
    assert guestinfo.users(said) == [
        {"userName": "root", "loginTime": 1700000000.5},
        {"userName": "x", "domain": "AD", "loginTime": 1},
    ]
    (found,) = guestinfo.filesystems(
        [
            {
                "name": "vda1",
                "mountpoint": "/",
                "type": "ext4",
                "used-bytes": 5,
                "total-bytes": 10,
                "disk": [{"bus-type": "virtio", "serial": "s1", "dev": "/dev/vda1"}],
            }
        ]
    )
    assert found["disk"] == [{"busType": "virtio", "serial": "s1"}]
    assert (found["diskName"], found["mountPoint"], found["usedBytes"], found["totalBytes"]) == ("vda1", "/", 5, 10)


def test_cards_get_the_guests_names_and_addresses() -> None:
    said = guestinfo.interfaces(CARDS)
    found = guestinfo.merged(vmi(bridge={}), [card()], said)
    assert found[0] == {
        "name": "default",
        "mac": "52:54:00:aa:bb:cc",
        "infoSource": "domain, guest-agent",
        "interfaceName": "eth0",
        "ipAddress": "10.0.2.15",
        "ipAddresses": ["fe80::1", "10.0.2.15"],
    }
    assert found[1] == {"interfaceName": "docker0", "mac": "02:42:00:00:00:01", "infoSource": "guest-agent"}


def test_translated_addresses_stay_the_nodes() -> None:
    found = guestinfo.merged(vmi(masquerade={}), [card(ipAddress="10.1.2.3")], guestinfo.interfaces(CARDS))
    assert (found[0]["ipAddress"], found[0]["interfaceName"]) == ("10.1.2.3", "eth0")
    assert "ipAddress" not in guestinfo.merged(vmi(masquerade={}), [card()], guestinfo.interfaces(CARDS))[0]


def test_agent_and_time_zone() -> None:
    info = guestinfo.agent_info(
        {"version": "7.2.0", "supported_commands": [{"name": "guest-ping", "enabled": True, "success-response": True}]}
    )
    assert info == {"guestAgentVersion": "7.2.0", "supportedCommands": [{"name": "guest-ping", "enabled": True}]}
    assert guestinfo.timezone({"zone": "CET", "offset": 3600}) == "CET, 3600"
    assert guestinfo.timezone(None) == ""
    assert guestinfo.hostname({"host-name": "web"}) == "web"


@pytest.mark.parametrize(
    "said", [None, 5, "x", [], {}, [1, "x", None], [{"user": 5, "name": {}}], {"version": [1], "supported_commands": 7}]
)
def test_nonsense_counts_as_nothing(said: Any) -> None:
    assert guestinfo.os_info(said) == {} or isinstance(said, dict)
    assert guestinfo.users(said) == []
    assert isinstance(guestinfo.filesystems(said), list)
    assert isinstance(guestinfo.interfaces(said), list)
    assert isinstance(guestinfo.agent_info(said), dict)
    assert guestinfo.hostname(said) == ""
    assert isinstance(guestinfo.merged(vmi(), [card()], guestinfo.interfaces(said)), list)


def test_what_a_guest_says_is_cut_to_size() -> None:
    long = "x" * 100_000
    assert len(guestinfo.os_info({"name": long})["name"]) == guestinfo.MOST_TEXT
    many = [{"name": f"eth{n}", "ip-addresses": [{"ip-address": long}] * 1000} for n in range(10_000)]
    found = guestinfo.merged(vmi(), [card()], guestinfo.interfaces(many))
    assert len(found) <= guestinfo.MOST_ENTRIES
    assert all(len(each.get("ipAddresses") or []) <= guestinfo.MOST_ADDRESSES for each in found)
    assert guestinfo.users([{"user": "a", "login-time": 10**400}])[0]["loginTime"] == 0
