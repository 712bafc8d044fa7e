"""What a host tells, within limits: a host may be anybody's, and what it says fills messages and the agent's memory.

Its texts are cut or left out, its XML is read without document types, and lists go page by page, each of a size that
one message can carry.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from polyvisor.launcher.endpoint.owned import Answer, Refused

MAX_NAME = 255
MAX_PATH = 4096
MAX_MARK = 4096
PAGE_BYTES = 512 * 1024
"""Bytes of JSON after which a page ends; a message has at most twice as many."""
Item = TypeVar("Item")


def root_of(xml: str) -> ET.Element:
    """Return the root of XML that a host tells. Raises :class:`Refused` for what is no plain XML."""
    if "<!DOCTYPE" in xml:
        raise Refused("bad-xml", "the host answers with XML that has a document type, which is not read")
    try:
        return ET.fromstring(xml)
    except (ET.ParseError, ValueError) as error:
        raise Refused("bad-xml", f"the host answers with XML that cannot be read: {error}") from None


def found_in(xml: str, path: str) -> str:
    """Return the text of an element of a host's XML, empty if there is none or the XML cannot be read."""
    try:
        return root_of(xml).findtext(path) or ""
    except Refused:
        return ""


def page(items: Sequence[Item], asked: Answer, make: Callable[[Item], Answer | None]) -> tuple[list[Answer], int]:
    """Return what ``make`` gives of the items from the request's ``offset`` on, and the next page's offset, else 0.

    What it gives no answer of is left out. Raises :class:`Refused` for an offset that is none.
    """
    offset = asked.get("offset", 0)
    if not isinstance(offset, int) or offset < 0:
        raise Refused("bad-request", "offset: a number from 0 on is expected")
    answers: list[Answer] = []
    size = 0
    for number, one in enumerate(_from(items, offset), offset):
        answer = make(one)
        if answer is None:
            continue
        size += len(json.dumps(answer))
        if answers and size > PAGE_BYTES:
            return answers, number
        answers.append(answer)
    return answers, 0


def _from(items: Sequence[Item], offset: int) -> Iterator[Item]:
    for number in range(offset, len(items)):
        yield items[number]


def short(value: Any, limit: int = MAX_NAME) -> str:
    """Return a text of the host's, cut."""
    return str(value or "")[:limit]
