"""Proof files: what a driver must say at each level, and that no proof outlives its test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from generate_proofs import LEVELS, flaws, generate

DONE = {"status": "done", "what": "seen", "show": "pytest tests/test_it.py::test_one"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").touch()
    return tmp_path


def test_a_whole_file_has_no_flaws(root: Path) -> None:
    proofs: dict[str, Any] = dict.fromkeys(LEVELS, DONE)
    proofs["real"] = {"status": "todo", "reason": "later", "lab": [{"date": "d", "against": "a", "what": "w"}]}
    assert flaws(proofs, root) == []


@pytest.mark.parametrize(
    ("real", "flaw"),
    [
        ({"status": "perhaps"}, "real.status: found 'perhaps'; accepted: done, partly, todo, exempt"),
        ({"status": "done", "what": "seen"}, "real.show: required for done"),
        ({"status": "exempt"}, "real.reason: required for exempt"),
        ({**DONE, "show": "pytest tests/gone.py"}, "real.show: there is no tests/gone.py"),
        ({**DONE, "lab": [{"date": "d", "what": "w"}]}, "real.lab[0].against: required"),
    ],
)
def test_what_is_wrong_is_named(root: Path, real: dict[str, Any], flaw: str) -> None:
    assert flaws(dict.fromkeys(LEVELS, DONE) | {"real": real}, root) == [flaw]


def test_each_level_is_answered_and_no_other(root: Path) -> None:
    proofs = {level: DONE for level in LEVELS if level != "wire"} | {"luck": DONE}
    assert flaws(proofs, root) == ["wire: missing", "luck: is not one of schema, parser, wire, real"]


def test_every_driver_is_on_the_page() -> None:
    page = generate()
    assert page.count("every machine of the corpus") >= 12
    assert "{table}" not in page
    assert "{laboratory}" not in page
