"""Drivers as they are on endpoints: the same ones, with less in their tables."""

from __future__ import annotations

from polyvisor.drivers import registry
from polyvisor.drivers.at_endpoint import LACKS, WITHOUT_AGENT, WITHOUT_SCREEN, all_at_endpoints, at_endpoint
from polyvisor.drivers.base import Verdict
from tests.drivers_for_tests import FakeDriver, no


def test_an_endpoint_never_adds_to_what_a_driver_can_do() -> None:
    has = (Verdict.SUPPORTED, Verdict.CONDITIONAL)
    for driver in registry():
        there = at_endpoint(driver)
        assert there.features.keys() == driver.features.keys()
        added = [
            id_ for id_, one in there.features.items() if one.verdict in has and driver.features[id_].verdict not in has
        ]
        assert added == [], driver.name


def test_what_is_lacking_says_why_and_the_driver_itself_is_as_it_was() -> None:
    driver = registry().get("qemu")
    assert driver is not None
    before = dict(driver.features)
    there = at_endpoint(driver)
    assert there.features["lifecycle.memory-dump"].reason == LACKS["lifecycle.memory-dump"].reason
    assert there.features["network.pod"].verdict is Verdict.SUPPORTED
    assert driver.features == before
    assert at_endpoint(there) is there
    assert (there.name, there.virt_types) == (driver.name, driver.virt_types)


def test_screens_and_agents_are_there_where_libvirt_gives_them_at_a_host() -> None:
    drivers = {driver.name: at_endpoint(driver) for driver in registry()}
    for id_ in ("lifecycle.vnc", "lifecycle.screenshot", "lifecycle.guest-agent", "lifecycle.statistics"):
        assert drivers["qemu"].features[id_].verdict is Verdict.SUPPORTED, id_
    silent = FakeDriver("silent")
    assert silent.features["lifecycle.vnc"].verdict is Verdict.SUPPORTED
    assert at_endpoint(silent).features["lifecycle.vnc"].reason == WITHOUT_SCREEN["lifecycle.vnc"].reason
    assert at_endpoint(silent).features["lifecycle.guest-agent"].reason == WITHOUT_AGENT["lifecycle.guest-agent"].reason


def test_all_drivers_keep_their_order() -> None:
    assert all_at_endpoints(registry()).names() == registry().names()


def test_two_drivers_of_one_class_keep_tables_of_their_own() -> None:
    one, other = FakeDriver("one"), FakeDriver("other", table={"rng": no("other has none")})
    assert at_endpoint(one).features["rng"].verdict is Verdict.SUPPORTED
    assert at_endpoint(other).features["rng"].reason == "other has none"
