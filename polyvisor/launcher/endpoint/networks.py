"""Networks of libvirt's on the host, with the addresses that their XML names."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

from polyvisor.launcher.endpoint.owned import Answer
from polyvisor.launcher.endpoint.told import root_of, short

MAX_NETS = 64


def about(network: Any) -> Answer:
    """Return name, state, and the IP networks in which guests have their addresses."""
    found = []
    for one in itertools.islice(root_of(network.XMLDesc(0)).iterfind("ip"), MAX_NETS):
        wide = one.get("netmask") or one.get("prefix")
        try:
            found.append(str(ipaddress.ip_network(f"{one.get('address')}/{wide}", strict=False)))
        except ValueError:
            continue
    return {"name": short(network.name()), "active": bool(network.isActive()), "cidrs": found}
