"""kubectl 1.28, which still reads OpenAPI version 2 before it applies: the way of Debian's own and of many users."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.goprograms import NoGo, program

from .conftest import Run, machine

pytestmark = [pytest.mark.e2e, pytest.mark.proof]


@pytest.fixture(scope="module")
def kubectl(run: Run) -> Run:
    try:
        path = program("kubectl")
    except NoGo as error:
        pytest.fail(str(error))

    def kubectl(*arguments: str, **options: object) -> object:
        return run(path, *arguments, **options)

    return kubectl  # type: ignore[return-value]


def test_it_is_of_that_release(kubectl: Run) -> None:
    assert json.loads(kubectl("version", "-o", "json").stdout)["clientVersion"]["minor"] == "28"


def test_a_mistyped_kind_is_named(kubectl: Run) -> None:
    typo = "apiVersion: kubevirt.io/v1\nkind: VirtualMachin\nmetadata: {name: a}\n"
    failed = kubectl("apply", "-f", "-", input=typo, check=False)
    assert failed.returncode == 1
    assert 'no matches for kind "VirtualMachin" in version "kubevirt.io/v1"' in failed.stderr


def test_a_mistyped_field_is_named(kubectl: Run) -> None:
    wrong = machine("older")
    wrong["spec"]["template"]["spec"]["domain"]["devices"]["nonsense"] = True
    failed = kubectl("apply", "-f", "-", input=json.dumps(wrong), check=False)
    assert failed.returncode == 1
    assert "nonsense" in failed.stderr


def test_a_machine_from_apply_to_delete(kubectl: Run) -> None:
    text = yaml.safe_dump(machine("older"))
    assert "created" in kubectl("apply", "-f", "-", input=text).stdout
    assert "unchanged" in kubectl("apply", "-f", "-", input=text).stdout
    assert "configured" in kubectl("apply", "-f", "-", input=text.replace("96Mi", "97Mi")).stdout
    assert "runStrategy" in kubectl("explain", "vm.spec").stdout
    assert "older" in kubectl("get", "vm").stdout
    assert "deleted" in kubectl("delete", "vm", "older").stdout


def test_what_is_not_in_a_set_any_more_is_pruned(kubectl: Run) -> None:
    both = yaml.safe_dump_all([machine("one", part="set"), machine("two", part="set")])
    kubectl("apply", "-f", "-", input=both)
    pruned = kubectl(
        *("apply", "-f", "-", "--prune", "-l", "part=set", "--prune-allowlist", "kubevirt.io/v1/VirtualMachine"),
        input=yaml.safe_dump(machine("one", part="set")),
    )
    assert "two pruned" in pruned.stdout
    kubectl("delete", "vm", "one")


def test_default_pruning_asks_for_kinds_that_are_listed(kubectl: Run) -> None:
    one = yaml.safe_dump(machine("alone", part="default"))
    assert "created" in kubectl("apply", "-f", "-", "--prune", "-l", "part=default", input=one).stdout
    kubectl("delete", "vm", "alone")
