"""Networks of libvirt's on the host, with the addresses that their XML names."""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from typing import Any

from polyvisor.launcher.endpoint.owned import Answer


def about(network: Any) -> Answer:
    """Return name, state, and the IP networks in which guests have their addresses."""
    found = []
    for one in ET.fromstring(network.XMLDesc(0)).iterfind("ip"):
        wide = one.get("netmask") or one.get("prefix")
        try:
            found.append(str(ipaddress.ip_network(f"{one.get('address')}/{wide}", strict=False)))
        except ValueError:
            continue
    return {"name": network.name(), "active": bool(network.isActive()), "cidrs": found}
