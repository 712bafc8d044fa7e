"""User and group ids of a node for guests whose users are users of the node: a range for each machine.

The ranges lie where neither distributions, nor systemd (<https://systemd.io/UIDS-GIDS/>), nor usual entries of
``/etc/subuid`` have ids: from 1,879,048,192 to 2,147,352,575. A guest sees its range as ids from 0 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.domain.xml import add

if TYPE_CHECKING:
    from lxml.etree import _Element

EACH = 65536
"""How many ids a machine has."""
BEGIN, END = 0x70000000, 0x7FFE0000
TRIAL = BEGIN
"""The range of what is only tried: a node's probe, a domain that no agent starts."""
FIRST = range(BEGIN + EACH, END, EACH)
"""The first ids of the ranges that are given to machines."""


def add_ids(domain: _Element, first: int) -> None:
    """Write that a guest's ids are the node's from ``first`` on."""
    ids = add(domain, "idmap")
    for kind in ("uid", "gid"):
        add(ids, kind, start=0, target=first, count=EACH)
