"""The rules inside a Pod's network namespace, as text for ``nft``. One load replaces them all, or none.

Of a guest behind the Pod's address: all ports lead to it, or, where the manifest declares ports, those alone; what it
sends must bear the address that it was given. Of a guest that has the Pod's address: its DHCP stays inside the Pod.
IPv6 is spoken of only where a guest has it: a kernel without it takes no such table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, IPv6Interface

from polyvisor.agent.network.plan import Card

TABLE = "polyvisor"
PROTOCOLS = ("tcp", "udp", "sctp")


def ruleset(cards: Iterable[Card]) -> str:
    """Return the rules for all cards of a machine."""
    found = list(cards)
    lines = [*_fresh("ip"), *_fresh("bridge")]
    translated = [card for card in found if card.translated]
    lines += [f"table ip {TABLE} {{", *_translation("ip", [(card, card.address) for card in translated]), "}"]
    if any(card.address6 for card in translated):
        inside = _translation("ip6", [(card, card.address6) for card in translated])
        lines += [*_fresh("ip6"), f"table ip6 {TABLE} {{", *inside, "}"]
    lines += [f"table bridge {TABLE} {{", *_bridging([card for card in found if not card.translated]), "}"]
    return "\n".join(lines) + "\n"


def _fresh(family: str) -> tuple[str, str]:
    """Make a table so that it can be removed whether it was there or not."""
    return f"table {family} {TABLE}", f"delete table {family} {TABLE}"


def _translation(family: str, guests: list[tuple[Card, IPv4Interface | IPv6Interface | None]]) -> Iterator[str]:
    having = [(card, address.ip) for card, address in guests if address is not None]
    yield "chain inward {"
    yield "type nat hook prerouting priority dstnat"
    for card, address in having:
        yield from (f'iifname "{card.outer}" {what} dnat to {address}' for what in _let_in(card))
    yield "}"
    yield "chain outward {"
    yield "type nat hook postrouting priority srcnat"
    for card, address in having:
        yield f'{family} saddr {address} oifname "{card.outer}" masquerade'
    yield "}"
    yield "chain through {"
    yield "type filter hook forward priority filter"
    for card, address in having:
        yield f'iifname "{card.bridge}" {family} saddr != {address} drop'
    yield "}"


def _let_in(card: Card) -> Iterator[str]:
    if not card.ports:
        yield f"meta l4proto {{ {', '.join(PROTOCOLS)} }}"
    ports: defaultdict[str, list[int]] = defaultdict(list)
    for protocol, port in card.ports:
        ports[protocol].append(port)
    for protocol in PROTOCOLS:
        if ports[protocol]:
            yield f"{protocol} dport {{ {', '.join(map(str, sorted(ports[protocol])))} }}"


def _bridging(cards: list[Card]) -> Iterator[str]:
    yield "chain through {"
    yield "type filter hook forward priority filter"
    for card in cards:
        if card.address is not None:
            for way in ("iifname", "oifname"):
                yield f'{way} "{card.outer}" ether type ip udp dport {{ 67, 68 }} drop'
    yield "}"
