"""Tests of what a feature does, held to the driver's table in both directions."""

from __future__ import annotations

import pytest

from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import answer_of, may_support


def claims(driver: Driver, *features: str) -> pytest.MarkDecorator:
    """Mark a test that shows what ``features`` do with ``driver``.

    It must pass where the table has them all. Where the table lacks one it must fail: an unsupported answer whose test
    passes fails the suite, so that the table cannot fall behind what the hypervisor can do.
    """
    lacking = [id_ for id_ in features if not may_support(driver, id_)]
    reason = "; ".join(f"{id_}: {answer_of(driver, id_).reason}" for id_ in lacking)
    return pytest.mark.xfail(bool(lacking), reason=reason or "all of it is supported", strict=bool(lacking))
