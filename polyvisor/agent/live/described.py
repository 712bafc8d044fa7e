"""What the running domain's own XML tells of a machine's volumes, network cards and board, for its status.

libvirt fills in what a manifest left open (addresses, names of devices), so it is read back and not worked out a second
time. Devices are found by their alias, which the domain converter made from the name in the manifest; folders, which
have none, by their place in the guest; network cards, where a driver of libvirt's drops aliases, by their MAC address.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from lxml import etree
from lxml.etree import _Element

from polyvisor.agent.link.connection import LauncherError
from polyvisor.api import Obj
from polyvisor.api.names import ABSENT
from polyvisor.api.reading import nested, read_status
from polyvisor.api.volumes import claim_of
from polyvisor.domain import reading
from polyvisor.domain.devices import CARD_ALIAS

ALIASES = (CARD_ALIAS, "ua-")
"""What aliases begin with, before the name that the manifest gives: of network cards, and of disks."""
FOLDERS = "/mnt/"
MAX_VOLUMES = 256
MAX_DEVICES = 512
"""Devices of one kind that are looked at: a domain's XML is what a launcher says."""
MAX_DIGITS = 5
MAX_WORD = 100
"""Characters of a name or an address that are kept."""


def described(vmi: Obj) -> bool:
    """Whether the status tells all of this already."""
    status = vmi.get("status") or {}
    volumes = {entry.get("name") for entry in status.get("volumeStatus") or []}
    cards = {entry.get("name") for entry in status.get("interfaces") or [] if entry.get("mac")}
    wanted = (vmi["spec"].get("volumes") or [])[:MAX_VOLUMES]
    return volumes >= {volume["name"] for volume in wanted} and cards >= {card["name"] for card in _cards(vmi)}


def describe(vmi: Obj, xml: str, root_volume: str, claims: Mapping[str, Obj], sizes: Mapping[str, int]) -> Obj:
    """Return ``volumeStatus``, ``interfaces`` and ``machine`` as far as the domain shows them.

    The domain's XML is what a launcher says, so no file that it names is opened; ``sizes`` are the agent's own.
    """
    domain = parsed(xml)
    targets = _disks(domain) | _folders(domain, root_volume)
    found: Obj = {"volumeStatus": [], "interfaces": _interfaces(vmi, domain)}
    for volume in (vmi["spec"].get("volumes") or [])[:MAX_VOLUMES]:
        name = volume["name"]
        entry: Obj = {"name": name, "target": targets.get(name, "")}
        if name in sizes:
            entry["size"] = sizes[name]
        if claim := claim_of(volume):
            entry["persistentVolumeClaimInfo"] = _claim(claim, claims.get(claim) or {})
        found["volumeStatus"].append(entry)
    kind = domain.find("os/type")
    if kind is not None and (machine := kind.get("machine")):
        found["machine"] = {"type": machine[:MAX_WORD]}
    return found


def disks(xml: str) -> dict[str, str]:
    """Return the disks of a domain that are a machine's volumes: the volume's name -> the guest's."""
    return {name: target for name, target in _disks(parsed(xml)).items() if name}


def units(xml: str) -> set[int]:
    """Return the units of a domain's first SCSI controller that its disks have."""
    found = set()
    for disk in _devices(parsed(xml), "disk"):
        target, address = disk.find("target"), disk.find("address[@type='drive'][@controller='0']")
        if target is not None and target.get("bus") == "scsi" and address is not None:
            unit = str(address.get("unit"))
            found.add(int(unit) if unit.isdecimal() and len(unit) <= MAX_DIGITS else 0)
    return found


def sources(xml: str) -> set[str]:
    """Return the files and devices that a domain's disks are."""
    found = _devices(parsed(xml), "disk/source")
    return {str(source.get("file") or source.get("dev")) for source in found} - {"None"}


def cards(xml: str, macs: Mapping[str, str] | None = None) -> dict[str, _Element]:
    """Return the network cards of a domain that are a machine's, by the manifest's names.

    ``macs`` are the names by MAC address, for domains without aliases.
    """
    domain = parsed(xml)
    nameless = {mac_of(card): card for card in _devices(domain, "interface") if not alias_of(card)}
    found = {name: nameless[mac] for mac, name in (macs or {}).items() if mac in nameless}
    return found | _by_name(domain)


def macs(xml: str) -> set[str]:
    """Return the addresses of all cards of a domain."""
    return {mac_of(card) for card in _devices(parsed(xml), "interface")}


def text(element: _Element) -> str:
    """Return a domain's device as XML."""
    return etree.tostring(element, encoding="unicode", with_tail=False)


def mac_of(element: _Element) -> str:
    """Return the address of a domain's card."""
    mac = element.find("mac")
    return str(mac.get("address") or "").lower()[:MAX_WORD] if mac is not None else ""


def alias_of(element: _Element) -> str:
    """Return a device's alias of ours, empty if its driver dropped it."""
    alias = element.find("alias")
    text = str(alias.get("name") or "") if alias is not None else ""
    return text if text.startswith(ALIASES) else ""


def link_state(card: Obj) -> str:
    """Return the state that a manifest wants for a card's link, as the status says it."""
    return "down" if card.get("state") == "down" else "up"


def element_state(element: _Element) -> str:
    """Return the state of a card's link in a domain."""
    link = element.find("link")
    return str(link.get("state") or "up")[:MAX_WORD] if link is not None else "up"


def switched(element: _Element, state: str) -> str:
    """Return a domain's card with its link in another state."""
    link = element.find("link")
    if link is None:
        link = etree.SubElement(element, "link")
    link.set("state", state)
    return text(element)


def parsed(xml: str) -> _Element:
    """Return a domain out of a launcher's hands: nothing that its XML names is opened, and no entity is expanded."""
    try:
        return reading.parsed(xml)
    except ValueError as error:
        raise LauncherError(f"the launcher describes its domain with XML that cannot be used: {error}") from None


def _devices(domain: _Element, kind: str) -> Iterator[_Element]:
    return itertools.islice(domain.iterfind(f"devices/{kind}"), MAX_DEVICES)


def _by_name(domain: _Element) -> dict[str, _Element]:
    aliases = (
        (card, str(alias.get("name"))) for card in _devices(domain, "interface") for alias in card.iterfind("alias")
    )
    return {name.removeprefix(CARD_ALIAS): card for card, name in aliases if name.startswith(CARD_ALIAS)}


def _cards(vmi: Obj) -> list[Obj]:
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    return [card for card in devices.get("interfaces") or [] if card.get("state") != ABSENT]


def _name(element: _Element) -> str:
    alias = element.find("alias")
    text = str(alias.get("name") or "") if alias is not None else ""
    return next((text.removeprefix(start) for start in ALIASES if text.startswith(start)), text)


def _disks(domain: _Element) -> dict[str, str]:
    return {
        _name(disk)[:MAX_WORD]: str(target.get("dev") or "")[:MAX_WORD]
        for disk in _devices(domain, "disk")
        if (target := disk.find("target")) is not None
    }


def _folders(domain: _Element, root_volume: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for filesystem in _devices(domain, "filesystem/target"):
        place = str(filesystem.get("dir") or "")[:MAX_WORD]
        name = root_volume if place == "/" else place.removeprefix(FOLDERS)
        found[name] = place
    return found


def _interfaces(vmi: Obj, domain: _Element) -> list[Obj]:
    found = _by_name(domain)
    return [
        {"name": card["name"], "mac": str(mac.get("address"))[:MAX_WORD], "linkState": element_state(element)}
        for card in _cards(vmi)
        if (element := found.get(card["name"])) is not None and (mac := element.find("mac")) is not None
    ]


def _claim(name: str, claim: Obj) -> Obj:
    spec = claim.get("spec") or {}
    info: Obj = {"claimName": name, "accessModes": spec.get("accessModes"), "volumeMode": spec.get("volumeMode")}
    info["requests"] = nested(spec, "resources").get("requests")
    info["capacity"] = read_status(claim).get("capacity") or info["requests"]
    return {key: value for key, value in info.items() if value}
