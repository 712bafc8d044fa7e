"""The domain XML of a machine on an endpoint: the same blocks and the same driver as on a node, other places.

Disks are places on the host, networks are the host's, and nothing of this machine is named. The domain has the mark of
its owner from the start, so that there is no moment in which it is nobody's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint import mark
from polyvisor.api import Obj, VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext, HostNetwork, HostPath, domain_name, domain_uuid, render
from polyvisor.drivers.base import Driver

POD_NETWORK = "pod"
SUFFIX = 8
"""Characters of the uid behind a name that is taken."""


@dataclass(frozen=True)
class Places:
    """What a machine's domain names on the host: disks by volume, networks by interface, a kernel."""

    disks: Mapping[str, DiskSource] = field(default_factory=dict)
    networks: Mapping[str, HostNetwork] = field(default_factory=dict)
    architecture: str = "x86_64"
    kernel: HostPath | None = None
    initrd: HostPath | None = None


def domain_xml(
    vmi: Obj, driver: Driver, places: Places, cluster: str, *, suffix: bool = False, adopted: str = ""
) -> str:
    """Render a machine's domain; with ``suffix`` its name ends in a part of the machine's uid.

    ``adopted`` is the name of a domain that was there before, which it keeps.
    """
    chosen = ((vmi.get("status") or {}).get("hypervisor") or {}).get("virtType")
    if chosen not in driver.virt_types:
        raise AgentError(f"the status names no virt type of {driver.title}, but {chosen!r}", retry=False)
    context = DomainContext(
        virt_type=chosen,
        architecture=places.architecture,
        disks=places.disks,
        cards=places.networks,
        kernel=places.kernel,
        initrd=places.initrd,
        screen_at_host=driver.host_screen,
        agent_at_host=bool(driver.launcher(Path(os.devnull)).agent),
    )
    root = etree.fromstring(render(VirtualMachineInstance.model_validate(vmi), driver, context))
    mark.add(root, mark.element(cluster, vmi, adopted=bool(adopted)), metadata=driver.keeps_metadata)
    name = root.find("name")
    if adopted and name is not None:
        name.text = adopted
    elif suffix and name is not None:
        name.text = f"{name.text}-{vmi['metadata']['uid'][:SUFFIX]}"
    etree.indent(root)
    return etree.tostring(root, encoding="unicode")


def name_of(vmi: Obj) -> str:
    """Return the name that a machine's domain has where nobody else has it."""
    return domain_name(VirtualMachineInstance.model_validate(vmi))


def uuid_of(vmi: Obj) -> str:
    """Return the UUID of a machine's domain."""
    return domain_uuid(VirtualMachineInstance.model_validate(vmi))


def networks_of(vmi: Obj, endpoint: Obj, known: Collection[str]) -> dict[str, HostNetwork]:
    """Return what each of a machine's interfaces is joined to, as the endpoint maps the machine's networks.

    ``known`` are the networks that libvirt has on the host; a name that is none of them is a bridge's. An interface
    keeps its MAC address as long as the machine keeps its UUID. Raises :class:`AgentError` for what is not mapped.
    """
    mapped = {one["name"]: one["network"] for one in endpoint["spec"].get("networks") or []}
    wanted = {one["name"]: one for one in vmi["spec"].get("networks") or []}
    found = {}
    for interface in ((vmi["spec"].get("domain") or {}).get("devices") or {}).get("interfaces") or []:
        name = interface["name"]
        network = network_named(wanted.get(name) or {}, vmi["metadata"]["namespace"])
        if network not in mapped:
            where = f"endpoint {endpoint['metadata']['name']} maps no network {network!r}"
            raise AgentError(f"network {name}: {where}; an administrator adds it to spec.networks of the endpoint")
        place = mapped[network]
        mac = str(interface.get("macAddress") or _mac(uuid_of(vmi), name)).replace("-", ":").lower()
        found[name] = HostNetwork(place, mac, bridge=place not in known)
    return found


def network_named(network: Obj, namespace: str) -> str:
    """Return how an endpoint's mapping calls a machine's network."""
    multus = (network.get("multus") or {}).get("networkName")
    if not multus:
        return POD_NETWORK
    return multus if "/" in multus else f"{namespace}/{multus}"


def _mac(uuid: str, interface: str) -> str:
    """Return an address of the machine's own, which is administered locally."""
    digest = hashlib.sha256(f"{uuid}/{interface}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
