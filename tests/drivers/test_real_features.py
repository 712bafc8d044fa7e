"""What the table claims of QEMU, seen from inside real guests: each feature that shows there, and those that cannot.

All guests of the module start together, and each prints what it finds on its console once.
"""

from __future__ import annotations

import json

import pytest

from polyvisor.drivers.base import Verdict
from polyvisor.drivers.features import BY_ID
from tests.drivers.feature_guest import Facts
from tests.drivers.feature_machines import GUESTS, SEEN, SEEN_SLOWLY
from tests.drivers.feature_run import DRIVER, run

ELSEWHERE = {
    "tests/drivers/test_real.py": (
        *("lifecycle.shutdown", "lifecycle.destroy", "lifecycle.pause", "lifecycle.adopt", "lifecycle.events"),
        *("lifecycle.start-paused", "volume.container-disk", "volume.empty-disk", "volume.claim", "volume.cloud-init"),
    ),
    "tests/e2e/test_daily_use.py": ("interface.ports",),
    "tests/drivers/test_real_screens.py": (
        *("lifecycle.reboot", "lifecycle.reset", "lifecycle.vnc", "lifecycle.screenshot", "lifecycle.guest-agent"),
    ),
}
UNSEEN = {
    "a guest does not see how the host writes its image": ("disk.io", "disk.io-thread", "disk.io-threads-policy"),
    "it shows when an image fails": ("disk.error-policy",),
    "an image's format does not show through it": ("disk.format.qcow2",),
    "it is the absence of output": ("console.none",),
    "Linux uses neither unless it must": ("timer.pit", "timer.rtc"),
    "it shows to firmware alone": ("features.smm",),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Facts]:
    return run(GUESTS)


@pytest.mark.parametrize("feature", SEEN)
def test_the_guest_has_what_the_table_claims(feature: str, reports: dict[str, Facts]) -> None:
    name, check = SEEN[feature]
    assert check(reports[name]), json.dumps(reports[name], indent=1)


def test_every_claim_is_seen_or_cannot_be() -> None:
    claimed = {id_ for id_, support in DRIVER.features.items() if support.verdict is Verdict.SUPPORTED}
    listed = [*SEEN, *SEEN_SLOWLY, *(id_ for ids in (*ELSEWHERE.values(), *UNSEEN.values()) for id_ in ids)]
    assert len(listed) == len(set(listed)), "a feature is listed twice"
    assert set(listed) <= set(BY_ID)
    assert claimed - set(listed) == set()
    assert {id_ for id_ in listed if DRIVER.features[id_].verdict is Verdict.UNSUPPORTED} == set()
