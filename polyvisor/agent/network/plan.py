"""Which card of a machine is joined to what in its Pod, as functions from values to values.

As KubeVirt has it: the Pod's network is ``eth0``, a further one ``pod`` and a hash of its name. With masquerade the
guest is alone on a bridge behind the Pod's address; with bridge it takes the Pod's own MAC and IP address, which is
given to it by DHCP. What the Pod's interface had before it lost that is a :class:`Taken`, which the agent keeps. What
isn't obvious: behind the Pod's address a guest has IPv4, IPv6 or both, as the Pod has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network

from polyvisor.agent.errors import AgentError
from polyvisor.agent.network.facts import Device, Facts, Route
from polyvisor.api import Obj
from polyvisor.api.addresses import ipv4_network
from polyvisor.api.names import POD_INTERFACE, pod_interface
from polyvisor.api.reading import devices_of, nested
from polyvisor.machine import Vcpus

DEFAULT_CIDR = "10.0.2.0/24"
DEFAULT_CIDR6 = "fd10:0:2::/120"
BRIDGE_MAC = "02:00:00:00:00:00"
LINK_LOCAL = IPv4Interface("169.254.75.10/32")
"""Where the DHCP server of a bridged card is; the guest never sends to it but to ask for its address."""
_AT_ONCE = {4: "", 6: " nodad"}


@dataclass(frozen=True, slots=True)
class Taken:
    """What an interface of the Pod had before its guest took it over."""

    mac: str
    mtu: int
    addresses: tuple[IPv4Interface, ...] = ()
    routes: tuple[Route, ...] = ()

    def to_obj(self) -> Obj:
        """Return it as JSON."""
        routes = [[route.to, route.gateway, route.device] for route in self.routes]
        return {"mac": self.mac, "mtu": self.mtu, "addresses": [str(a) for a in self.addresses], "routes": routes}

    @classmethod
    def of_obj(cls, obj: Obj) -> Taken:
        """Read it back."""
        addresses = tuple(IPv4Interface(text) for text in obj["addresses"])
        return cls(obj["mac"], obj["mtu"], addresses, tuple(Route(*route) for route in obj["routes"]))


@dataclass(frozen=True, slots=True)
class Options:
    """What a user adds to the answers of the DHCP server."""

    boot_file: str = ""
    tftp_server: str = ""
    ntp_servers: tuple[str, ...] = ()
    private: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One network card and what it is joined to. ``address`` is the guest's, None if the network has none for it."""

    name: str
    translated: bool
    outer: str
    """The Pod's interface."""
    bridge: str
    tap: str
    mac: str
    mtu: int
    queues: int = 1
    multus: bool = False
    address: IPv4Interface | None = None
    gateway: IPv4Address | None = None
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None
    routes: tuple[Route, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    options: Options = field(default_factory=Options)

    @property
    def gateways(self) -> list[IPv4Interface | IPv6Interface]:
        """The addresses that the bridge has as the gateway of a guest behind the Pod's address."""
        both = ((self.address, self.gateway), (self.address6, self.gateway6))
        found = [f"{gateway}/{address.network.prefixlen}" for address, gateway in both if address and gateway]
        return [IPv6Interface(text) if ":" in text else IPv4Interface(text) for text in found]

    @property
    def shown(self) -> bool:
        """Whether the Pod's own address is this card's: others reach the guest by it."""
        return self.outer == POD_INTERFACE


def wanted(vmi: Obj) -> Iterator[tuple[Obj, Obj]]:
    """Give each card that a machine has now, with its network."""
    spec = vmi["spec"]
    networks = {network["name"]: network for network in spec.get("networks") or []}
    for card in devices_of(spec).get("interfaces") or []:
        if card.get("state") != "absent" and card["name"] in networks:
            yield card, networks[card["name"]]


def stable_mac(uuid: str, name: str) -> str:
    """Return the address of a card for which none was chosen: the same whenever the machine is started."""
    digest = hashlib.sha256(f"{uuid}/{name}".encode()).digest()
    return ":".join(["02", *(f"{byte:02x}" for byte in digest[:5])])


def plan(vmi: Obj, uuid: str, facts: Facts, taken: Mapping[str, Taken]) -> list[Card]:
    """Return the cards of a machine; ``taken`` is what was kept, by interface of the Pod, of those taken over before.

    Raises :class:`AgentError` where the Pod lacks an interface.
    """
    return [_card(vmi, card, network, uuid, facts, taken) for card, network in wanted(vmi)]


def _card(vmi: Obj, card: Obj, network: Obj, uuid: str, facts: Facts, taken: Mapping[str, Taken]) -> Card:
    multus = network.get("multus")
    outer = pod_interface(network)
    suffix = outer.removeprefix("pod")
    device = facts.devices.get(outer)
    if device is None:
        raise AgentError(_missing(network, outer))
    options = card.get("dhcpOptions") or {}
    given = card.get("macAddress", "").replace("-", ":").lower()
    translated = card.get("masquerade") is not None
    common = {
        "name": card["name"],
        "translated": translated,
        "outer": outer,
        "bridge": f"k6t-{suffix}",
        "tap": "tap0" if outer == POD_INTERFACE else f"tap{suffix}",
        "queues": _queues(vmi, card),
        "multus": multus is not None,
        "ports": tuple((str(p.get("protocol") or "TCP").lower(), int(p["port"])) for p in card.get("ports") or []),
        "options": Options(
            options.get("bootFileName") or "",
            options.get("tftpServerName") or "",
            tuple(options.get("ntpServers") or ()),
            tuple((int(one["option"]), str(one["value"])) for one in options.get("privateOptions") or []),
        ),
    }
    if translated:
        pod = network.get("pod") or {}
        inside = ipv4_network(pod.get("vmNetworkCIDR") or DEFAULT_CIDR)
        inside6 = IPv6Network(pod.get("vmIPv6NetworkCIDR") or DEFAULT_CIDR6, strict=False)
        only6 = bool(device.addresses6) and not device.addresses
        return Card(
            mac=given or stable_mac(uuid, card["name"]),
            mtu=device.mtu,
            address=None if only6 else IPv4Interface(f"{inside[2]}/{inside.prefixlen}"),
            gateway=None if only6 else inside[1],
            address6=IPv6Interface(f"{inside6[2]}/{inside6.prefixlen}") if device.addresses6 else None,
            gateway6=inside6[1] if device.addresses6 else None,
            **common,
        )
    before = taken.get(outer) or take(device, facts)
    address = next(iter(before.addresses), None)
    gateway = next((IPv4Address(route.gateway) for route in before.routes if route.to == "default"), None)
    routes = tuple(route for route in before.routes if route.to != "default")
    # a further network without addresses has no say over the card's own
    mac = given or (before.mac if address is not None else stable_mac(uuid, card["name"]))
    return Card(mac=mac, mtu=before.mtu, address=address, gateway=gateway, routes=routes, **common)


def take(device: Device, facts: Facts) -> Taken:
    """Return what a guest is to have of an interface."""
    routes = tuple(route for route in facts.routes if route.device == device.name)
    return Taken(device.mac, device.mtu, device.addresses, routes)


def _missing(network: Obj, outer: str) -> str:
    if multus := network.get("multus"):
        return (
            f"the Pod has no interface {outer} for network {network['name']!r}: nothing has joined it to "
            f"{multus['networkName']!r}; is Multus installed, and is there a NetworkAttachmentDefinition of that name? "
            "A Pod that runs is joined by Multus's dynamic networks controller: without it restart the machine"
        )
    return f"the Pod has no interface {outer}; it needs a network of its own, not the node's"


def _queues(vmi: Obj, card: Obj) -> int:
    domain = vmi["spec"].get("domain") or {}
    if not nested(domain, "devices").get("networkInterfaceMultiqueue") or card.get("model") not in (None, "virtio"):
        return 1
    return Vcpus.read(domain).count


def reachable(card: Card, pod_addresses: list[str]) -> list[str]:
    """Return the addresses by which others reach a card; a Pod's address of a kind that a guest lacks leads to none."""
    if card.translated or card.shown:
        has4, has6 = card.address is not None or not card.translated, card.address6 is not None
        return [address for address in pod_addresses if (has6 if ":" in address else has4)] or (
            [str(card.address.ip)] if card.address and not card.translated else []
        )
    return [str(card.address.ip)] if card.address else []


def commands(cards: list[Card], facts: Facts, owner: tuple[int, int] | None) -> list[str]:
    """Return the lines for ``ip -batch`` that bring the devices about; those that are there are left.

    ``owner`` is the user and group whom tap devices belong to; None: the hypervisor makes its own devices.
    """
    lines = []
    for card in cards:
        if card.bridge not in facts.devices:
            lines.append(f"link add name {card.bridge} mtu {card.mtu} type bridge forward_delay 0 stp_state 0")
        if card.translated:
            lines.append(f"link set dev {card.bridge} address {BRIDGE_MAC}")
            # nobody else is on that bridge who could have the address, and nothing answers before the guest is there
            lines += [f"address replace {own} dev {card.bridge}{_AT_ONCE[own.version]}" for own in card.gateways]
        else:
            lines += _hand_over(card, facts)
            if card.address is not None:
                lines.append(f"address replace {LINK_LOCAL} dev {card.bridge}")
        lines.append(f"link set dev {card.bridge} up")
        if owner is not None:
            if card.tap not in facts.devices:
                many = " multi_queue" if card.queues > 1 else ""
                lines.append(f"tuntap add dev {card.tap} mode tap user {owner[0]} group {owner[1]}{many}")
            lines.append(f"link set dev {card.tap} mtu {card.mtu} master {card.bridge} up")
    return lines


def _hand_over(card: Card, facts: Facts) -> Iterator[str]:
    """Put the Pod's interface on the bridge: its address is the guest's now, its MAC one that nobody else has."""
    device = facts.devices[card.outer]
    if device.master == card.bridge:
        return
    yield f"address flush dev {card.outer} scope global"
    yield f"link set dev {card.outer} down"
    yield f"link set dev {card.outer} address {stable_mac(device.mac, card.outer)}"
    yield f"link set dev {card.outer} master {card.bridge}"
    # a node's bridge may send a guest's broadcasts back, and the guest would be looked for outside from then on
    yield f"link set dev {card.outer} type bridge_slave learning off"
    yield f"link set dev {card.outer} up"
