from __future__ import annotations

import copy
import string
from typing import Any

import pytest

from polyvisor.api import KubeVirt, Obj, Problem, VirtualMachine, VirtualMachineInstance, check
from polyvisor.api.checking import MAX_ITEMS, MAX_PROBLEMS, MAX_STRING


def vmi(**spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"domain": {"devices": {}}, **spec},
    }


def by_field(problems: list[Problem]) -> dict[str, Problem]:
    return {problem.field: problem for problem in problems}


def test_a_good_object_has_no_problems() -> None:
    assert check(VirtualMachineInstance, vmi()) == []


def device(**devices: Any) -> Obj:
    return {"domain": {"devices": devices}}


@pytest.mark.parametrize(
    ("spec", "field", "reason", "words"),
    [
        ({"volumess": []}, "spec.volumess", "FieldValueUnknown", "did you mean volumes?"),
        ({"xyzzy": 1}, "spec.xyzzy", "FieldValueUnknown", "known here: "),
        (
            {"resourceClaims": [{"name": "x"}]},
            "spec.resourceClaims",
            "FieldValueNotSupported",
            "not implemented by Polyvisor yet",
        ),
        ({"volumes": {}}, "spec.volumes", "FieldValueInvalid", "a list is wanted, found an object"),
        ({"volumes": [None]}, "spec.volumes[0]", "FieldValueInvalid", "found nothing"),
        ({"volumes": [{}]}, "spec.volumes[0].name", "FieldValueRequired", "required"),
        ({"hostname": 3}, "spec.hostname", "FieldValueInvalid", "write it in quotes: '3'"),
        ({"hostname": True}, "spec.hostname", "FieldValueInvalid", "write it in quotes: 'true'"),
        ({"hostname": "a\x00b"}, "spec.hostname", "FieldValueInvalid", "U+0000"),
        ({"hostname": "\ud800"}, "spec.hostname", "FieldValueInvalid", "U+D800"),
        (
            {"terminationGracePeriodSeconds": "3"},
            "spec.terminationGracePeriodSeconds",
            "FieldValueInvalid",
            "an integer",
        ),
        ({"terminationGracePeriodSeconds": True}, "spec.terminationGracePeriodSeconds", "FieldValueInvalid", "boolean"),
        ({"terminationGracePeriodSeconds": 2**63}, "spec.terminationGracePeriodSeconds", "FieldValueInvalid", "range"),
        ({"evictionStrategy": "none"}, "spec.evictionStrategy", "FieldValueNotSupported", "did you mean None?"),
        ({"nodeSelector": {"a": 1}}, "spec.nodeSelector[a]", "FieldValueInvalid", "a string is wanted"),
        ({"hypervisor": {"drivr": "qemu"}}, "spec.hypervisor.drivr", "FieldValueUnknown", "did you mean driver?"),
        ({"hypervisor": "qemu"}, "spec.hypervisor", "FieldValueInvalid", "an object is wanted, found 'qemu'"),
        ({"affinity": {"nodeAffinty": {}}}, "spec.affinity.nodeAffinty", "FieldValueUnknown", "nodeAffinity"),
        ({"domain": None}, "spec.domain", "FieldValueRequired", "required"),
    ],
)
def test_one_thing_wrong(spec: Obj, field: str, reason: str, words: str) -> None:
    problems = check(VirtualMachineInstance, vmi(**spec))
    assert [problem.field for problem in problems] == [field]
    assert problems[0].reason == reason
    assert words in problems[0].message


def test_everything_wrong_is_reported_at_once() -> None:
    obj = vmi(volumess=[], hostname=3, terminationGracePeriodSeconds="x")
    obj["spec"]["domain"] = {
        "memory": {"guest": "64MB"},
        "devices": {"disks": [{"disk": {"bus": "virtoi"}, "tag": "a"}]},
    }
    obj["kind"] = "VirtualMachine"
    obj["metadata"] = {"name": "A_b", "labels": {"-": "x"}}
    assert set(by_field(check(VirtualMachineInstance, obj))) == {
        "kind",
        "metadata.name",
        "metadata.labels",
        "spec.volumess",
        "spec.hostname",
        "spec.terminationGracePeriodSeconds",
        "spec.domain.memory.guest",
        "spec.domain.devices.disks[0].tag",
        "spec.domain.devices.disks[0].name",
        "spec.domain.devices.disks[0].disk.bus",
    }


def test_what_is_off_or_empty_asks_for_nothing() -> None:
    devices: Obj = {"gpus": [], "sound": None}
    assert check(VirtualMachineInstance, vmi(domain={"devices": devices}, subdomain="")) == []


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"utilityVolumes": [{"name": "a", "claimName": "b"}]}, "utilityVolumes", "KubeVirt's own backups fill it in"),
        (
            {"domain": {"devices": {}, "memory": {"fileBacked": {"volumeName": "one"}}}},
            "domain.memory.fileBacked",
            "unknown field: it was proposed for KubeVirt and never taken in; a node with swap space",
        ),
    ],
)
def test_what_is_not_taken_says_what_to_do_instead(spec: Obj, field: str, words: str) -> None:
    problems = by_field(check(VirtualMachineInstance, vmi(**spec)))
    assert words in problems[f"spec.{field}"].message


def test_status_is_left_alone() -> None:
    assert check(VirtualMachineInstance, {**vmi(), "status": {"newField": 1, "phase": 3}}) == []


@pytest.mark.parametrize("value", [None, 3, "x", [], True, 1.5])
def test_what_is_no_object_at_all(value: Any) -> None:
    assert [problem.field for problem in check(VirtualMachine, value)] == [""]


@pytest.mark.parametrize(
    "value", [None, 3, "x", [], {}, [[]], [{}], {"a": {}}, True, 1.5, float("nan"), 10**400, "\ud800"]
)
def test_malformed_values_give_problems_and_no_traceback(value: Any) -> None:
    """Put a value of every sort at every place of a rich object."""
    base = vmi(
        hypervisor={"driver": "qemu", "anyOf": ["qemu"]},
        nodeSelector={"a": "b"},
        tolerations=[{"key": "a"}],
        networks=[{"name": "n", "pod": {}}],
        volumes=[{"name": "v", "cloudInitNoCloud": {"userData": "x"}}],
    )
    base["metadata"] |= {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["a/b"]}

    def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        return [path] * bool(path) + [place for key in keys for place in places(node[key], (*path, key))]

    for place in places(base):
        obj = copy.deepcopy(base)
        node = obj
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        for problem in check(VirtualMachineInstance, obj):
            assert len(str(problem)) < 3000


def test_size_is_bounded() -> None:
    assert len(check(VirtualMachineInstance, vmi(**{f"x{i}": 1 for i in range(5000)}))) == MAX_PROBLEMS
    assert "at most" in check(VirtualMachineInstance, vmi(volumes=[{"name": "a"}] * (MAX_ITEMS + 1)))[0].message
    assert "at most" in check(VirtualMachineInstance, vmi(hostname="a" * (MAX_STRING + 1)))[0].message
    huge = vmi(**{"y" * 10_000: 1})
    assert len(check(VirtualMachineInstance, huge)[0].field) < 200


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "/",
        "a/b",
        "a..b",
        "-a",
        "a-",
        "A",
        "a_b",
        "a b",
        "a\n",
        "a\x00",
        "é",
        "",
        "a" * 254,
        "%2e%2e",
        "a.",
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    obj = vmi()
    obj["metadata"]["name"] = name
    assert any(problem.field == "metadata.name" for problem in check(VirtualMachineInstance, obj))
    if name != "":
        obj = vmi()
        obj["metadata"]["namespace"] = name
        assert any(problem.field == "metadata.namespace" for problem in check(VirtualMachineInstance, obj))


def test_no_accepted_name_can_be_a_path() -> None:
    for char in map(chr, range(1, 256)):
        for name in (f"a{char}b", f"{char}ab", f"ab{char}"):
            obj = vmi()
            obj["metadata"]["name"] = name
            if not check(VirtualMachineInstance, obj):
                assert set(name) <= set(string.ascii_lowercase + string.digits + "-.")
                assert ".." not in name


def test_a_name_or_a_prefix_is_wanted() -> None:
    obj = vmi()
    obj["metadata"] = {"generateName": "a-"}
    assert check(VirtualMachineInstance, obj) == []
    obj["metadata"] = {}
    assert [problem.field for problem in check(VirtualMachineInstance, obj)] == ["metadata.name"]


def test_the_configuration_is_checked_too() -> None:
    obj: Obj = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"}, "spec": {}}
    assert check(KubeVirt, obj) == []
    obj["spec"] = {"configuration": {"hypervisors": [{"nme": "qemu"}], "cpuModel": "EPYC"}}
    assert set(by_field(check(KubeVirt, obj))) == {
        "spec.configuration.hypervisors[0].nme",
        "spec.configuration.cpuModel",
    }
