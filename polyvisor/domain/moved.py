"""The XML of a domain that moves to another node: what it is comes from the source, where its things are from here.

The guest must find the same devices at the same places, so the running domain's XML, with all that libvirt added to it,
is what is started. Files, sockets and network devices are this node's own: they are taken from the XML that was
rendered here for the same machine, and are matched by the devices' names, else by their order.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from lxml import etree

from polyvisor.domain.identity import domain_uuid

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstance
    from polyvisor.domain.dialect import Dialect

MAX_XML = 1024 * 1024
PLACES = {
    "disk": ("source",),
    "interface": ("source", "target"),
    "channel": ("source",),
    "redirdev": ("source",),
    "filesystem": ("source",),
    "graphics": ("listen",),
}
"""Kind of device -> the elements that say where its other end is on this node."""
BOOT = ("os/kernel", "os/initrd")
OF_THE_SOURCE = ("console", "serial")
"""Devices whose other end libvirt makes anew."""


class NotAlike(Exception):
    """The domain at the source is not what this node would make of the machine; the text says what differs."""


def moved(running: str, rendered: str, vmi: VirtualMachineInstance, driver: Dialect) -> str:
    """Return what is started here: the ``running`` domain's XML with the places of the one ``rendered`` here.

    ``running`` comes from a launcher and is not trusted: it is bounded, parsed without entities, and describes the same
    machine with the same devices, or :class:`NotAlike` is raised.
    """
    if len(running) > MAX_XML:
        raise NotAlike(f"the running domain's XML has more than {MAX_XML} bytes")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        live = etree.fromstring(running.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise NotAlike(f"the running domain's XML cannot be read: {error}") from None
    here = etree.fromstring(rendered.encode())
    uuid = (live.findtext("uuid") or "").strip()
    if uuid != domain_uuid(vmi):
        raise NotAlike(f"the running domain has uuid {uuid!r}, and the machine {domain_uuid(vmi)!r}")
    live.attrib.pop("id", "")
    for kind, parts in PLACES.items():
        _matched(live, here, kind, parts)
    for path in BOOT:
        there, wanted = live.find(path), here.find(path)
        if (there is None) != (wanted is None):
            raise NotAlike(f"{path}: the running domain and this node's differ")
        if there is not None and wanted is not None:
            there.text = wanted.text
    for kind in OF_THE_SOURCE:
        for device in live.iterfind(f"devices/{kind}[@type='pty']"):
            device.attrib.pop("tty", "")
            for source in device.findall("source"):
                device.remove(source)
    driver.receive(live)
    return etree.tostring(live, encoding="unicode")


def _matched(live: _Element, here: _Element, kind: str, parts: tuple[str, ...]) -> None:
    running, rendered = live.findall(f"devices/{kind}"), here.findall(f"devices/{kind}")
    by_name = {name: device for device in rendered if (name := _name(device))}
    if len(running) != len(rendered):
        raise NotAlike(f"the running domain has {len(running)} of {kind}, and this node's {len(rendered)}")
    for number, device in enumerate(running):
        other = by_name.get(_name(device)) if _name(device) in by_name else rendered[number]
        if other is None or device.get("type") != other.get("type"):
            raise NotAlike(f"{kind} {_name(device) or number}: the running domain and this node's differ")
        for part in parts:
            _replace(device, other, kind, part)


def _replace(device: _Element, other: _Element, kind: str, part: str) -> None:
    there, wanted = device.find(part), other.find(part)
    if kind == "interface" and part == "target":
        if there is not None:
            device.remove(there)
        if wanted is not None:
            device.append(copy.deepcopy(wanted))
        return
    if there is None or wanted is None:
        return
    device.replace(there, copy.deepcopy(wanted))
    if kind == "graphics":
        for name in ("socket", "port", "autoport", "listen"):
            device.attrib.pop(name, "")


def _name(device: _Element) -> str:
    alias = device.find("alias")
    name = "" if alias is None else str(alias.get("name"))
    return name if name.startswith("ua-") else ""
