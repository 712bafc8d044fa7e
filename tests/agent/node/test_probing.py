"""What a Node shows of what works, as functions of what the probes found."""

from __future__ import annotations

from polyvisor.agent.node.probing import condition_of, gone, label_changes, labels_of
from polyvisor.drivers.base import Cpus, ProbeResult

CPUS = Cpus(
    models=("EPYC", "a b"),
    features=("aes", "sse4.2"),
    host_model="EPYC",
    host_features=("aes",),
    vendor="AMD",
    machines=("pc-q35-7.2", "q35"),
)
WORKS = ProbeResult(True, "kvm: /dev/kvm is not there", "7.2", "9.0.0", ("qemu",), cpus=CPUS)
FAILS = ProbeResult(False, "it is not installed")


def test_labels_of_cpus_are_those_of_kubevirt() -> None:
    labels = {key for key in labels_of({"one": WORKS, "two": FAILS}) if ".node.kubevirt.io/" in key}
    assert labels == {
        "cpu-model.node.kubevirt.io/EPYC",
        "cpu-model-migration.node.kubevirt.io/EPYC",
        "cpu-feature.node.kubevirt.io/aes",
        "cpu-feature.node.kubevirt.io/sse4.2",
        "host-model-cpu.node.kubevirt.io/EPYC",
        "host-model-required-features.node.kubevirt.io/aes",
        "cpu-vendor.node.kubevirt.io/AMD",
        "machine-type.node.kubevirt.io/q35",
        "machine-type.node.kubevirt.io/pc-q35-7.2",
    }


def test_labels_go_with_what_they_stand_for_and_others_stay() -> None:
    there = {"cpu-model.node.kubevirt.io/Old": "true", "hypervisor.kubevirt.io/two": "true", "mine": "x"}
    changes = label_changes({"metadata": {"labels": there}}, labels_of({"one": FAILS}))
    assert changes == {"cpu-model.node.kubevirt.io/Old": None, "hypervisor.kubevirt.io/two": None}
    skip = {"annotations": {"node-labeller.kubevirt.io/skip-node": ""}, "labels": there}
    kept = label_changes({"metadata": skip}, labels_of({"one": WORKS}))
    assert not [key for key in kept if ".node.kubevirt.io/" in key]
    assert kept["hypervisor.kubevirt.io/one"] == "true"


def test_the_condition_says_what_works_and_why_the_rest_does_not() -> None:
    assert condition_of({"one": WORKS, "two": FAILS}) == (
        True,
        "SomeWork",
        "one works (qemu); one: kvm: /dev/kvm is not there; two: it is not installed",
    )
    assert condition_of({"two": FAILS})[:2] == (False, "NoneWorks")
    assert condition_of({"one": WORKS})[:2] == (True, "AllWork")


def test_a_machine_is_told_of_a_virt_type_that_is_gone() -> None:
    results = {"one": WORKS, "two": FAILS}
    assert gone(results, "one", "qemu") == ""
    assert gone(results, "one", "kvm") == "kvm: /dev/kvm is not there"
    assert gone(results, "two", "x") == "it is not installed"
    assert gone(results, "three", "x") == "", "not probed yet"
