"""What a machine has of its node to itself: rules that are told before it waits for what no node can give."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS
from tests.admission.conftest import instance


def problems(domain: Obj, context: AdmissionContext) -> dict[str, str]:
    """Return what is said of a machine with this memory, these CPUs and resources."""
    obj = instance(lambda spec: spec["domain"].update({"memory": None, **domain}))
    found = admit("CREATE", VMIS, obj, None, context).problems
    return {problem.field.removeprefix("spec.domain."): problem.message for problem in found if not problem.feature}


def pages(size: Any, guest: str | None = None, **resources: Any) -> Obj:
    memory = {"hugepages": {"pageSize": size}, **({"guest": guest} if guest else {})}
    return {"memory": memory, "resources": resources}


@pytest.mark.parametrize(
    ("domain", "field", "words"),
    [
        (pages("3Ki", "96Mi"), "memory.hugepages.pageSize", "'3Ki' is no size of a page such as 2Mi or 1Gi"),
        (pages("4Ki", "96Mi"), "memory.hugepages.pageSize", "no size of a page"),
        (pages("-2Mi", "96Mi"), "memory.hugepages.pageSize", "no size of a page"),
        (pages("a lot", "96Mi"), "memory.hugepages.pageSize", "no size of a page"),
        ({"memory": {"guest": "96Mi", "hugepages": {}}}, "memory.hugepages.pageSize", "required"),
        (pages("1Gi", "96Mi"), "memory.guest", "found 96Mi; with huge pages of 1Gi it is at least one page"),
        (pages("2Mi", "97Mi"), "memory.guest", "found 97Mi, no multiple of the page size 2Mi"),
        (pages("2Mi", "97Mi"), "memory.guest", "; 96Mi or 98Mi are accepted"),
        (pages("2Mi", None, requests={"memory": "65Mi"}), "memory.guest", "found 65Mi, no multiple"),
        (pages("2Mi", "96Mi", requests={"memory": "64Mi"}), "resources.requests[memory]", "at least the guest's, 96Mi"),
        (pages("2Mi", "96Mi", limits={"memory": "64Mi"}), "memory.guest", "more than the limit"),
    ],
)
def test_pages_that_do_not_add_up_are_refused(domain: Obj, field: str, words: str, context: AdmissionContext) -> None:
    assert words in problems(domain, context)[field]


@pytest.mark.parametrize(
    "domain",
    [
        pages("2Mi", "96Mi"),
        pages("1Gi", "2Gi"),
        pages("2048Ki", "96Mi"),
        pages("2Mi", "64Mi", requests={"memory": "96Mi"}, limits={"memory": "96Mi"}),
    ],
)
def test_pages_that_add_up_are_accepted(domain: Obj, context: AdmissionContext) -> None:
    assert problems(domain, context) == {}


def own(cpu: Obj, **resources: Any) -> Obj:
    domain = {"memory": {"guest": "96Mi"}, "cpu": {"dedicatedCpuPlacement": True, **cpu}}
    return {**domain, "resources": resources}


@pytest.mark.parametrize(
    ("domain", "field", "words"),
    [
        (
            {"memory": {"guest": "96Mi"}, "cpu": {"isolateEmulatorThread": True}},
            "cpu.isolateEmulatorThread",
            "set dedicatedCpuPlacement as well",
        ),
        (own({}, requests={"cpu": "1500m"}), "resources.requests[cpu]", "found 1500m; a whole number"),
        (own({}, limits={"cpu": "0"}), "resources.limits[cpu]", "found 0; a whole number"),
        (own({"cores": 2}, requests={"cpu": "3"}), "resources.requests[cpu]", "make 2, and both are the same"),
        (own({}, requests={"cpu": 1}, limits={"cpu": 2}), "resources.requests[cpu]", "found 1; with CPUs of its own"),
        (
            own({"cores": 1}, requests={"memory": "96Mi"}, limits={"memory": "128Mi"}),
            "resources.requests[memory]",
            "requests its limit, 128Mi",
        ),
        (
            own({"cores": 4, "threads": 3}),
            "cpu.threads",
            "found 3; with CPUs of its own a machine has at most 2 threads",
        ),
        (own({"sockets": 1, "maxSockets": 2}), "cpu.maxSockets", "found 2; a machine with CPUs of its own"),
    ],
)
def test_cpus_that_no_kubelet_would_give_are_refused(
    domain: Obj, field: str, words: str, context: AdmissionContext
) -> None:
    assert words in problems(domain, context)[field]


@pytest.mark.parametrize(
    "domain",
    [
        own({}),
        own({"cores": 2, "threads": 2, "isolateEmulatorThread": True}),
        own({}, limits={"cpu": "2", "memory": "128Mi"}),
        own({"cores": 2}, requests={"cpu": 2, "memory": "96Mi"}, limits={"cpu": "2", "memory": "96Mi"}),
    ],
)
def test_cpus_of_a_machines_own_are_accepted(domain: Obj, context: AdmissionContext) -> None:
    assert problems(domain, context) == {}
