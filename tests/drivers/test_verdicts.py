"""What admission lets through for QEMU, a real libvirt takes: fields that meet on one device, and sections that bind.

In the suite a sample is drawn by a seed, which a failure names; ``POLYVISOR_EVERY_COMBINATION=1`` takes them all, and
``POLYVISOR_COMBINATIONS_SEED`` draws another sample.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import VirtualMachineInstance
from polyvisor.api.resources import VMIS
from polyvisor.domain import render
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.drivers.qemu.probe import CARDS
from polyvisor.drivers.rules import COMBINATIONS
from polyvisor.testing import corpus
from polyvisor.testing.machines import context_for, instance
from tests.drivers.combinations import FAMILIES, combinations
from tests.drivers.judge import Judge, judge, lost
from tests.drivers.random_machines import admitted

DRIVER = QemuDriver()
SAMPLE = 700
EVERY = bool(os.environ.get("POLYVISOR_EVERY_COMBINATION"))
SEED = os.environ.get("POLYVISOR_COMBINATIONS_SEED", "1")
BASE = Path("/nowhere")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(tmp_path_factory.mktemp("j")) as one:
        yield one


def emulated(spec: dict[str, object]) -> dict[str, object]:
    obj = instance(DRIVER, spec)
    obj["spec"]["hypervisor"]["virtType"] = "qemu"
    return obj


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_admitted_is_taken(family: str, ask: Judge) -> None:
    context = AdmissionContext({}, DriverRegistry([DRIVER]))
    refused, taken, ruled = {}, 0, set()
    for name, spec in combinations(family, SEED, 0 if EVERY else SAMPLE):
        outcome = admit("CREATE", VMIS, emulated(spec), None, context)
        ruled |= {problem.feature for problem in outcome.problems}
        if outcome.problems:
            continue
        prepared = context_for(DRIVER, outcome.obj, BASE)
        assert prepared
        answer = ask(render(VirtualMachineInstance.model_validate(outcome.obj), DRIVER, prepared))
        taken += 1
        if answer.refusal:
            refused[name] = answer.refusal
    assert refused == {}, f"seed {SEED}"
    assert taken > SAMPLE / 8, "most combinations are refused, so the test says little"
    assert ruled & {one.id for one in COMBINATIONS}, "the sample breaks no rule"


@pytest.mark.parametrize("rule", DRIVER.rules)
def test_a_rule_keeps_away_what_libvirt_or_the_guest_would_not_take(rule: str) -> None:
    (combination,) = [one for one in COMBINATIONS if one.id == rule]
    context = AdmissionContext({}, DriverRegistry([DRIVER]))
    for family in FAMILIES:
        for _, spec in combinations(family, SEED, SAMPLE):
            problems = admit("CREATE", VMIS, emulated(spec), None, context).problems
            broken = [problem for problem in problems if problem.feature == rule]
            if broken:
                assert broken[0].message.startswith(f"{combination.title} with QEMU: {DRIVER.rules[rule].reason}")
                return
    assert rule == "rule.pci.twice", "no combination breaks it"


def test_machines_of_many_devices_are_taken_and_nothing_is_lost(ask: Judge) -> None:
    """What admission finds wrong is left out; libvirt takes the rest, and understands all that was written."""
    refused, changed, taken = {}, {}, 0
    for name, obj in admitted(DRIVER, SEED, 4000 if EVERY else 250, "qemu"):
        prepared = context_for(DRIVER, obj, BASE)
        assert prepared
        ours = render(VirtualMachineInstance.model_validate(obj), DRIVER, prepared)
        answer = ask(ours)
        taken += 1
        if answer.refusal:
            refused[name] = answer.refusal
        elif missing := lost(ours, answer.xml):
            changed[name] = missing
    assert refused == {}
    assert changed == {}
    assert taken > 150, "most machines are refused, so the test says little"


def test_machines_of_the_corpus_are_taken(ask: Judge) -> None:
    """Each of the driver's features alone, and mixtures; but for what needs another libvirt or QEMU than is here."""
    newer = {id_ for id_, support in DRIVER.features.items() if support.min_libvirt}
    cards = ask.cards()
    absent = {feature for model, feature in CARDS.items() if model not in cards}
    refused, wrongly_absent = {}, set()
    for case in corpus(DRIVER):
        answer = ask(render(case.vmi, DRIVER, case.context))
        if answer.refusal and not (newer | absent) & case.features:
            refused[case.id] = answer.refusal
        elif not answer.refusal:
            wrongly_absent |= absent & case.features
    assert refused == {}
    assert wrongly_absent == set(), "libvirt says that QEMU has it not, and takes it"
