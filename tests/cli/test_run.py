"""``run`` on a machine where a driver that the manifest asks for does not work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor import prerequisites
from polyvisor.cli.errors import CliError
from polyvisor.cli.run import tell_unavailable
from polyvisor.prerequisites import Distribution, Prerequisite

LACKS = {"name": "one", "title": "One", "available": False, "reason": "it is not installed; apt-get install engine"}
SLOW = {"name": "two", "title": "Two", "available": False, "reason": "the probe has not ended within 9 s; it goes on"}
WORKS = {"name": "three", "title": "Three", "available": True, "reason": ""}
ENGINE = Prerequisite("package", {"debian": "engine"}, programs=("none-such",), drivers=("one",))


@pytest.fixture(autouse=True)
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "everything", lambda: (ENGINE,))
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: Distribution("debian", "apt-get install"))


def tell(hypervisor: Mapping[str, Any], *, vm: bool = False) -> None:
    node = {"metadata": {"annotations": {"hypervisor.kubevirt.io/drivers": json.dumps([LACKS, SLOW, WORKS])}}}
    session: Any = SimpleNamespace(client=SimpleNamespace(get=lambda path: {"items": [node]}))
    spec: dict[str, Any] = {"hypervisor": hypervisor}
    tell_unavailable(session, {"metadata": {"name": "demo"}, "spec": {"template": {"spec": spec}} if vm else spec})


@pytest.mark.parametrize("vm", [False, True])
def test_what_is_missing_ends_the_wait_with_the_command(vm: bool) -> None:
    with pytest.raises(CliError) as caught:
        tell({"driver": "one"}, vm=vm)
    assert caught.value.message == (
        "demo: One is not available on this machine: it is not installed; apt-get install engine"
    )


@pytest.mark.parametrize("hypervisor", [{"driver": "two"}, {"anyOf": ["one", "two"]}])
def test_what_does_not_work_yet_is_told_and_waited_for(
    hypervisor: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(hypervisor)
    said = capsys.readouterr().err
    assert "demo: Two is not available on this machine: the probe has not ended within 9 s; it goes on\n" in said


@pytest.mark.parametrize("hypervisor", [{}, {"driver": "three"}, {"anyOf": ["one", "three"]}, {"driver": "unheard"}])
def test_nothing_is_said_where_a_driver_works_or_nobody_knows(
    hypervisor: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(hypervisor)
    assert capsys.readouterr().err == ""
