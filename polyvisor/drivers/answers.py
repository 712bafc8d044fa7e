"""Short words for writing a driver's table: ``yes``, ``no``, ``when``; and the link behind a source.

A source is text in one of two forms: a web address, or ``libvirt VERSION PATH FUNCTION (remark)`` for a place in
libvirt's own source. :func:`link` turns either into something to click on.
"""

from __future__ import annotations

import re
from typing import Any

from polyvisor.drivers.base import Support, Verdict
from polyvisor.drivers.features import BY_ID

Table = dict[str, Support]

FROM_NEWS = "(https://libvirt.org/news.html alone, not tried)"
"""In a source: what libvirt's release notes say of a version that was not run here."""
TREE = "https://gitlab.com/libvirt/libvirt/-/blob"
_SOURCE = re.compile(r"libvirt (\d+\.\d+\.\d+) ((?:src|docs|include|tools)/[\w./-]*)")
_ADDRESS = re.compile(r"https?://\S+[^\s,;:)]")


def yes(source: str, *ids: str) -> Table:
    """Say that features work, as ``source`` shows."""
    return {id_: Support(Verdict.SUPPORTED, source) for id_ in ids}


def no(source: str, reason: str, *ids: str) -> Table:
    """Say that features do not work, in the user's words."""
    return {id_: Support(Verdict.UNSUPPORTED, source, reason) for id_ in ids}


def when(source: str, reason: str, *ids: str, **conditions: Any) -> Table:
    """Say that features work under conditions; these are the fields of :class:`Support`."""
    return {id_: Support(Verdict.CONDITIONAL, source, reason, **conditions) for id_ in ids}


def unknown(source: str, reason: str, *ids: str) -> Table:
    """Say that it could not be found out; admission treats that as unsupported and says so."""
    return {id_: Support(Verdict.UNKNOWN, source, reason) for id_ in ids}


def below(*words: str) -> tuple[str, ...]:
    """Return the ids of all features in a part of the catalogue (``hyperv``), for refusing them together."""
    return tuple(id_ for id_ in BY_ID if any(id_ == word or id_.startswith(f"{word}.") for word in words))


def since(version: str, of: str = "") -> str:
    """Return the source of a claim about a version of libvirt that was not run here: its release notes."""
    return f"{of + '; ' if of else ''}libvirt {version} {FROM_NEWS}"


def link(source: str) -> str:
    """Return the web address that a source stands for, empty if it has none."""
    if found := _ADDRESS.search(source):
        return found.group()
    if found := _SOURCE.search(source):
        return f"{TREE}/v{found.group(1)}/{found.group(2).rstrip('.')}"
    return ""
