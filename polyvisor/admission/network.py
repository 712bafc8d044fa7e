"""Rules for networks and the interfaces that join them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Network

from polyvisor.admission.values import Findings, items, listed, mapping, number, text, texts
from polyvisor.api import Obj
from polyvisor.api.addresses import ipv4_network
from polyvisor.api.metadata import dns_label_error

MAX_INTERFACES = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAC = re.compile(r"([0-9a-fA-F]{2})([:-][0-9a-fA-F]{2}){5}")
BINDINGS = ("masquerade", "bridge", "passtBinding", "sriov")
"""Those that the API has; which of them a driver can do, its table says."""
SOURCES = ("pod", "multus")
PRIVATE_OPTIONS = range(224, 255)
_NAD = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_OPTION = re.compile(r"[A-Za-z0-9 !#$%&'()*+./:;<=>?@^_`{|}~\[\]-]{1,255}")


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
            _cidr(text(mapping(network, "pod").get("vmNetworkCIDR")), f"{where}.pod.vmNetworkCIDR", found)
            _cidr6(text(mapping(network, "pod").get("vmIPv6NetworkCIDR")), f"{where}.pod.vmIPv6NetworkCIDR", found)
        multus = mapping(network, "multus").get("networkName")
        if network.get("pod") is not None and network.get("multus") is not None:
            found.add(where, "pod and multus exclude each other; give one")
        elif isinstance(multus, str) and not _NAD.fullmatch(multus):
            message = f"{multus[:80]!r} is no NetworkAttachmentDefinition, written NAME or NAMESPACE/NAME"
            found.add(f"{where}.multus.networkName", message)
        if network.get("pod") is None and not any(network.get(key) is not None for key in network if key != "name"):
            found.required(where, f"a network is wanted, one of {', '.join(SOURCES)}")
    for where in pods[1:]:
        found.duplicate(f"{where}.pod", f"a machine has one pod network; the first is {pods[0]}")
    macs: dict[str, str] = {}
    for name, (where, interface) in interfaces.items():
        if name not in networks:
            names = listed(networks)
            found.add(f"{where}.name", f"no network has the name {name!r}; networks: {names}")
        _interface(interface, where, found)
        network = networks.get(name, ("", {}))[1]
        if interface.get("masquerade") is not None and network.get("multus") and network.get("pod") is None:
            message = "addresses are translated on the Pod's network alone; a further network takes bridge: {}"
            found.add(f"{where}.masquerade", message, "FieldValueNotSupported")
        _dhcp(mapping(interface, "dhcpOptions"), f"{where}.dhcpOptions", found)
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


def _cidr(given: str, path: str, found: Findings) -> None:
    if not given:
        return
    try:
        network = ipv4_network(given)
    except ValueError:
        found.add(path, f"{given[:40]!r} is no IPv4 network such as 10.0.2.0/24")
        return
    if network.prefixlen > 30:
        found.add(path, f"{given} has no room for a guest and its gateway; a prefix of at most 30 is accepted")


def _cidr6(given: str, path: str, found: Findings) -> None:
    if not given:
        return
    try:
        network = IPv6Network(given, strict=False)
    except ValueError:
        found.add(path, f"{given[:60]!r} is no IPv6 network such as fd10:0:2::/120")
        return
    if not 64 <= network.prefixlen <= 126:
        found.add(path, f"found the prefix {network.prefixlen}; a prefix of 64 to 126 is accepted")
    elif network.is_link_local or network.is_multicast or network.is_loopback:
        found.add(path, f"{given[:60]} is no network that is routed; fd10:0:2::/120 is one such")


def _dhcp(options: Obj, path: str, found: Findings) -> None:
    for name in ("bootFileName", "tftpServerName"):
        _option(text(options.get(name)), f"{path}.{name}", found)
    for index, server in enumerate(texts(options.get("ntpServers"))):
        try:
            IPv4Address(server)
        except ValueError:
            found.add(f"{path}.ntpServers[{index}]", f"{server[:80]!r} is no IPv4 address")
    seen: dict[int, str] = {}
    for where, option in items(options.get("privateOptions"), f"{path}.privateOptions"):
        code = number(option.get("option"))
        if code is not None and code not in PRIVATE_OPTIONS:
            found.add(f"{where}.option", f"found {code}; private options are 224 to 254")
        elif code is not None and seen.setdefault(code, where) != where:
            found.duplicate(f"{where}.option", f"{code} is {seen[code]} already")
        _option(text(option.get("value")), f"{where}.value", found)


def _option(value: str, path: str, found: Findings) -> None:
    if value and not _OPTION.fullmatch(value):
        message = "a DHCP option is at most 255 printable ASCII characters without quotes, commas and backslashes"
        found.add(path, message)


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
