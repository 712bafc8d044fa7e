"""From text to elements: the XML of domains is data of strangers, so it is read with everything switched off.

No entity is expanded, no document type accepted, nothing loaded from anywhere; size, depth and number of elements have
limits. A file holds one ``<domain>``, several one after the other (as ``virsh dumpxml`` prints them in a loop), or
several below one ``<domains>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lxml import etree

from polyvisor.adoption.values import ConversionError
from polyvisor.api import nearest

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.drivers import DriverRegistry
    from polyvisor.drivers.base import Driver

MAX_BYTES = 4 * 1024 * 1024
MAX_DOMAINS = 500
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64
_DECLARATION = re.compile(rb"<\?xml\b[^>]*\?>")
_DOMAIN = re.compile(rb"<domain[\s>]")


def domains_of(text: str | bytes) -> list[_Element]:
    """Return the ``<domain>`` elements of a text, each a document of its own.

    Raises :class:`ConversionError` for what is no XML, not of domains, or larger than the limits.
    """
    data = text.encode() if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        raise ConversionError(f"is larger than {MAX_BYTES >> 20} MiB")
    if not data.strip():
        raise ConversionError("is empty; the XML of a domain is expected, as `virsh dumpxml` prints it")
    root = _parse(data, isinstance(text, str))
    if root.tag == "domains":
        found = [child for child in root if child.tag == "domain"]
        strange = next((child.tag for child in root if child.tag != "domain"), None)
        if strange is not None:
            raise ConversionError(f"<{strange}> is no domain; <domains> holds <domain> elements")
    else:
        found = [root] if root.tag == "domain" else []
    if not found:
        raise ConversionError(
            f"is the XML of a <{etree.QName(root).localname[:64]}>; the XML of a <domain> is expected"
        )
    if len(found) > MAX_DOMAINS:
        raise ConversionError(f"has {len(found)} domains; at most {MAX_DOMAINS} are accepted")
    return [etree.ElementTree(_alone(domain)).getroot() for domain in found]


def driver_of(domain: _Element, drivers: DriverRegistry, name: str = "") -> tuple[Driver, str]:
    """Return a domain's driver and virt type; ``name`` is the driver that the user says.

    Raises :class:`ConversionError` if no driver has domains of that type, or if several do.
    """
    kind, guest = domain.get("type", ""), (domain.findtext("os/type") or "").strip()
    if name:
        driver = drivers.get(name)
        if driver is None:
            near = nearest(name, drivers.names())
            hint = f"; did you mean {near}?" if near else ""
            raise ConversionError(f"no driver has the name {name[:64]!r}; known: {', '.join(drivers.names())}{hint}")
        if virt_type := driver.recognizes(domain) or (kind if kind in driver.virt_types else ""):
            return driver, virt_type
        raise ConversionError(f"a domain of type {kind[:64]!r} with os type {guest[:64]!r} is none of driver {name}")
    found = [(driver, virt_type) for driver in drivers if (virt_type := driver.recognizes(domain))]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(driver.name for driver, _ in found)
        raise ConversionError(f"drivers {names} both have domains of type {kind!r}; name the driver")
    known = sorted({each for driver in drivers for each in driver.virt_types})
    if kind in known:
        guests = sorted({each for d in drivers if kind in d.virt_types for each in d.os_types})
        accepted = ", ".join(guests)
        raise ConversionError(f"domains of type {kind!r} have os type {accepted}; this one has {guest[:64]!r}")
    raise ConversionError(f"no driver has domains of type {kind[:64]!r}; known types: {', '.join(known)}")


def path_of(element: _Element) -> str:
    """Return an element's path below its domain, such as ``devices/disk[2]``."""
    return str(element.getroottree().getpath(element)).removeprefix("/domain").removeprefix("/")


def _parse(data: bytes, decoded: bool) -> _Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8" if decoded else None,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        if len(_DOMAIN.findall(data)) > 1 and b"<domains" not in data:
            return _parse(b"<domains>" + _DECLARATION.sub(b"", data) + b"</domains>", decoded)
        raise ConversionError(f"is not valid XML: {error.msg}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise ConversionError("has a document type (<!DOCTYPE>), which is not accepted")
    for number, depth in enumerate(_depths(root), 1):
        if number > MAX_ELEMENTS:
            raise ConversionError(f"has more than {MAX_ELEMENTS} elements")
        if depth > MAX_DEPTH:
            raise ConversionError(f"has elements nested deeper than {MAX_DEPTH}")
    return root


def _depths(root: _Element) -> Iterator[int]:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            depth += 1
            yield depth
        else:
            depth -= 1


def _alone(domain: _Element) -> _Element:
    parent = domain.getparent()
    if parent is not None:
        parent.remove(domain)
    domain.tail = None
    return domain
