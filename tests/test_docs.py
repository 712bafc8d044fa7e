"""The documents are true: links lead somewhere, commands and options exist, manifests are admitted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import by_kind
from polyvisor.cli.app import app_for
from polyvisor.drivers import registry

TOP = Path(__file__).resolve().parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for found, text in FENCE.findall(page.read_text()):
            if found == language:
                yield page, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def commands() -> Iterator[str]:
    for _, text in fenced("shell"):
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("polyvisor"):
                yield " ".join(words[1:])


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_exist_with_their_options(line: str) -> None:
    name, *words = line.split()
    known = typer.main.get_command(app_for()).commands  # type: ignore[attr-defined]
    assert name in known
    options = {option for parameter in known[name].params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert [word for word in words if word.startswith("-") and word.partition("=")[0] not in options] == []


@pytest.mark.parametrize(("page", "text"), list(fenced("yaml")), ids=lambda value: getattr(value, "stem", ""))
def test_manifests_are_admitted(page: Path, text: str) -> None:
    for obj in yaml.safe_load_all(text):
        resource = by_kind(obj["apiVersion"], obj["kind"])
        assert resource is not None, obj["kind"]
        obj["metadata"].setdefault("namespace", "default")
        assert admit("CREATE", resource, obj, None, AdmissionContext({}, registry())).problems == []


def test_every_driver_has_a_page() -> None:
    assert [name for name in registry().names() if not (TOP / "docs" / "drivers" / f"{name}.md").exists()] == []
