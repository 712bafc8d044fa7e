"""What is written into the status of a machine on an endpoint, as functions from values to values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from polyvisor.agent.live import status
from polyvisor.agent.live.movable import ON_ENDPOINT
from polyvisor.agent.network.guests import Address, is_local, may_be
from polyvisor.agent.platform.endpoint import rendering
from polyvisor.agent.platform.endpoint.inventory import Domain, HostInfo
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import UNREACHABLE
from polyvisor.api.names import Phase, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.drivers.base import Driver

ENDS = ("shutdown", "destroyed", "crashed")
"""How a domain can have ended that ran; one that failed to start is tried again."""
MAX_ADDRESSES = 32
"""Addresses of an interface that are shown; of what a host tells, so many interfaces and addresses are looked at:"""
MAX_INTERFACES, MAX_TOLD = 256, 256
Network = IPv4Network | IPv6Network


def uuid_of(vmi: Obj) -> str:
    """Return the UUID of a machine's domain: the one that was recorded, else the one that it is to have."""
    known = ((vmi.get("status") or {}).get("hypervisor") or {}).get("domain") or {}
    return str(known.get("uuid") or rendering.uuid_of(vmi))


def interfaces(vmi: Obj) -> list[Obj]:
    """Return the interfaces that a machine asks for."""
    return ((vmi["spec"].get("domain") or {}).get("devices") or {}).get("interfaces") or []


def bound(new: Obj, endpoint: str, domain: Domain) -> None:
    """Record, in place, which domain of which endpoint is the machine's."""
    hypervisor = new.setdefault("hypervisor", {})
    hypervisor |= {"endpoint": endpoint, "domain": {"name": domain.name, "uuid": domain.uuid}}


def running(vmi: Obj, domain: Domain, driver: Driver, found: Obj, host: HostInfo | None, endpoint: str) -> Obj:
    """Return the status of a machine whose domain runs or is paused."""
    hello = {}
    if host is not None:
        hello = {"hypervisorVersion": host.hypervisor_version, "libvirtVersion": host.libvirt_version}
    state = {"state": "paused" if domain.state == "paused" else "running", "reason": ""}
    new = status.running(vmi, state, hello, driver, found, blockers=(ON_ENDPOINT,))
    status.drop_condition(new, VmiCondition.HYPERVISOR_AVAILABLE)
    bound(new, endpoint, domain)
    return new


def addressed(new: Obj, vmi: Obj, endpoint: Obj, told: Any) -> str:
    """Write addresses that the endpoint's mapping allows into the interfaces of a status, in place; return one.

    What a guest or its host says lies outside of the mapping's ``cidrs`` is nobody's address here.
    """
    allowed = _allowed(vmi, endpoint["spec"].get("networks") or [])
    entries = {str(entry.get("mac")).lower(): entry for entry in new.get("interfaces") or []}
    first = ""
    for mac, addresses in _told(told):
        entry = entries.get(mac)
        if entry is None:
            continue
        nets = allowed.get(str(entry.get("name")), [])
        within = (one for one in addresses if any(one in net for net in nets))
        shown = [str(one) for one in itertools.islice(within, MAX_ADDRESSES)]
        if shown:
            entry |= {"ipAddress": shown[0], "ipAddresses": shown}
            first = first or shown[0]
    return first


def of_host(vmi: Obj, endpoint: Obj, told: Any) -> str:
    """Return the address of a machine that its Pod shows, empty if there is none; ``told`` is the host's own word.

    A guest's word would do for its status, but traffic of Services goes where its Pod says.
    """
    networks = endpoint["spec"].get("networks") or []
    return next((str(one) for one in _believed(vmi, networks, told) if may_be(one)), "")


def reachable(vmi: Obj, endpoint: Obj, told: Any) -> str:
    """Return an address of a machine that the mapping says can be reached from here, empty if there is none.

    One of this machine's own, or one that means whoever is next to it, is no guest's, whatever a host says.
    """
    networks = [one for one in endpoint["spec"].get("networks") or [] if one.get("reachable") is True]
    found = (one for one in _believed(vmi, networks, told) if may_be(one) and not is_local(one))
    return next((str(one) for one in found), "")


def _believed(vmi: Obj, networks: list[Obj], told: Any) -> Iterator[Address]:
    """Give the addresses of a machine's interfaces that lie in what these networks may have."""
    allowed = _allowed(vmi, networks)
    names = {str(one.get("mac")).lower(): str(one["name"]) for one in read_status(vmi).get("interfaces") or []}
    for mac, addresses in _told(told):
        nets = allowed.get(names.get(mac, ""), [])
        yield from (address for address in addresses if any(address in net for net in nets))


def _allowed(vmi: Obj, networks: list[Obj]) -> dict[str, list[Network]]:
    """Return the networks in which an interface's addresses are believed, by the interface's name."""
    mapped = {one["name"]: [ip_network(cidr) for cidr in one.get("cidrs") or []] for one in networks}
    namespace = vmi["metadata"]["namespace"]
    wanted = vmi["spec"].get("networks") or []
    return {one["name"]: mapped.get(rendering.network_named(one, namespace), []) for one in wanted}


def _told(told: Any) -> Iterator[tuple[str, list[Address]]]:
    for one in told[:MAX_INTERFACES] if isinstance(told, list) else ():
        if isinstance(one, dict) and isinstance(one.get("mac"), str) and isinstance(one.get("addresses"), list):
            yield one["mac"].lower(), list(_addresses(one["addresses"][:MAX_TOLD]))


def _addresses(told: list[Any]) -> Iterator[Address]:
    """Give what are addresses; a zone is dropped with its address, since it can be any text and means nothing here."""
    for one in told:
        try:
            address = ip_address(one) if isinstance(one, str) and "%" not in one else None
        except ValueError:
            continue
        if address is not None:
            yield address


def ended(vmi: Obj, domain: Domain | None, driver: Driver) -> tuple[Obj, str]:
    """Return the status of a machine whose domain is over or gone, and what to say about it."""
    if domain is None:
        new = copy.deepcopy(vmi.get("status") or {})
        deleted = vmi["metadata"].get("deletionTimestamp")
        status.finish(new, Phase.SUCCEEDED if deleted else Phase.FAILED)
        return new, "The domain of the VirtualMachineInstance is gone from the host."
    return status.ended(vmi, {"state": "shutoff", "reason": domain.ending}, driver)


def away(vmi: Obj, endpoint: str, why: str) -> Obj:
    """Return the status of a machine whose host cannot be reached: how its guest is, is not known."""
    new = copy.deepcopy(vmi.get("status") or {})
    if new.get("phase") in (Phase.SUCCEEDED, Phase.FAILED):
        return new
    message = f"endpoint {endpoint} cannot be reached: {why}; whether the guest runs is not known"
    if new.get("phase") == Phase.RUNNING:
        status.set_condition(new, VmiCondition.READY, "Unknown", UNREACHABLE, message)
    status.set_condition(new, VmiCondition.HYPERVISOR_AVAILABLE, "Unknown", UNREACHABLE, message)
    if vmi["metadata"].get("deletionTimestamp"):
        name = f"{vmi['metadata']['namespace']}/{vmi['metadata']['name']}"
        waits = f"the deletion waits until endpoint {endpoint} is back; if its guest is known not to run, "
        waits += f"`polyvisor endpoint fence {endpoint} {name}` lets it go on"
        status.set_condition(new, VmiCondition.SYNCHRONIZED, "False", UNREACHABLE, waits)
    return new
