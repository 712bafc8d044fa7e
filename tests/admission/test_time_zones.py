"""A guest's clock is in a time zone that exists."""

from __future__ import annotations

import pytest

from polyvisor.admission import hardware
from polyvisor.admission.values import Findings


@pytest.mark.parametrize(
    ("zone", "hint"), [("Mars/Olympus", ""), ("europe/berlin", "Europe/Berlin"), ("Europe", ""), ("../etc/passwd", "")]
)
def test_a_time_zone_that_does_not_exist_is_refused(zone: str, hint: str) -> None:
    found = Findings()
    hardware.validate({"domain": {"memory": {"guest": "1Gi"}, "clock": {"timezone": zone}}}, "spec", found)
    (problem,) = found.problems
    assert problem.field == "spec.domain.clock.timezone"
    assert repr(zone) in problem.message
    assert (f"did you mean {hint}?" in problem.message) is bool(hint)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"])
def test_a_time_zone_that_exists_is_taken(zone: str) -> None:
    found = Findings()
    hardware.validate({"domain": {"memory": {"guest": "1Gi"}, "clock": {"timezone": zone}}}, "spec", found)
    assert found.problems == []
