"""Settings of the KubeVirt object: which are refused, and what they make of new machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import KUBEVIRTS, VMIS
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import ALPHA, Fake, instance, no
from tests.admission.test_admit import kubevirt

GCM = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
RSA = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
TYPELESS = Fake("typeless", ("box",), {}, machine__type=no("it has one machine"))


def judged(context: AdmissionContext, **configuration: Any) -> tuple[list[str], list[str]]:
    obj = kubevirt({"name": "beta"})
    obj["spec"]["configuration"] |= configuration
    done = admit("CREATE", KUBEVIRTS, obj, None, context)
    where = "spec.configuration."
    problems = [f"{one.field.removeprefix(where)}: {one.message}" for one in done.problems]
    return problems, [one.removeprefix(where) for one in done.warnings]


@pytest.mark.parametrize(
    ("tls", "problem", "warning"),
    [
        ({"minTLSVersion": "VersionTLS13"}, "", ""),
        ({"minTLSVersion": "VersionTLS12", "ciphers": [GCM, RSA]}, "", ""),
        ({"minTLSVersion": "VersionTLS12", "ciphers": [RSA]}, "", "tlsConfiguration.ciphers: none of them goes with"),
        ({"minTLSVersion": "VersionTLS10"}, "", "tlsConfiguration.minTLSVersion: TLS 1.0 and 1.1 are not served"),
        ({"minTLSVersion": "VersionTLS13", "ciphers": [GCM]}, "tlsConfiguration.ciphers: You cannot specify", ""),
        ({"ciphers": [GCM]}, "tlsConfiguration.ciphers: You cannot specify", ""),
        ({"minTLSVersion": "VersionTLS12", "ciphers": ["NO"]}, "tlsConfiguration.ciphers[0]: 'NO' is not a valid", "*"),
    ],
)
def test_tls(tls: Obj, problem: str, warning: str, context: AdmissionContext) -> None:
    problems, warnings = judged(context, tlsConfiguration=tls)
    assert [one[: len(problem)] for one in problems] == ([problem] if problem else [])
    if warning != "*":
        assert [one[: len(warning)] for one in warnings] == ([warning] if warning else [])


@pytest.mark.parametrize(
    ("ratio", "good"), [("1.0", True), ("2.5", True), ("0.9", False), ("x", False), ("nan", False)]
)
def test_the_ratio_of_overhead(ratio: str, good: bool, context: AdmissionContext) -> None:
    problems, _ = judged(context, additionalGuestMemoryOverheadRatio=ratio)
    assert problems == ([] if good else [f"additionalGuestMemoryOverheadRatio: {WANTED.format(ratio)}"])


WANTED = 'found {!r}; a number of at least 1.0 is wanted, such as "1.5"'


def test_settings_that_have_an_effect_are_not_said_to_have_none(context: AdmissionContext) -> None:
    settings = {
        "cpuRequest": "200m",
        "autoCPULimitNamespaceLabelSelector": {"matchLabels": {"a": "b"}},
        "defaultRuntimeClass": "special",
        "additionalGuestMemoryOverheadRatio": "1.1",
        "selinuxLauncherType": "spc_t",
        "architectureConfiguration": {"defaultArchitecture": "arm64", "amd64": {"machineType": "q35"}},
        "tlsConfiguration": {"minTLSVersion": "VersionTLS12"},
    }
    assert judged(context, **settings) == ([], [])
    ovmf = {"architectureConfiguration": {"amd64": {"ovmfPath": "/usr/share/OVMF"}}}
    _, warnings = judged(context, **ovmf)
    assert [one.partition(":")[0] for one in warnings] == ["architectureConfiguration.amd64.ovmfPath"]
    problems, _ = judged(context, architectureConfiguration={"defaultArchitecture": "vax"})
    assert problems == ["architectureConfiguration.defaultArchitecture: found 'vax', accepted: amd64, arm64, s390x"]


def made(context: AdmissionContext, configuration: Obj, **domain: Any) -> Obj:
    def change(spec: Obj) -> None:
        spec["domain"] |= domain

    done = admit("CREATE", VMIS, instance(change), None, replace(context, config=configuration))
    assert done.problems == []
    return dict(done.obj["spec"])


def test_the_cpu_request_of_machines_that_say_nothing_of_cpus(context: AdmissionContext) -> None:
    def requested(configuration: Obj, **domain: Any) -> Any:
        return made(context, configuration, **domain)["domain"]["resources"]["requests"].get("cpu")

    assert requested({"cpuRequest": "250m"}) == "250m"
    assert requested({"cpuRequest": "100m"}) is None
    assert requested({}) is None
    assert requested({"cpuRequest": "250m"}, resources={"requests": {"cpu": "1"}}) == "1"
    assert requested({"cpuRequest": "250m"}, resources={"requests": {}, "limits": {"cpu": "1"}}) is None
    assert requested({"cpuRequest": "250m"}, cpu={"cores": 1, "dedicatedCpuPlacement": True}) is None


def test_consoles_are_not_logged_where_the_administrator_wants_none(context: AdmissionContext) -> None:
    off = {"virtualMachineOptions": {"disableSerialConsoleLog": {}}}
    devices = made(context, {})["domain"]["devices"]
    assert "logSerialConsole" not in devices
    assert made(context, off)["domain"]["devices"]["logSerialConsole"] is False
    asked = {**devices, "logSerialConsole": True}
    assert made(context, off, devices=asked)["domain"]["devices"]["logSerialConsole"] is True


def test_architecture_and_machine_type_that_are_left_open(context: AdmissionContext) -> None:
    per_architecture = {"arm64": {"machineType": "virt"}, "amd64": {"machineType": "q35"}}
    configuration = {"architectureConfiguration": {"defaultArchitecture": "arm64", **per_architecture}}
    spec = made(context, configuration)
    assert (spec["architecture"], spec["domain"]["machine"]) == ("arm64", {"type": "virt"})
    assert made(context, configuration, machine={"type": "pc"})["domain"]["machine"] == {"type": "pc"}
    assert made(context, {"architectureConfiguration": per_architecture})["domain"]["machine"] == {"type": "q35"}
    assert made(context, {"machineType": "pc", **configuration})["domain"]["machine"] == {"type": "pc"}
    some = AdmissionContext({}, DriverRegistry([ALPHA, TYPELESS]))
    assert "machine" not in made(some, {"architectureConfiguration": per_architecture})["domain"]


def test_machine_types_that_the_administrator_leaves_out_are_refused(context: AdmissionContext) -> None:
    def change(spec: Obj) -> None:
        spec["domain"]["machine"] = {"type": "pc-i440fx-2.1"}

    allowed = {"architectureConfiguration": {"amd64": {"emulatedMachines": ["q35*", "pc-q35*"]}}}
    (problem,) = admit("CREATE", VMIS, instance(change), None, replace(context, config=allowed)).problems
    assert problem.field == "spec.domain.machine.type"
    assert problem.message == "'pc-i440fx-2.1' is not allowed in this cluster; allowed: pc-q35*, q35*"
    assert made(context, allowed, machine={"type": "pc-q35-7.2"})
