"""The kit passes a sound driver and catches every fault that it is there for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyvisor.drivers.base import Endpoint, LauncherPlan, Place, ProbeResult, Support, Verdict
from polyvisor.drivers.features import FEATURES
from polyvisor.testing import DriverKit, corpus
from polyvisor.testing.machines import LEAST, askable
from tests.drivers_for_tests import FakeDriver

SOURCE = "https://example.org/manual"
WHOLE = {feature.id: Support(Verdict.SUPPORTED, SOURCE) for feature in FEATURES}
NO = Support(Verdict.UNSUPPORTED, SOURCE, "it was left out")
LACKING = {"interface.pci-address": NO, "tpm": NO, "tpm.persistent": NO, "panic.pvpanic": NO}


class Sound(FakeDriver):
    """A driver without a fault."""

    def __init__(self) -> None:
        super().__init__("sound", ("test",), frozenset(), {**WHOLE, **LACKING})

    def probe(self, scratch: Path) -> ProbeResult:
        return ProbeResult(False, "there is no such hypervisor")


def kit_of(driver: FakeDriver) -> DriverKit:
    return type("Kit", (DriverKit,), {"driver": driver})()


def with_table(**answers: Support) -> FakeDriver:
    driver = Sound()
    driver._table = {**driver._table, **{name.replace("__", "."): answer for name, answer in answers.items()}}
    return driver


def with_method(**methods: Callable[..., Any]) -> FakeDriver:
    return type("Flawed", (Sound,), methods)()


def with_plan(**fields: Any) -> FakeDriver:
    return with_method(launcher=lambda self, folder, scratch=None, endpoint=None: LauncherPlan("test:///x", **fields))


def slow(driver: Any, scratch: Path) -> ProbeResult:
    time.sleep(2.1)
    return ProbeResult(False, "at last")


def raises(driver: Any, scratch: Path) -> ProbeResult:
    raise OSError("there is nothing here")


def tells(driver: Any, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
    words = endpoint.auth_file.read_text() if endpoint and endpoint.auth_file else ""
    return LauncherPlan("test:///x", files={"auth.conf": words})


def forgets(driver: Any, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
    return LauncherPlan("test:///x")


def remote(launcher: Callable[..., LauncherPlan]) -> FakeDriver:
    return type("Remote", (Sound,), {"launcher": launcher, "place": Place.HOST, "uris": ("test://host/x",)})()


def grows(driver: Any, spec: Any) -> None:
    spec.domain.cpu.cores = (spec.domain.cpu.cores or 1) + 1


def renames(domain: Any) -> None:
    domain.find("name").text = "other"


SEEN: list[int] = []


def counts(driver: Any, domain: Any, spec: Any) -> None:
    SEEN.append(1)
    domain.find("vcpu").text = str(len(SEEN))


def needs_path(name: str) -> bool:
    return "plan" in name


CATCHES: dict[str, tuple[FakeDriver, str]] = {
    "no source": (with_table(rng=Support(Verdict.SUPPORTED, "")), "test_keeps_the_contract"),
    "a source that leads nowhere": (
        with_table(rng=Support(Verdict.SUPPORTED, "somebody said so")),
        "test_every_answer_says_where_it_is_from",
    ),
    "a row too many": (with_table(nonsense=NO), "test_table_answers_every_feature_and_no_other"),
    "no condition": (
        with_table(rng=Support(Verdict.CONDITIONAL, SOURCE, "sometimes")),
        "test_every_condition_can_be_met",
    ),
    "a condition that counts for nothing": (
        with_table(rng=Support(Verdict.SUPPORTED, SOURCE, min_libvirt="9.0.0")),
        "test_every_condition_can_be_met",
    ),
    "a virt type of others": (
        with_table(rng=Support(Verdict.CONDITIONAL, SOURCE, "fast only", virt_types=("fast",))),
        "test_every_condition_can_be_met",
    ),
    "a part without its whole": (with_table(network__pod=NO), "test_what_it_has_can_be_asked_for"),
    "a file outside": (with_plan(files={"../x": ""}), "test_plan_can_be_carried_out"),
    "an unknown way to power down": (with_plan(shutdown=("pull the plug",)), "test_plan_can_be_carried_out"),
    "no secret kept": (remote(tells), "test_plan_holds_no_secret"),
    "credentials that nobody reads": (remote(forgets), "test_plan_holds_no_secret"),
    "a slow probe": (with_method(probe=slow), "test_probe_on_a_bare_host_says_what_is_missing_and_is_quick"),
    "a probe that raises": (with_method(probe=raises), "test_probe_on_a_bare_host_says_what_is_missing_and_is_quick"),
    "a probe without words": (
        with_method(probe=lambda self, scratch: ProbeResult(False)),
        "test_probe_on_a_bare_host_says_what_is_missing_and_is_quick",
    ),
    "defaults that add up": (with_method(defaults=grows), "test_defaults_fill_in_once"),
    "a domain of another name": (
        with_method(adapt=lambda self, domain, spec: renames(domain)),
        "test_domain_has_the_drivers_type_name_and_size",
    ),
    "a domain that differs every time": (
        with_method(adapt=counts),
        "test_domain_is_the_same_every_time_and_the_machine_stays_as_it_was",
    ),
    "one name for all": (
        with_method(domain_name=lambda self, name, uuid: "one"),
        "test_names_of_domains_are_plain_and_apart",
    ),
    "no memory": (with_method(overhead_bytes=lambda self, spec: 0), "test_overhead_is_an_amount_of_memory"),
}


def ask(driver: FakeDriver, question: str, folder: Path) -> None:
    arguments = (folder,) if needs_path(question) else ()
    getattr(kit_of(driver), question)(*arguments)


@pytest.mark.parametrize("question", sorted({question for _, question in CATCHES.values()}))
def test_a_sound_driver_passes(question: str, tmp_path: Path) -> None:
    ask(Sound(), question, tmp_path)


@pytest.mark.parametrize("fault", CATCHES)
def test_a_fault_is_caught(fault: str, tmp_path: Path) -> None:
    driver, question = CATCHES[fault]
    with pytest.raises(AssertionError if "outside" not in fault else Exception):
        ask(driver, question, tmp_path)


def test_what_libvirt_cannot_read_is_caught() -> None:
    def breaks(driver: Any, domain: Any, spec: Any) -> None:
        domain.find("devices").append(domain.makeelement("gadget", {}))

    (case, *_) = corpus(Sound())
    kit_of(Sound()).test_domain_is_valid_by_libvirts_schema(case)
    with pytest.raises(AssertionError, match="Extra element"):
        kit_of(with_method(adapt=breaks)).test_domain_is_valid_by_libvirts_schema(case)


def test_a_refusal_is_held_to_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of(Sound())
    for feature in LACKING:
        kit.test_refusal_names_the_feature_its_field_and_who_would_do(feature)
    monkeypatch.setattr("polyvisor.admission.hypervisor._hint", lambda *_: "; supported by nobody")
    with pytest.raises(AssertionError):
        kit.test_refusal_names_the_feature_its_field_and_who_would_do("interface.pci-address")


def test_a_corpus_is_the_same_every_time_and_has_all_that_can_be_asked_for() -> None:
    first, again = corpus(Sound()), corpus(Sound())
    assert [case.obj for case in first] == [case.obj for case in again]
    assert len(first) >= LEAST
    assert set(askable(Sound())) == frozenset().union(*(case.features for case in first))
    assert len({case.id for case in first}) == len(first)
