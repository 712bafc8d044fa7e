"""Rules for networks and the interfaces that join them."""

from __future__ import annotations

import re

from polyvisor.admission.values import Findings, items, mapping, number, text
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_label_error

MAX_INTERFACES = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAC = re.compile(r"([0-9a-fA-F]{2})([:-][0-9a-fA-F]{2}){5}")
BINDINGS = ("masquerade", "bridge", "passtBinding", "sriov")
"""Those that the API has; which of them a driver can do, its table says."""
SOURCES = ("pod",)


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check ``networks`` and ``interfaces`` of an instance's spec, and that they belong together."""
    interfaces_path = f"{path}.domain.devices.interfaces"
    networks = _named(spec.get("networks"), f"{path}.networks", found)
    interfaces = _named(mapping(spec, "domain", "devices").get("interfaces"), interfaces_path, found)
    if len(interfaces) > MAX_INTERFACES:
        found.add(interfaces_path, f"has {len(interfaces)} interfaces; at most {MAX_INTERFACES} are accepted")
    pods = []
    for name, (where, network) in networks.items():
        if name not in interfaces:
            found.add(f"{where}.name", f"no interface has the name {name!r}; add one, or leave the network out")
        if network.get("pod") is not None:
            pods.append(where)
        elif not any(network.get(key) is not None for key in network if key != "name"):
            found.required(where, f"a network is wanted, one of {', '.join(SOURCES)}")
    for where in pods[1:]:
        found.duplicate(f"{where}.pod", f"a machine has one pod network; the first is {pods[0]}")
    macs: dict[str, str] = {}
    for name, (where, interface) in interfaces.items():
        if name not in networks:
            names = ", ".join(sorted(networks)) or "none"
            found.add(f"{where}.name", f"no network has the name {name!r}; networks: {names}")
        _interface(interface, where, found)
        mac = text(interface.get("macAddress")).lower().replace("-", ":")
        if mac and macs.setdefault(mac, where) != where:
            found.duplicate(f"{where}.macAddress", f"{mac} is the address of {macs[mac]} already")


def _named(value: object, path: str, found: Findings) -> dict[str, tuple[str, Obj]]:
    by_name: dict[str, tuple[str, Obj]] = {}
    for where, item in items(value, path):
        name = item.get("name")
        if not isinstance(name, str):
            continue
        if not _NAME.fullmatch(name):
            message = f"{name[:80]!r} is no name: letters, digits, '-' and '_', at most 63"
            found.add(f"{where}.name", message)
        elif name in by_name:
            found.duplicate(f"{where}.name", f"{name!r} is the name of {by_name[name][0]} already")
        by_name.setdefault(name, (where, item))
    return by_name


def _interface(interface: Obj, path: str, found: Findings) -> None:
    given = [binding for binding in BINDINGS if interface.get(binding) is not None]
    if not given:
        found.required(path, f"a binding is wanted, one of: {', '.join(f'{b}: {{}}' for b in BINDINGS)}")
    elif len(given) > 1:
        found.add(path, f"{' and '.join(given)} exclude each other; give one")
    mac = text(interface.get("macAddress"))
    if mac and not _MAC.fullmatch(mac):
        found.add(f"{path}.macAddress", f"{mac[:40]!r} is no MAC address such as 02:00:00:00:00:01")
    elif mac and int(mac[:2], 16) & 1:
        found.add(f"{path}.macAddress", f"{mac} is a multicast address; the first byte must be even")
    elif mac and not int(re.sub("[:-]", "", mac), 16):
        found.add(f"{path}.macAddress", "the address of all zeros cannot be used")
    order = number(interface.get("bootOrder"))
    if order is not None and order < 1:
        found.add(f"{path}.bootOrder", f"found {order}; boot order starts at 1")
    ports: dict[tuple[int, str], str] = {}
    names: dict[str, str] = {}
    for where, port in items(interface.get("ports"), f"{path}.ports"):
        value = number(port.get("port"))
        if value is not None and not 1 <= value <= 65535:
            found.add(f"{where}.port", f"found {value}; 1 to 65535 are accepted")
        elif value is not None:
            key = (value, text(port.get("protocol")) or "TCP")
            if ports.setdefault(key, where) != where:
                found.duplicate(where, f"{key[1]} port {value} is {ports[key]} already")
        name = text(port.get("name"))
        if name and (error := dns_label_error(name)):
            found.add(f"{where}.name", error)
        elif name and names.setdefault(name, where) != where:
            found.duplicate(f"{where}.name", f"{name!r} is the name of {names[name]} already")
