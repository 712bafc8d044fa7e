"""Manifests from files, folders and standard input, each object with the place it came from.

YAML is read strictly: a key given twice is an error, because the reader and the writer of a manifest would disagree
on which one counts. Every field's line is kept, so that a refusal by the server can point into the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from polyvisor.api.reading import nested
from polyvisor.cli.errors import CliError, ExitCode

MAX_BYTES = 3 * 1024 * 1024
MAX_VALUES = 200_000
SUFFIXES = (".yaml", ".yml", ".json")
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a manifest file."""

    obj: Obj
    file: str
    line: int
    number: int
    """Which document of the file it is, counted from 1."""
    lines: dict[str, int] = field(repr=False)
    """Field path -> line."""

    @property
    def where(self) -> str:
        """``demo.yaml:12: document 2 (VirtualMachine demo)``."""
        name = nested(self.obj, "metadata").get("name") or nested(self.obj, "metadata").get("generateName", "")
        return f"{self.file}:{self.line}: document {self.number} ({self.obj.get('kind')} {name})".replace(" )", ")")

    def line_of(self, path: str) -> int:
        """Return the line of a field, or of the nearest field above it."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, self.line)


def load(sources: Iterable[str]) -> list[Manifest]:
    """Read all manifests of the given files, folders, or ``-``; raise one error that lists every problem found."""
    manifests: list[Manifest] = []
    problems: list[str] = []
    for name, text in _texts(sources):
        try:
            manifests += parse(text, name)
        except CliError as error:
            problems.append(error.message)
    if problems:
        raise CliError("\n".join(problems), ExitCode.INVALID)
    if not manifests:
        raise CliError("no objects in what -f names", ExitCode.INVALID, "A manifest starts with apiVersion and kind.")
    return manifests


def parse(text: str, name: str) -> list[Manifest]:
    """Parse one file's text."""
    if len(text) > MAX_BYTES:
        raise CliError(f"{name}: larger than {MAX_BYTES >> 20} MiB, more than a server takes", ExitCode.INVALID)
    found: list[Manifest] = []
    problems: list[str] = []
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        context = f" {error.context}:" if error.context else ""
        raise CliError(f"{place}: not valid YAML:{context} {error.problem}", ExitCode.INVALID) from error
    except yaml.YAMLError as error:
        raise CliError(f"{name}: not valid YAML: {error}", ExitCode.INVALID) from error
    for number, node in enumerate(nodes, 1):
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~")):
            continue
        reader = _Reader(name)
        value = reader.read(node, "")
        line = node.start_mark.line + 1
        problems += reader.problems or list(_shape(value, f"{name}:{line}: document {number}"))
        if isinstance(value, dict) and not reader.problems:
            if value.get("kind") == "List" and isinstance(value.get("items"), list):
                for index, item in enumerate(value["items"]):
                    at = reader.lines.get(f"items[{index}]", line)
                    problems += list(_shape(item, f"{name}:{at}: item {index + 1} of the List"))
                    found.append(Manifest(item, name, at, index + 1, _below(reader.lines, f"items[{index}]")))
            else:
                found.append(Manifest(value, name, line, number, reader.lines))
    if problems:
        raise CliError("\n".join(problems), ExitCode.INVALID)
    return found


def _texts(sources: Iterable[str]) -> Iterator[tuple[str, str]]:
    for source in sources:
        if source == "-":
            yield "<stdin>", sys.stdin.read(MAX_BYTES + 1)
            continue
        path = Path(source)
        try:
            if path.is_dir():
                files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
                if not files:
                    raise CliError(f"{source}: the folder has no {', '.join(SUFFIXES)} files", ExitCode.NOT_FOUND)
            else:
                files = [path]
            for file in files:
                with file.open(encoding="utf-8") as stream:
                    yield str(file), stream.read(MAX_BYTES + 1)
        except UnicodeDecodeError as error:
            raise CliError(f"{source}: is not text in UTF-8", ExitCode.INVALID) from error
        except FileNotFoundError as error:
            raise CliError(f"{source}: no such file", ExitCode.NOT_FOUND) from error
        except OSError as error:
            raise CliError(f"{source}: cannot be read: {error.strerror}") from error


def _shape(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: is not an object; expected apiVersion, kind and metadata"
        return
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            yield f"{where}: {key} is missing or not a string"
    if value.get("kind") == "List":
        return
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        yield f"{where}: metadata.name is missing"
    elif not isinstance(metadata.get("name", ""), str):
        yield f"{where}: metadata.name is not a string; put it in quotes"


def _below(lines: dict[str, int], prefix: str) -> dict[str, int]:
    return {path[len(prefix) + 1 :]: line for path, line in lines.items() if path.startswith(prefix + ".")}


class _Loader(yaml.SafeLoader):
    """Dates stay strings, as JSON has none."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Reader:
    """Turns composed nodes into JSON values, and notes lines and problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[str, int] = {}
        self.problems: list[str] = []
        self._scalars = _Loader("")
        self._count = 0

    def read(self, node: yaml.Node, path: str) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise CliError(f"{self.name}: its aliases expand to more than {MAX_VALUES} values", ExitCode.INVALID)
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(f"{self.name}:{line}: {path}: {str(error).splitlines()[0]}")
            return None
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            self.problems.append(f"{self.name}:{line}: {path}: {node.value} is not a number that JSON has")
        return value.decode("latin-1") if isinstance(value, bytes) else value

    def _mapping(self, node: yaml.MappingNode, path: str) -> Obj:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{self.name}:{line}: a key must be a string")
            elif key_node.value in seen:
                place = f"{path}.{key_node.value}" if path else key_node.value
                self.problems.append(
                    f"{self.name}:{line}: {place}: is given twice (first on line {seen[key_node.value]})"
                )
            else:
                seen[key_node.value] = line
        if self.problems:
            return {}
        try:
            self._scalars.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self.problems.append(f"{self.name}:{node.start_mark.line + 1}: {path}: {error.problem}")
        result: Obj = {}
        for key_node, value_node in node.value:
            place = f"{path}.{key_node.value}" if path else key_node.value
            self.lines[place] = key_node.start_mark.line + 1
            result[key_node.value] = self.read(value_node, place)
        return result
