"""What the table claims of QEMU, seen from inside real guests, which all start together and print what they find."""

from __future__ import annotations

import json

import pytest

from tests.drivers.feature_guest import Facts
from tests.drivers.feature_machines import GUESTS, SEEN
from tests.drivers.feature_run import run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def reports() -> dict[str, Facts]:
    return run(GUESTS)


@pytest.mark.parametrize("feature", SEEN)
def test_the_guest_has_what_the_table_claims(feature: str, reports: dict[str, Facts]) -> None:
    name, check = SEEN[feature]
    assert check(reports[name]), json.dumps(reports[name], indent=1)
