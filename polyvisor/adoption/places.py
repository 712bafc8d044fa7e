"""Where disks and interfaces are on the PCI bus: a guest names its interfaces by that, and finds them there again.

Only places that a start can give again are taken over: on a board with PCI Express a root port of the device's own, on
the old board a slot of the one bus, beyond those that the board has to itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from polyvisor.drivers.rules import MAX_BUS, is_q35

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.adoption.draft import Draft

ROOT_PORT = "pcie-root-port"
OLD_BOARD = "pc"
FIRST_SLOT, LAST_SLOT = 3, 31
_NUMBER = re.compile(r"(?:0x)?([0-9a-fA-F]{1,4})")


def pci_address(draft: Draft, device: _Element) -> str:
    """Return a device's place as ``0000:01:00.0``, or an empty text if it has none that can be given again."""
    address = device.find("address[@type='pci']")
    kind = draft.domain.find("os/type")
    if address is None or kind is None or draft.ours:
        return ""
    found = [_NUMBER.fullmatch(address.get(name, "0")) for name in ("domain", "bus", "slot", "function")]
    numbers = [int(one[1], 16) for one in found if one is not None]
    if len(numbers) != len(found) or numbers[0] or numbers[3]:
        return ""
    bus, slot = numbers[1:3]
    machine = kind.get("machine", "")
    if is_q35(machine):
        port = draft.domain.find(f"devices/controller[@type='pci'][@index='{bus}']")
        fits = not slot and 0 < bus < MAX_BUS and port is not None and port.get("model") == ROOT_PORT
    else:
        old = machine == OLD_BOARD or machine.startswith(f"{OLD_BOARD}-i440fx")
        fits = old and not bus and FIRST_SLOT <= slot <= LAST_SLOT
    return f"0000:{bus:02x}:{slot:02x}.0" if fits else ""
