"""Addresses as manifests write them."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def ipv4_network(text: str) -> IPv4Network:
    """Return a network; numbers with zeros before them (``10.10.010.0/24``) are decimal, as in Kubernetes.

    Raises ValueError for what is no network.
    """
    return IPv4Network(_LEADING_ZEROS.sub("", text), strict=False)
