"""Write ``docs/cli-reference.md`` from the command line itself: ``python tools/generate_cli.py [--check]``."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from pages import write_page

from polyvisor.cli.app import app_for

PATH = Path(__file__).resolve().parent.parent / "docs" / "cli-reference.md"
HEAD = """<!-- Written by tools/generate_cli.py from polyvisor/cli. Change that. -->
# Command line reference

Every command with its arguments and options, as `polyvisor COMMAND -h` prints them. [The command line](cli.md) groups
the commands and explains the exit codes.
"""


def generate() -> str:
    """Return the page's text."""
    root = typer.main.get_command(app_for())
    parts = [HEAD, "## Options of every command\n", *_table(root.params)]
    for name, command in _commands(root, ("polyvisor",)):
        about = textwrap.fill(_sentence(command.help), 120, break_on_hyphens=False)
        parts += [f"## {name}\n", f"{about}\n", f"    {_usage(name, command)}\n", *_table(command.params)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, with its name; those that are refused are hidden and left out."""
    if not (inner := getattr(command, "commands", None)):
        yield " ".join(words), command
        return
    for word, one in inner.items():
        if not one.hidden:
            yield from _commands(one, (*words, word))


def _usage(name: str, command: Any) -> str:
    words = [name]
    for one in command.params:
        if one.param_type_name == "argument":
            word = _argument(one)
            words.append(word if one.required or word.startswith("[") else f"[{word}]")
    return " ".join([*words, "[OPTIONS]"])


def _argument(argument: Any) -> str:
    return argument.metavar or str(argument.name).upper() + ("..." if argument.nargs == -1 else "")


def _table(parameters: list[Any]) -> list[str]:
    rows = [f"| {_names(one)} | {_cell(one.help)} |" for one in parameters if _shown(one)]
    return ["\n".join(["| | meaning |", "|---|---|", *rows]) + "\n"] if rows else []


def _shown(parameter: Any) -> bool:
    return bool(parameter.help) and not parameter.hidden and "completion" not in parameter.name


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(_argument(parameter))}`"
    words = sorted(parameter.opts, key=lambda one: one.startswith("--"))
    words += parameter.secondary_opts if parameter.default else []
    value = "" if parameter.is_flag else f" `{_cell(_value(parameter))}`"
    return ", ".join(f"`{word}`" for word in words) + value


def _value(option: Any) -> str:
    """Return what stands for the option's value: its choices, or a word in capitals."""
    annotation = option.type_descriptor.annotation
    choices = list(annotation) if isinstance(annotation, type) and issubclass(annotation, Enum) else []
    word = str(option.name).strip("_").replace("_", "-").upper()
    return option.metavar or "|".join(str(one.value) for one in choices) or word


def _cell(text: str) -> str:
    return _sentence(text).replace("|", "\\|")


def _sentence(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


if __name__ == "__main__":
    sys.exit(write_page(PATH, generate, __doc__))
