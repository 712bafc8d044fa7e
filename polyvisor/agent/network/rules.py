"""The rules inside a Pod's network namespace, as text for ``nft``. One load replaces them all, or none.

Of a guest behind the Pod's address: all ports lead to it, or, where the manifest declares ports, those alone; what it
sends must bear the address that it was given. Of a guest that has the Pod's address: its DHCP stays inside the Pod.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from polyvisor.agent.network.plan import Card

TABLE = "polyvisor"
PROTOCOLS = ("tcp", "udp", "sctp")


def ruleset(cards: Iterable[Card]) -> str:
    """Return the rules for all cards of a machine."""
    found = list(cards)
    lines = [*_fresh("ip"), *_fresh("bridge")]
    lines += [f"table ip {TABLE} {{", *_translation([card for card in found if card.translated]), "}"]
    lines += [f"table bridge {TABLE} {{", *_bridging([card for card in found if not card.translated]), "}"]
    return "\n".join(lines) + "\n"


def _fresh(family: str) -> tuple[str, str]:
    """Make a table so that it can be removed whether it was there or not."""
    return f"table {family} {TABLE}", f"delete table {family} {TABLE}"


def _translation(cards: list[Card]) -> Iterator[str]:
    yield "chain inward {"
    yield "type nat hook prerouting priority dstnat"
    for card in cards:
        yield from (
            f'iifname "{card.outer}" {what} dnat to {card.address.ip}' for what in _let_in(card) if card.address
        )
    yield "}"
    yield "chain outward {"
    yield "type nat hook postrouting priority srcnat"
    for card in cards:
        if card.address is not None:
            yield f'ip saddr {card.address.ip} oifname "{card.outer}" masquerade'
    yield "}"
    yield "chain through {"
    yield "type filter hook forward priority filter"
    for card in cards:
        if card.address is not None:
            yield f'iifname "{card.bridge}" ip saddr != {card.address.ip} drop'
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
