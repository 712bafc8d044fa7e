"""What admission costs grows with an object's size and no faster, and its answer has a bound of its own.

Work is counted in calls, not in time: the profiler sees each call of a function, of ours or of the interpreter's.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit, limits
from polyvisor.api import Obj
from polyvisor.api.checking import MAX_ITEMS, MAX_PROBLEMS
from polyvisor.api.problems import invalid_status
from polyvisor.api.resources import REPLICA_SETS, VMIS, VMS, Resource
from polyvisor.drivers import registry

MAX_ANSWER = 300_000
"""Bytes of the longest refusal: a hundred problems, each told twice, and their paths."""
CALLS_PER_BYTE = 20
FIXED_CALLS = 200_000
Make = Callable[[int, random.Random], Obj]


def machine(**spec: Any) -> Obj:
    domain = {"devices": {key: spec.pop(key) for key in ("disks", "interfaces", "filesystems", "gpus") if key in spec}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"domain": {**domain, **spec.pop("domain", {})}, **spec},
    }


def name(number: int) -> str:
    return f"{number:03}".ljust(63, "x")


def disks_without_volumes(many: int, _: random.Random) -> Obj:
    volumes = [{"name": name(number), "emptyDisk": {"capacity": "1Mi"}} for number in range(many)]
    return machine(disks=[{"name": f"d{number}", "disk": {}} for number in range(many)], volumes=volumes)


def one_name_for_all(many: int, _: random.Random) -> Obj:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}] * many
    return machine(disks=[{"name": "v", "disk": {}}] * many, volumes=volumes, filesystems=[{"name": "v"}] * many)


def networks_without_interfaces(many: int, _: random.Random) -> Obj:
    networks = [{"name": name(number), "pod": {}} for number in range(many)]
    cards = [{"name": f"i{number}", "masquerade": {}, "macAddress": "02:00:00:00:00:01"} for number in range(many)]
    return machine(interfaces=cards, networks=networks)


def unknown_fields(many: int, _: random.Random) -> Obj:
    return machine(**{f"field{number}": number for number in range(many)})


def long_names(many: int, _: random.Random) -> Obj:
    return machine(disks=[{"name": "n" * 1000, "disk": {}, "e" * 500: 1} for _ in range(many)])


def many_features(many: int, _: random.Random) -> Obj:
    card = {"name": "i", "sriov": {}, "model": "e1000", "state": "down", "tag": "x", "acpiIndex": 1}
    gpus = [{"name": name(number), "deviceName": "vendor/gpu"} for number in range(many)]
    return machine(interfaces=[card] * many, gpus=gpus, networks=[{"name": "i", "multus": {"networkName": "n"}}] * many)


def drawn(many: int, chance: random.Random) -> Obj:
    """Return an object of words that mean something, in places where they may not."""
    words = ["disks", "volumes", "name", "disk", "bus", "virtio", "interfaces", "networks", "pod", "masquerade", "cpu"]
    words += ["devices", "domain", "resources", "requests", "memory", "containerDisk", "image", "a" * 300, "", "\u2603"]

    def value(depth: int) -> Any:
        kind = chance.randrange(7 if depth < 6 else 4)
        if kind < 4:
            return [chance.choice(words), chance.randrange(-5, 1 << 40), None, chance.random() < 0.5][kind]
        if kind == 4:
            return [value(depth + 1) for _ in range(chance.randrange(many))]
        return {chance.choice(words): value(depth + 1) for _ in range(chance.randrange(8))}

    return machine(**{chance.choice(words[:9]): value(0) for _ in range(6)})


MAKERS: list[Make] = [
    disks_without_volumes,
    one_name_for_all,
    networks_without_interfaces,
    unknown_fields,
    long_names,
    many_features,
]


def as_kind(resource: Resource, vmi: Obj) -> Obj:
    if resource == VMIS:
        return vmi
    template = {"metadata": {"labels": {"a": "b"}}, "spec": vmi["spec"]}
    spec: Obj = {"template": template}
    spec |= {"runStrategy": "Always"} if resource == VMS else {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}
    return {**vmi, "kind": resource.kind, "spec": spec}


def cost(resource: Resource, obj: Obj) -> tuple[int, int, int]:
    """Return calls, problems and the length of the answer."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = admit("CREATE", resource, obj, None, AdmissionContext({}, registry()))
    finally:
        sys.setprofile(before)
    answer = json.dumps(invalid_status(resource.kind, resource.group, "one", found.problems))
    return calls, len(found.problems), len(answer)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("resource", [VMIS, VMS, REPLICA_SETS], ids=lambda resource: resource.plural)
@pytest.mark.parametrize("many", [10, 200, MAX_ITEMS, 20_000])
def test_work_and_answer_are_bounded_by_the_size(resource: Resource, make: Make, many: int) -> None:
    obj = as_kind(resource, make(many, random.Random(1)))
    calls, problems, length = cost(resource, obj)
    size = len(json.dumps(obj))
    assert problems <= MAX_PROBLEMS + 1
    assert length <= MAX_ANSWER
    assert calls <= FIXED_CALLS + CALLS_PER_BYTE * size


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_drawn_is_answered_within_the_bounds(seed: int) -> None:
    chance = random.Random(seed)
    obj = drawn(chance.choice([4, 12, 40]), chance)
    calls, problems, length = cost(VMIS, obj)
    assert problems <= MAX_PROBLEMS + 1
    assert length <= MAX_ANSWER
    assert calls <= FIXED_CALLS + CALLS_PER_BYTE * len(json.dumps(obj))


def deep(levels: int) -> Obj:
    obj: Obj = {}
    for _ in range(levels):
        obj = {"a": obj}
    return obj


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"volumes": [{}] * (MAX_ITEMS + 1)}, "at most 1024 are accepted"),
        ({"more": [[0] * 1000] * 100}, "more than 50000 values"),
        ({"more": deep(limits.MAX_NESTING)}, "nested deeper than 64 levels"),
    ],
)
def test_what_is_too_large_is_refused_before_any_rule(spec: Obj, words: str) -> None:
    found = admit("CREATE", VMIS, machine(**spec), None, AdmissionContext({}, registry()))
    assert len(found.problems) == 1
    assert words in found.problems[0].message


def test_an_object_that_is_going_is_not_held_up_by_limits() -> None:
    old = machine(volumes=[{}] * (MAX_ITEMS + 1))
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not admit("UPDATE", VMIS, old, old, AdmissionContext({}, registry())).problems


def test_a_message_lists_a_few_names() -> None:
    obj = disks_without_volumes(50, random.Random(1))
    found = admit("CREATE", VMIS, obj, None, AdmissionContext({}, registry()))
    message = next(one.message for one in found.problems if "no volume has the name" in one.message)
    assert "and 40 more" in message
