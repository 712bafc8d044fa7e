"""The documents are true: links lead somewhere, commands and options exist, manifests are admitted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
import yaml

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import MIGRATIONS, by_kind
from polyvisor.cli.app import app_for
from polyvisor.drivers import registry

TOP = Path(__file__).resolve().parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
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


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_to_headings(page: Path) -> None:
    found = [(path, anchor) for path, anchor in ANCHOR.findall(page.read_text()) if "://" not in path]
    inside = [(page.parent / path if path else page, anchor) for path, anchor in found]
    assert [(path.name, anchor) for path, anchor in inside if anchor not in headings(path)] == []


def test_the_architecture_names_modules_that_there_are() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`(?:polyvisor/)?([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", text))
    assert len(named) > 40
    rooms = (
        TOP / "polyvisor",
        TOP / "polyvisor" / "admission",
        TOP / "polyvisor" / "agent",
        TOP / "polyvisor" / "agent" / "platform",
        TOP / "polyvisor" / "agent" / "platform" / "endpoint",
        TOP,
    )
    assert [name for name in sorted(named) if not any((room / name).exists() for room in rooms)] == []


def test_each_attack_and_vulnerability_names_tests_that_there_are() -> None:
    rows = [line for line in (TOP / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")]
    vulnerabilities = [row for row in rows if row.startswith("| CVE-")]
    assert len(vulnerabilities) == len({row.split()[1] for row in vulnerabilities}) >= 20
    tests: list[str] = []
    for row in rows:
        named = re.findall(r"`(tests/\S+)`", row)
        tests += named
        assert named or not row.startswith("| CVE-"), row
    assert tests
    assert [name for name in tests if not (TOP / name).exists()] == []


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
    command = known[name]
    if words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert [word for word in words if word.startswith("-") and word.partition("=")[0] not in options] == []


def test_the_command_line_page_names_every_command() -> None:
    rows = "\n".join(line for line in (TOP / "docs" / "cli.md").read_text().splitlines() if line.startswith("| `"))
    known = typer.main.get_command(app_for()).commands  # type: ignore[attr-defined]
    words = {name for name, command in known.items() if not command.hidden}
    words |= {inner for command in known.values() for inner in getattr(command, "commands", {})}
    assert sorted(word for word in words if not re.search(rf"[` ]{word}[` ]", rows)) == []


def test_the_index_lists_every_page() -> None:
    index = (TOP / "docs" / "README.md").read_text()
    pages = [path.relative_to(TOP / "docs") for path in (TOP / "docs").rglob("*.md")]
    assert [str(page) for page in sorted(pages) if f"({page})" not in index and page.parts[0] != "decisions"] == [
        "README.md"
    ]


MOVABLE = {"metadata": {"name": "my-vm"}, "status": {"phase": "Running"}}
"""What a manifest of a migration names."""


@pytest.mark.parametrize(("page", "text"), list(fenced("yaml")), ids=lambda value: getattr(value, "stem", ""))
def test_manifests_are_admitted(page: Path, text: str) -> None:
    for obj in yaml.safe_load_all(text):
        resource = PVS if obj["kind"] == PVS.kind else by_kind(obj["apiVersion"], obj["kind"])
        assert resource is not None, obj["kind"]
        obj["metadata"].setdefault("namespace", "default")
        context = AdmissionContext({}, registry())
        if resource == MIGRATIONS:
            context = replace(context, lookup=lambda *_: MOVABLE)
        assert admit("CREATE", resource, obj, None, context).problems == []


def test_every_driver_has_a_page() -> None:
    assert [name for name in registry().names() if not (TOP / "docs" / "drivers" / f"{name}.md").exists()] == []


VALUES = re.compile(r"\.\.\.|LXC|qemu|Readiness|=")
"""Where a quoted message has something of the case at hand."""
KUBERNETES = {"exceeded quota"}
"""Words that are not ours."""


def said() -> Iterator[str]:
    """Yield each text of the code; what is put into it is left out."""
    for path in (TOP / "polyvisor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(one.value if isinstance(one, ast.Constant) else "\0" for one in node.values)  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_that_are_explained_are_said() -> None:
    rows = [line for line in (TOP / "docs/troubleshooting.md").read_text().splitlines() if line.startswith("| ")][1:]
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    every = "\n".join(said())
    parts = {part.strip(" :;") for text in quoted for part in VALUES.split(text)} - {"", *KUBERNETES}
    assert len(parts) > 40
    assert [part for part in sorted(parts) if part not in every] == []
