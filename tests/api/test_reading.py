"""Parts of plain objects that may be absent or null."""

from __future__ import annotations

import pytest

from polyvisor.api import Obj
from polyvisor.api.reading import chosen_hypervisor, devices_of, labels_of, nested, phase_of, read_status


@pytest.mark.parametrize("obj", [{}, {"status": None}, {"status": {}}, {"status": {"hypervisor": None}}])
def test_what_is_absent_or_null_is_empty(obj: Obj) -> None:
    assert chosen_hypervisor(obj) == {}
    assert phase_of(obj) == ""
    assert labels_of(obj) == {}
    assert nested(obj, "status", "a", "b") == {}


def test_what_is_there_is_returned() -> None:
    status = {"phase": "Running", "hypervisor": {"driver": "alpha"}}
    assert read_status({"status": status}) is status
    assert (phase_of({"status": status}), chosen_hypervisor({"status": status})) == ("Running", {"driver": "alpha"})
    assert devices_of({"domain": {"devices": {"rng": {}}}}) == {"rng": {}}
