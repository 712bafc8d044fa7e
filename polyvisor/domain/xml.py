"""Small helpers around lxml: elements that are there only where there is something to say.

lxml itself is not imported, as an element makes its own kind: rules that stand beside XML can be had without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

Value = str | int | None


def add(parent: _Element, tag: str, text: Value = None, **attributes: Value) -> _Element:
    """Append a child; attributes that are None are left out, and a trailing underscore in a name is dropped."""
    child = parent.makeelement(tag)
    parent.append(child)
    for name, value in attributes.items():
        if value is not None:
            child.set(name.rstrip("_"), clean(str(value)))
    if text is not None:
        child.text = clean(str(text))
    return child


def add_pci_address(device: _Element, address: str | None) -> None:
    """Append a device's place on the PCI bus, given as ``0000:81:00.0``, or nothing if it is left open."""
    if address:
        domain, bus, rest = address.split(":")
        slot, function = rest.split(".")
        numbers = {"domain": domain, "bus": bus, "slot": slot, "function": function}
        place = {name: f"0x{number}" for name, number in numbers.items()}
        add(device, "address", type="pci", **place)


def clean(text: str) -> str:
    """Take out the control characters that XML cannot carry at all, not even escaped."""
    return "".join(char for char in text if char in "\t\n\r" or (ord(char) >= 0x20 and not _foreign(ord(char))))


def _foreign(code: int) -> bool:
    return 0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF)


def on_off(value: bool | None, default: bool = True) -> str:
    """Return libvirt's ``on`` or ``off``."""
    return "on" if (default if value is None else value) else "off"


def yes_no(value: bool) -> str:
    """Return libvirt's ``yes`` or ``no``."""
    return "yes" if value else "no"
