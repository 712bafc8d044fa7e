"""Whose a domain is: the mark in its metadata, which is looked at before anything is done to it.

Where libvirt has no metadata for a hypervisor the domain's description is the mark.

A domain is known by its UUID, but a UUID can be anybody's. So whoever asks for a change says for which installation and
which machine, and is refused where the mark says something else or is not there.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import libvirt

MARK = "http://hypervisor.kubevirt.io/owner/1.0"
PREFIX = "polyvisor"
UNSUPPORTED = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
MAX_TEXT = 4096
"""Characters of a mark; ours have some three hundred."""
Answer = dict[str, Any]


class Refused(Exception):
    """A request that cannot be met; ``code`` is for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def mark_of(domain: Any) -> str:
    """Return the XML of the owner's mark, empty if there is none."""
    try:
        text: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNSUPPORTED:
            return _described(domain)
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_INVALID_ARG):
            return ""
        raise
    return text


def _described(domain: Any) -> str:
    """Return the mark that a domain's description is, empty if it is another text."""
    xml = domain.XMLDesc(0)
    if "<!DOCTYPE" in xml:
        return ""
    try:
        text = ET.fromstring(xml).findtext("description") or ""
        if not text.startswith("<") or "<!" in text:
            return ""
        return text if ET.fromstring(text).tag == f"{{{MARK}}}owner" else ""
    except ET.ParseError:
        return ""


def owner_of(domain: Any) -> dict[str, str]:
    """Return the attributes of the mark, none if there is no mark that can be read."""
    text = mark_of(domain)
    if not text or "<!" in text or len(text) > MAX_TEXT:
        return {}
    try:
        return dict(ET.fromstring(text).attrib)
    except ET.ParseError:
        return {}


def owned(connection: Any, asked: Answer) -> Any:
    """Return the domain that a request names. Raises :class:`Refused` unless its mark names the same owner."""
    domain = find(connection, text_of(asked, "uuid"))
    check(domain, asked)
    return domain


def check(domain: Any, asked: Answer) -> None:
    """Refuse a domain that is not the one of the installation and the machine that a request is for."""
    wanted = text_of(asked, "cluster"), text_of(asked, "machine")
    found = owner_of(domain)
    if (found.get("cluster"), found.get("machine")) != wanted:
        whose = f"machine {found['machine']}" if found.get("machine") else "nobody's"
        raise Refused("foreign", f"domain {domain.name()[:80]} is not this machine's; by its mark it is {whose}")


def find(connection: Any, uuid: str) -> Any:
    """Return a domain. Raises :class:`Refused` with code ``no-domain`` if there is none."""
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise Refused("no-domain", f"there is no domain {uuid} on the host") from None
        raise


def text_of(asked: Answer, name: str) -> str:
    """Return a text that a request must have."""
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise Refused("bad-request", f"{name}: a text is expected")
    return value
