"""What there is in a network namespace, as ``ip`` tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from polyvisor.agent.network.namespace import Namespace, NetworkError


@dataclass(frozen=True, slots=True)
class Device:
    """A network device and the addresses that it has; of IPv6 those alone by which it is reached from elsewhere."""

    name: str
    mac: str
    mtu: int
    up: bool
    master: str = ""
    addresses: tuple[IPv4Interface, ...] = ()
    addresses6: tuple[IPv6Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route: ``default`` or a network, the gateway (empty: none is needed), and the device."""

    to: str
    gateway: str
    device: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All devices by name, and all routes that were not made by the kernel itself."""

    devices: Mapping[str, Device]
    routes: tuple[Route, ...] = ()


def look(namespace: Namespace) -> Facts:
    """Ask what there is. Blocking."""
    try:
        devices = json.loads(namespace.run(["ip", "-json", "address", "show"]) or "[]")
        routes = json.loads(namespace.run(["ip", "-json", "-4", "route", "show"]) or "[]")
        found = [_device(entry) for entry in devices if entry]
        return Facts(
            {device.name: device for device in found},
            tuple(
                Route(str(entry["dst"]), str(entry.get("gateway") or ""), str(entry.get("dev") or ""))
                for entry in routes
                if entry.get("protocol") != "kernel"
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NetworkError(f"ip's answer cannot be read: {error!r}") from None


def _device(entry: dict[str, object]) -> Device:
    given = entry.get("addr_info")
    infos = given if isinstance(given, list) else []
    found = [(info, f"{info['local']}/{info['prefixlen']}") for info in infos]
    addresses = tuple(IPv4Interface(text) for info, text in found if info.get("family") == "inet")
    addresses6 = tuple(
        IPv6Interface(text) for info, text in found if (info.get("family"), info.get("scope")) == ("inet6", "global")
    )
    flags = entry.get("flags")
    return Device(
        str(entry["ifname"]),
        str(entry.get("address") or "").lower(),
        int(str(entry["mtu"])),
        isinstance(flags, list) and "UP" in flags,
        str(entry.get("master") or ""),
        addresses,
        addresses6,
    )
