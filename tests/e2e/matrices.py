"""Which cases of a matrix are tried for each change; all others are a proof (``tools/lanes.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def live(matrix: Iterable[str], *always: str) -> list[Any]:
    """Return a matrix's cases for ``parametrize``; only those of ``always`` are tried for each change."""
    names = list(matrix)
    assert set(always) <= set(names)
    return [name if name in always else pytest.param(name, marks=pytest.mark.proof) for name in names]
