"""UEFI and secure boot, seen from inside a guest: the emulator takes half a minute over the firmware."""

from __future__ import annotations

import json

import pytest

from tests.drivers.feature_guest import Facts
from tests.drivers.feature_machines import SEEN_SLOWLY, SLOW
from tests.drivers.feature_run import run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def reports() -> dict[str, Facts]:
    return run(SLOW)


@pytest.mark.parametrize("feature", SEEN_SLOWLY)
def test_the_guest_has_what_the_table_claims(feature: str, reports: dict[str, Facts]) -> None:
    name, check = SEEN_SLOWLY[feature]
    assert check(reports[name]), json.dumps(reports[name], indent=1)
