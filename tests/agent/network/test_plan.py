"""By which addresses others reach a guest."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

import pytest

from polyvisor.agent.network.plan import Card, reachable

BOTH = ["fd00::7", "10.1.0.7"]
INNER = IPv4Interface("10.0.2.2/24")


@pytest.mark.parametrize("translated", [True, False])
def test_a_pods_ipv6_address_does_not_lead_to_its_guest(translated: bool) -> None:
    card = Card("default", translated, "eth0", "k6t-eth0", "tap0", "02:00:00:00:00:01", 1500, address=INNER)
    assert reachable(card, BOTH) == ["10.1.0.7"]
    assert reachable(card, ["fd00::7"]) == ([] if translated else ["10.0.2.2"])
    assert reachable(card, []) == ([] if translated else ["10.0.2.2"])


@pytest.mark.parametrize("four", [INNER, None])
def test_a_guest_is_reached_by_what_it_has(four: IPv4Interface | None) -> None:
    six = IPv6Interface("fd10:0:2::2/120")
    names = ("default", True, "eth0", "k6t-eth0", "tap0", "02:00:00:00:00:01", 1500)
    assert reachable(Card(*names, address=four, address6=six), BOTH) == (BOTH if four else BOTH[:1])


def test_a_further_card_has_its_own_address() -> None:
    card = Card("more", False, "pod1", "k6t-1", "tap1", "02:00:00:00:00:02", 1500, multus=True, address=INNER)
    assert reachable(card, BOTH) == ["10.0.2.2"]
