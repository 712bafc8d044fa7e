"""What libvirt says of guests' CPUs on this host, for the node agent's probe.

libvirt tells a host's CPU as a model and what differs from it; which features that makes together it works out only
when asked for a baseline of that one CPU.
"""

from __future__ import annotations

import re
from typing import Any

import libvirt

HOST_MODEL = re.compile(r"<mode name='host-model'[^>]*supported='yes'[^>]*>(.*?)</mode>", re.DOTALL)


def capabilities(connection: Any, virt_type: str) -> dict[str, str]:
    """Return libvirt's XML: of the host, of domains of a virt type, and of the CPU with all its features."""
    domain = connection.getDomainCapabilities(None, None, None, virt_type)
    found = HOST_MODEL.search(domain)
    cpu = ""
    if found is not None:
        every = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
        cpus = [f"<cpu>{found[1]}</cpu>"]
        cpu = connection.baselineHypervisorCPU(None, None, None, virt_type, cpus, every)
    return {"host": connection.getCapabilities(), "domain": domain, "cpu": cpu}
