"""Inputs from the field, without a cluster: what admission, ``explain``, a driver and a real libvirt make of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.explanation import explain
from polyvisor.api import Obj, Problem, VirtualMachineInstance
from polyvisor.api.resource import Resource
from polyvisor.api.resources import REPLICA_SETS, RESOURCES, VMIS, VMS
from polyvisor.domain import render
from polyvisor.drivers import registry
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.drivers.verdict import unsupported
from polyvisor.testing.machines import context_for
from tests.cases.folders import Case, cases
from tests.drivers.judge import Judge, judge

BASE = Path("/nowhere")
DRIVER = QemuDriver()
CONTEXT = AdmissionContext({}, registry())
MACHINES = {resource.kind: resource for resource in (VMS, VMIS, REPLICA_SETS)}
KINDS = {resource.kind: resource for resource in RESOURCES}
EVERY = {case.id: case for case in cases()}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(tmp_path_factory.mktemp("j")) as one:
        yield one


def placed(obj: Obj) -> tuple[Resource | None, Obj]:
    """Return an object's kind, and the object in a namespace as a server has it."""
    whole = copy.deepcopy(obj)
    resource = KINDS.get(str(whole.get("kind")))
    metadata = whole.get("metadata")
    if resource and resource.namespaced and isinstance(metadata, dict):
        metadata.setdefault("namespace", "default")
    return resource, whole


def instances(case: Case) -> Iterator[Obj]:
    """Yield the instances that a manifest's machines come to, as far as they are admitted."""
    for obj in case.objects():
        resource, whole = placed(obj)
        if resource in (VMS, REPLICA_SETS):
            template = ((whole.get("spec") or {}).get("template")) or {}
            metadata = {"name": "m", "namespace": "default", "uid": "0f0e0d0c-0000-4000-8000-000000000001"}
            kind = {"apiVersion": VMIS.api_version, "kind": VMIS.kind}
            whole = {**kind, "metadata": metadata, "spec": template.get("spec") or {}}
        elif resource != VMIS:
            continue
        outcome = admit("CREATE", VMIS, whole, None, CONTEXT)
        if not outcome.problems:
            yield outcome.obj


def found(case: Case) -> tuple[list[Problem], list[str]]:
    """Return what admission finds wrong with a manifest's objects, and what it warns of."""
    problems: list[Problem] = []
    warnings: list[str] = []
    for obj in case.objects():
        resource, whole = placed(obj)
        if resource is not None:
            outcome = admit("CREATE", resource, whole, None, CONTEXT)
            problems += outcome.problems
            warnings += outcome.warnings
    return problems, warnings


@pytest.mark.parametrize("id", EVERY)
def test_admission_and_explain_say_the_same(id: str) -> None:
    for obj in EVERY[id].objects():
        resource, whole = placed(obj)
        if resource is None or resource.kind not in MACHINES:
            continue
        outcome, explanation = admit("CREATE", resource, whole, None, CONTEXT), explain(resource, whole, CONTEXT)
        assert explanation.runs is not bool(outcome.problems), [str(problem) for problem in outcome.problems]
        for problem in outcome.problems:
            assert problem.message
            assert "<class" not in str(problem)


@pytest.mark.parametrize("id", EVERY)
def test_what_is_admitted_is_taken_by_libvirt_and_nothing_is_added(id: str, ask: Judge) -> None:
    for obj in instances(EVERY[id]):
        vmi = VirtualMachineInstance.model_validate(obj)
        if unsupported(DRIVER, vmi.spec):
            continue
        context = context_for(DRIVER, obj, BASE)
        if context is None or context.virt_type != "qemu":
            obj["spec"].setdefault("hypervisor", {})["virtType"] = "kvm"  # nothing to ask here without KVM
            continue
        ours = render(vmi, DRIVER, context)
        answer = ask(ours)
        assert answer.refusal == ""
        assert "lsilogic" not in answer.xml
        for path in ("devices/disk", "devices/interface"):
            wanted = [etree.tostring(one.find("address")) for one in etree.fromstring(ours).iterfind(path)]  # type: ignore[arg-type]
            there = etree.fromstring(answer.xml).findall(path)
            assert len(there) == len(wanted)


@pytest.mark.parametrize("id", [id for id, case in EVERY.items() if case.expected])
def test_what_is_expected_is_so(id: str) -> None:
    case = EVERY[id]
    problems, warnings = found(case)
    said = [str(problem) for problem in problems]
    if verdict := case.expected.get("admission"):
        assert ("refused" if problems else "accepted") == verdict, said
    for field, words in (case.expected.get("problems") or {}).items():
        assert any(problem.field == field and words in problem.message for problem in problems), said
    for words in case.expected.get("warnings") or []:
        assert any(words in warning for warning in warnings), warnings
    machines = [(r, obj) for r, obj in map(placed, case.objects()) if r is not None and r.kind in MACHINES]
    if verdicts := case.expected.get("explain"):
        (resource, whole), *_ = machines
        fits = {one.driver.name: str(one.fit) for one in explain(resource, whole, CONTEXT).drivers}
        assert {name: fits.get(name) for name in verdicts} == verdicts
    if values := case.expected.get("domain"):
        obj = next(instances(case))
        context = context_for(DRIVER, obj, BASE)
        assert context
        domain = etree.fromstring(render(VirtualMachineInstance.model_validate(obj), DRIVER, context))
        assert {path: str(domain.xpath(path)).removesuffix(".0") for path in values} == {
            path: str(value) for path, value in values.items()
        }
