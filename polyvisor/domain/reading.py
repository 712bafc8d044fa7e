"""XML out of others' hands: a launcher's, a host's, a hypervisor's own.

Nothing that it names is opened, and it has no document type: entities in attributes are expanded whatever a parser is
told, and a short text with entities can stand for gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_CHARACTERS = 4 * 1024 * 1024
"""As much as libvirt carries in one text."""


def parsed(text: str) -> _Element:
    """Return the root element of a text. Raises ValueError for what is no XML, or more than plain XML."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS} characters")
    if "<!DOCTYPE" in text:
        raise ValueError("it has a document type")
    try:
        return etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise ValueError(f"it cannot be read: {error}") from None
