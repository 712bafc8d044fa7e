"""To which addresses a guest may be reached: never those that mean the node itself, or whatever is next to it."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


def may_be(address: Address) -> bool:
    """Whether an address may be a guest's: cards' networks are chosen by users, and these addresses mean others."""
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def is_local(address: Address) -> bool:
    """Whether an address is one of this node's own."""
    with from_node(socket.SOCK_DGRAM, address) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
        return True


def from_node(kind: socket.SocketKind, address: Address) -> socket.socket:
    """Return a new socket of the node's own network for that kind of address."""
    return socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, kind)
