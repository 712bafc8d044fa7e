"""What the agent inside a guest says, in KubeVirt's words: functions from its answers to objects of the API.

All of it was written by the guest and is believed of nobody else: every list and text is cut to a size, and an answer
of the wrong shape counts as none.
"""

from __future__ import annotations

from typing import Any

from polyvisor.api import Obj
from polyvisor.api.reading import nested

MOST_TEXT = 256
MOST_ENTRIES = 64
MOST_COMMANDS = 256
MOST_ADDRESSES = 16
ADDRESSES = ("ipAddress", "ipAddresses")
OS = {
    "name": "name",
    "kernelRelease": "kernel-release",
    "version": "version",
    "prettyName": "pretty-name",
    "versionId": "version-id",
    "kernelVersion": "kernel-version",
    "machine": "machine",
    "id": "id",
}


def os_info(answer: Any) -> Obj:
    """Return the operating system of ``guest-get-osinfo``."""
    found = answer if isinstance(answer, dict) else {}
    return {ours: text for ours, theirs in OS.items() if (text := _text(found.get(theirs)))}


def users(answer: Any) -> list[Obj]:
    """Return who is logged in, of ``guest-get-users``."""
    return [
        _filled({"userName": _text(entry.get("user")), "domain": _text(entry.get("domain"))})
        | {"loginTime": _number(entry.get("login-time"))}
        for entry in _entries(answer)
        if _text(entry.get("user"))
    ]


def filesystems(answer: Any) -> list[Obj]:
    """Return the mounted file systems of ``guest-get-fsinfo``."""
    found = []
    for entry in _entries(answer):
        item: Obj = {
            "diskName": _text(entry.get("name")),
            "mountPoint": _text(entry.get("mountpoint")),
            "fileSystemType": _text(entry.get("type")),
            "usedBytes": int(_number(entry.get("used-bytes"))),
            "totalBytes": int(_number(entry.get("total-bytes"))),
        }
        if disks := [
            {"busType": _text(disk.get("bus-type"))} | _filled({"serial": _text(disk.get("serial"))})
            for disk in _entries(entry.get("disk"))
        ]:
            item["disk"] = disks
        found.append(item)
    return found


def interfaces(answer: Any) -> list[Obj]:
    """Return the network cards of ``guest-network-get-interfaces``, but not its loopback."""
    found = []
    for entry in _entries(answer):
        name = _text(entry.get("name"))
        if name == "lo":
            continue
        addresses = [_text(one.get("ip-address")) for one in _entries(entry.get("ip-addresses"))][:MOST_ADDRESSES]
        mac = _text(entry.get("hardware-address")).lower()
        item = _filled({"interfaceName": name, "mac": mac, "ipAddresses": [each for each in addresses if each]})
        if item.get("ipAddresses"):
            item["ipAddress"] = next((each for each in item["ipAddresses"] if ":" not in each), item["ipAddresses"][0])
        found.append(item)
    return found


def agent_info(answer: Any) -> Obj:
    """Return version and commands of ``guest-info``."""
    found = answer if isinstance(answer, dict) else {}
    commands = [
        {"name": _text(entry.get("name")), "enabled": entry.get("enabled") is True}
        for entry in _entries(found.get("supported_commands"), MOST_COMMANDS)
    ]
    return _filled({"guestAgentVersion": _text(found.get("version")), "supportedCommands": commands})


def timezone(answer: Any) -> str:
    """Return the time zone of ``guest-get-timezone``, as KubeVirt writes it."""
    found = answer if isinstance(answer, dict) else {}
    offset = int(_number(found.get("offset")))
    return f"{_text(found.get('zone'))}, {offset}" if found else ""


def hostname(answer: Any) -> str:
    """Return the name of ``guest-get-host-name``."""
    return _text(answer.get("host-name")) if isinstance(answer, dict) else ""


def merged(vmi: Obj, cards: list[Obj], said: list[Obj]) -> list[Obj]:
    """Return a machine's network cards with what the guest calls them, and the guest's further ones.

    The guest's own addresses are of use to nobody where addresses are translated, so there they are left out.
    """
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    translated = {card["name"] for card in devices.get("interfaces") or [] if card.get("masquerade") is not None}
    by_mac = {card["mac"].lower(): card for card in cards if card.get("mac")}
    more = []
    for entry in said:
        card = by_mac.get(entry.get("mac", ""))
        if card is None:
            more.append({**entry, "infoSource": "guest-agent"})
            continue
        hidden = ADDRESSES if card.get("name") in translated else ()
        card |= {key: value for key, value in entry.items() if key not in hidden}
        card["infoSource"] = ", ".join(["domain", "guest-agent", *card.get("infoSource", "").split(", ")[1:2]])
    return cards + more[: max(0, MOST_ENTRIES - len(cards))]


def _entries(value: Any, most: int = MOST_ENTRIES) -> list[Obj]:
    return [entry for entry in value[:most] if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:MOST_TEXT] if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def _filled(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if value}
