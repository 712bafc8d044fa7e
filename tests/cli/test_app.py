"""What a command line loads for one command, and that no command is forgotten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from polyvisor.cli.app import MODULES, app_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "qemu.yaml"


def _commands(word: str = "") -> set[str]:
    return set(typer.main.get_command(app_for(word)).commands)  # type: ignore[attr-defined]


def test_the_list_of_commands_is_whole() -> None:
    assert sorted(word for words in MODULES.values() for word in words.split()) == sorted(_commands())


@pytest.mark.parametrize("word", sorted(_commands()))
def test_each_command_is_found_alone(word: str) -> None:
    assert word in _commands(word)


@pytest.mark.parametrize(
    "line", [["--state-dir", "/nowhere", "version"], ["version", "--kubeconfig=x"], ["--context", "get", "version"]]
)
def test_the_command_is_told_from_global_options(line: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "polyvisor.cli", *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_word_that_is_no_command_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "polyvisor.cli", "explian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "explian" in done.stderr


def test_explain_loads_nothing_that_it_has_no_use_for() -> None:
    """It has half a second as a whole process; each of these would take a good part of it."""
    code = (
        "import sys; from polyvisor.cli.app import run; run(['explain', sys.argv[1]])\n"
        "found = {name for name, module in sys.modules.items() if module is not None}\n"
        "print(*sorted({name.split('.')[0] for name in found} | found), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code, EXAMPLE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert "polyvisor.admission" in loaded
    heavy = {"httpx", "lxml", "cryptography", "libvirt", "asyncio", "polyvisor.cli.commands_host"}
    assert loaded & (heavy | {"polyvisor.api.kubevirt.cluster"}) == set()
