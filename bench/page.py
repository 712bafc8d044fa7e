"""docs/performance.md by its sections, so that one benchmark can write its own and leave the others as they are."""

from __future__ import annotations

import re

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(page: str) -> dict[str, str]:
    """Return the page's sections by title, each with its heading; what stands before the first is under ``""``."""
    starts = [(0, ""), *((match.start(), match[1]) for match in HEADING.finditer(page))]
    ends = [start for start, _ in starts[1:]] + [len(page)]
    return {title: page[start:end] for (start, title), end in zip(starts, ends, strict=True)}


def put(page: str, new: str) -> str:
    """Return the page with the sections of ``new`` in place of its own of the same titles, or after them."""
    found = sections(page) | {title: text for title, text in sections(new).items() if text.strip()}
    return "\n".join(text.rstrip("\n") + "\n" for text in found.values() if text)
