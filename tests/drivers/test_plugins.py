"""Plug-ins that are broken in every way are left out by name and with what is wrong; the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.drivers import GROUP, contract_flaws, is_own, load, registry
from polyvisor.drivers.base import Support, Verdict
from polyvisor.drivers.verdict import unsupported
from polyvisor.testing import DriverKit
from tests.drivers_for_tests import FakeDriver

HERE = __name__
WHOLE = EntryPoint("whole", f"{HERE}:Whole", GROUP)


class Whole(FakeDriver):
    def __init__(self) -> None:
        super().__init__("whole")


class Raises(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken")

    @property
    def features(self) -> dict[str, Support]:
        raise KeyError("a table\nwith a mistake")


class Exits:
    def __init__(self) -> None:
        sys.exit("not today")


class NoSource(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken", table={"rng": Support(Verdict.SUPPORTED, "")})


class NoReason(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken", table={"rng": Support(Verdict.UNSUPPORTED, "somewhere")})


class NoSupport(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken", table={"rng": True})  # type: ignore[dict-item]


class NoTypes(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken", virt_types=())


class OneWord(FakeDriver):
    def __init__(self) -> None:
        super().__init__("broken", virt_types="kvm")  # type: ignore[arg-type]


class Abstract(FakeDriver.__mro__[1]):  # type: ignore[misc]
    name = "broken"


class OtherName(FakeDriver):
    def __init__(self) -> None:
        super().__init__("other")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no.such.module:Driver", "ModuleNotFoundError: No module named 'no'"),
        ("json:nothing", "AttributeError: module 'json' has no attribute 'nothing'"),
        ("json:JSONDecoder", "it is not a subclass of polyvisor.drivers.base.Driver"),
        (f"{HERE}:Raises", "KeyError: 'a table\\nwith a mistake'"),
        (f"{HERE}:Exits", "SystemExit: not today"),
        (f"{HERE}:NoSource", "rng: no source is given"),
        (f"{HERE}:NoReason", "rng: no reason is given"),
        (f"{HERE}:NoSupport", "rng: the answer is not a Support"),
        (f"{HERE}:NoTypes", "it lacks virt_types"),
        (f"{HERE}:OneWord", "virt_types is not a tuple of texts"),
        (f"{HERE}:Abstract", "Can't instantiate abstract class Abstract"),
        (f"{HERE}:OtherName", "it calls itself other"),
    ],
)
def test_a_broken_plug_in_is_named_and_left_out(value: str, says: str) -> None:
    found = load([EntryPoint("broken", value, GROUP), WHOLE])
    assert found.names() == ("whole",)
    (problem,) = found.problems
    assert problem.startswith(f"driver broken ({value}) is left out: ")
    assert says in problem
    assert "\n" not in problem


def test_a_name_that_is_taken_is_refused_and_nobody_takes_polyvisors_own() -> None:
    own = registry().names()[0]
    value = type(registry().get(own))
    ours = EntryPoint(own, f"{value.__module__}:{value.__name__}", GROUP)
    theirs = EntryPoint(own, f"{HERE}:Usurper", GROUP)
    found = load([theirs, ours])
    assert type(found.get(own)) is value
    assert found.problems == (f"driver {own} ({HERE}:Usurper) is left out: another driver has this name",)


def test_the_same_driver_found_twice_is_no_problem() -> None:
    assert load([WHOLE, WHOLE]).problems == ()


class Usurper(FakeDriver):
    def __init__(self) -> None:
        super().__init__(registry().names()[0])


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A folder with an installed package whose driver cannot be imported."""
    info = tmp_path / "broken_driver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-driver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nbroken = broken_driver:Driver\n")
    (tmp_path / "broken_driver.py").write_text("raise RuntimeError('out of order')\n")
    return tmp_path


@pytest.mark.parametrize("command", [["features", "--feature", "rng"], ["explain", "examples"], ["drivers"]])
def test_the_command_line_tells_of_it_and_goes_on(installation: Path, command: list[str]) -> None:
    state = installation / "state"
    environment = os.environ | {"PYTHONPATH": os.fspath(installation), "POLYVISOR_STATE_DIR": os.fspath(state)}
    done = subprocess.run(
        [sys.executable, "-m", "polyvisor.cli", *command],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    line = "driver broken (broken_driver:Driver) is left out: RuntimeError: out of order"
    assert done.stderr.splitlines().count(line) == 1
    assert done.returncode == 0
    assert registry().names()[0] in done.stdout


class Newer(FakeDriver):
    api = 2

    def __init__(self) -> None:
        super().__init__("newer")


class Silent(FakeDriver):
    api = 0

    def __init__(self) -> None:
        super().__init__("silent")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Newer, "it is written for version 2 of the contract; this Polyvisor has version 1"),
        (Silent, "it does not say its api; this Polyvisor has version 1"),
    ],
)
def test_a_driver_of_another_version_of_the_contract_is_left_out(kind: type[FakeDriver], words: str) -> None:
    name = kind.__name__.lower()
    loaded = load([WHOLE, EntryPoint(name, f"{HERE}:{kind.__name__}", GROUP)])
    assert loaded.names() == ("whole",)
    (problem,) = loaded.problems
    assert words in problem


def test_polyvisors_own_drivers_follow_the_contract_without_saying_so() -> None:
    assert all(is_own(driver) and contract_flaws(driver, driver.name) == [] for driver in registry())
    assert not is_own(Whole())


class Older(FakeDriver):
    """Written before one of the features was there."""

    def __init__(self) -> None:
        super().__init__("older")
        self._table = {id_: support for id_, support in self._table.items() if id_ != "rng"}


class OlderKit(DriverKit):
    driver = Older()


def test_a_missing_answer_of_another_package_is_unknown_and_no_flaw() -> None:
    OlderKit().test_table_answers_every_feature_and_no_other()
    OlderKit().test_keeps_the_contract()
    spec = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": {"rng": {}}}})
    ((feature, field, support),) = unsupported(OlderKit.driver, spec)
    assert (feature.id, field, support.verdict) == ("rng", "spec.domain.devices.rng", Verdict.UNKNOWN)


CLAIM = """
from polyvisor.testing import claims
from tests.drivers_for_tests import FakeDriver, no

DRIVER = FakeDriver("alpha", table={"rng": no("it has none")})

@claims(DRIVER, "rng")
def test_unexpected():
    pass

@claims(DRIVER, "rng")
def test_as_the_table_says():
    raise AssertionError

@claims(DRIVER, "tpm")
def test_supported():
    pass

@claims(DRIVER, "tpm")
def test_contradicted():
    raise AssertionError
"""


def test_an_unsupported_answer_whose_test_passes_fails_the_suite(tmp_path: Path) -> None:
    (tmp_path / "test_claims.py").write_text(CLAIM)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-rA", "-p", "no:cacheprovider", tmp_path]
    environment = os.environ | {"PYTHONPATH": os.fspath(root)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    words = dict(reversed(line.split(" ")[:2]) for line in done.stdout.splitlines() if "::test_" in line)
    assert {name.partition("::")[2]: word for name, word in words.items()} == {
        "test_unexpected": "FAILED",
        "test_as_the_table_says": "XFAIL",
        "test_supported": "PASSED",
        "test_contradicted": "FAILED",
    }, done.stdout
