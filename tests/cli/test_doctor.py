"""``doctor``: what is missing for which driver, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from polyvisor import prerequisites
from polyvisor.cli.doctor import doctor
from polyvisor.cli.errors import CliError
from polyvisor.cli.output import Output
from polyvisor.prerequisites import Distribution, Prerequisite

HERE = Distribution("debian", "apt-get install", "debian 12")
ENGINE = Prerequisite("package", {"debian": "engine"}, programs=("none-such",), drivers=("one",), needed_by="guests")
WING = Prerequisite(
    "package", {"debian": "wing"}, programs=("no-wing",), drivers=("one",), needed_by="flying", without="no flying"
)
GROUPS = Prerequisite("kernel", paths=("/none-such/groups",), drivers=("two",), fix="mount groups")
KERNEL = Prerequisite("kernel", paths=("/none-such/proc",), drivers=("two",))
HAD = Prerequisite("package", {"debian": "had"}, files=("/proc/self/stat",), drivers=("one", "two", "three"))


class Known:
    def __init__(self, name: str) -> None:
        self.name = name
        self.title = name.title()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr("polyvisor.cli.doctor.registry", lambda: [Known("one"), Known("two"), Known("none")])
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: HERE)

    def act(entries: Sequence[Prerequisite], *names: str, output: Output = Output.TABLE) -> tuple[int, str]:
        monkeypatch.setattr(prerequisites, "everything", lambda: tuple(entries))
        try:
            doctor(names, output)
        except SystemExit as error:
            return int(error.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    return act


def test_nothing_is_missing(run: Any) -> None:
    assert run([HAD]) == (
        0,
        "DRIVER   STATE   MISSING   WITHOUT IT\none      ready   -         -\ntwo      ready   -         -\n",
    )


def test_what_is_missing_comes_with_one_command_and_an_exit_code(run: Any) -> None:
    code, said = run([ENGINE, WING, HAD])
    assert code == 1
    assert [line.split() for line in said.splitlines()][1:3] == [
        "one incomplete none-such it does not work".split(),
        "no-wing no flying".split(),
    ]
    assert said.endswith("\nTo install or enable all of it: apt-get install engine wing\n")


def test_what_a_driver_can_do_without_is_no_failure(run: Any) -> None:
    code, said = run([WING, HAD])
    assert code == 0
    assert "no flying" in said
    assert said.endswith("\nTo install or enable all of it: apt-get install wing\n")


@pytest.mark.parametrize(
    ("entries", "names", "code", "state"),
    [
        ([GROUPS, HAD], (), 1, "incomplete"),
        ([KERNEL, HAD], (), 0, "not for this machine"),
        ([KERNEL, HAD], ("two",), 1, "not for this machine"),
        ([KERNEL, GROUPS, ENGINE, HAD], ("two",), 1, "not for this machine"),
        ([ENGINE, HAD], ("two",), 0, "ready"),
    ],
)
def test_a_driver_that_a_machine_cannot_have_fails_only_if_it_is_named(
    run: Any, entries: Sequence[Prerequisite], names: tuple[str, ...], code: int, state: str
) -> None:
    found, said = run(entries, *names, output=Output.JSON)
    assert found == code
    two = next(driver for driver in json.loads(said) if driver["name"] == "two")
    assert two["state"] == state
    assert bool(two["command"]) == (state == "incomplete")


def test_scripts_get_all_of_it(run: Any) -> None:
    _, said = run([ENGINE, HAD], "one", output=Output.JSON)
    assert json.loads(said) == [
        {
            "name": "one",
            "title": "One",
            "state": "incomplete",
            "missing": [
                {
                    "name": "none-such",
                    "package": "engine",
                    "neededBy": "guests",
                    "required": True,
                    "without": "",
                    "command": "apt-get install engine",
                }
            ],
            "command": "apt-get install engine",
        }
    ]
    assert run([ENGINE, WING, HAD], output=Output.NAME)[1] == "none-such\nno-wing\n"
    assert "apt-get install engine" in run([ENGINE, HAD], output=Output.WIDE)[1].splitlines()[1]


def test_an_unknown_driver_is_refused(run: Any) -> None:
    with pytest.raises(CliError, match="no prerequisites are known for 'none': one, two"):
        run([HAD], "none")


def test_without_a_known_distribution_the_names_are_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: None)
    code, said = run([ENGINE, HAD])
    assert (code, "none-such" in said, "To install" in said) == (1, True, False)


def test_the_list_names_drivers_that_there_are() -> None:
    from polyvisor.drivers import registry

    names = {driver.name for driver in registry()}
    assert {name for entry in prerequisites.everything() for name in entry.drivers} <= names
