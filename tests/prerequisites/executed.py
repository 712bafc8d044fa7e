"""Which programs this repository's code runs, read from the code itself.

A call that starts a program is followed back to the words of its command: through literals, names, conditions, and
through the parameters of functions that pass a command on, whose callers are looked at then. What cannot be followed is
reported by its place, so that nothing is passed over silently.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.prerequisites.shell_words import programs as shell_programs

NAME = re.compile(r"[\w./+*-]+")
"""What a program's name can be; other texts are scripts that a wrapper is given."""
OWN = "<own>"
"""A program of the project's own: its virtual environment, what it builds."""
WRAPPERS = {"nice", "nsenter", "setpriv", "sudo", "timeout", "unshare", "env"}
WITH_VALUE = {"--pdeathsig", "--propagation", "--reuid", "--regid", "--target"}
"""Their options that are followed by a value."""
SHELLS = {"bash", "sh"}
STARTS = {
    *(("subprocess", name) for name in ("run", "Popen", "check_output", "check_call", "call")),
    ("os", "execv"), ("os", "execvp"), ("os", "execve"), ("os", "execvpe"), ("shutil", "which"), ("ctypes", "CDLL"),
}  # fmt: skip
STARTS_WORDS = {("asyncio", "create_subprocess_exec")}
STARTING = {name for _, name in STARTS | STARTS_WORDS} | {"map"}
SAME = {"str", "fspath", "Path", "tuple", "list", "cast", "abspath"}


@dataclass
class Module:
    path: Path
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    names: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))
    """Assignments at the top."""
    imported: dict[str, str] = field(default_factory=dict)
    """Name here -> dotted name."""
    dotted: str = ""
    calls: list[ast.Call] = field(default_factory=list)


@dataclass(frozen=True)
class Function:
    """One that passes a command on."""

    module: str
    name: str
    method: bool

    def called_by(self, module: Module, function: ast.expr) -> bool:
        """Say whether a call may be one of it; for methods, whether the file knows the method's module."""
        match function:
            case ast.Name(id=name):
                if self.module == module.dotted and not self.method:
                    return name == self.name
                return module.imported.get(name) == f"{self.module}.{self.name}"
            case ast.Attribute(value=value, attr=name) if name == self.name:
                if not self.method:
                    return isinstance(value, ast.Name) and module.imported.get(value.id) == self.module
                if isinstance(value, ast.Name) and value.id in module.imported:
                    return False
                known = (found.rpartition(".")[0] for found in module.imported.values())
                return self.module == module.dotted or self.module in known
            case _:
                return False


@dataclass
class Found:
    """Programs with the places that run them, and places that could not be followed."""

    programs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    unknown: set[str] = field(default_factory=set)


class Reader:
    """Reads files and follows commands through them."""

    def __init__(self, top: Path, files: Sequence[Path]) -> None:
        self._top = top
        self._modules = [_load(path, top) for path in files]
        self._constants: dict[str, list[tuple[Module, ast.expr]]] = defaultdict(list)
        for module in self._modules:
            for name, values in module.names.items():
                self._constants[name] += [(module, value) for value in values]
        self._functions: dict[str, list[tuple[Module, ast.expr]]] = defaultdict(list)
        """Function at the top of a module -> what it returns."""
        for module in self._modules:
            for function in module.tree.body:
                if isinstance(function, ast.FunctionDef):
                    returned = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
                    self._functions[function.name] += [(module, value) for value in returned if value]
        self._passed: dict[tuple[Function, int | str], bool] = {}
        """(function, parameter's place or name) -> whether it is one word of several (``*words``)."""
        self.found = Found()

    def read(self) -> Found:
        while True:
            before = len(self._passed)
            self.found = Found()
            passing = {function.name for function, _ in self._passed} | STARTING
            for module in self._modules:
                for call in module.calls:
                    if _called(call) in passing:
                        self._call(module, call)
            if len(self._passed) == before:
                return self.found

    def _call(self, module: Module, call: ast.Call) -> None:
        function = call.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            key = (function.value.id, function.attr)
            if key in STARTS and call.args:
                return self._command(module, call, call.args[0])
            if key in STARTS_WORDS and call.args:
                return self._words(module, call, call.args)
        if isinstance(function, ast.Name) and function.id == "map" and _is_which(call.args[0]):
            for each in _each(module, ast.Name("_"), call.args[1], "_"):
                self._command(module, call, each)
        for (passed, place), several in list(self._passed.items()):
            if not passed.called_by(module, function):
                continue
            if isinstance(place, int) and len(call.args) > place:
                if several:
                    self._words(module, call, call.args[place:])
                else:
                    self._command(module, call, call.args[place])
            for keyword in call.keywords:
                if keyword.arg == place:
                    self._command(module, call, keyword.value)
        return None

    def _words(self, module: Module, call: ast.Call, words: Sequence[ast.expr]) -> None:
        self._command(module, call, ast.copy_location(ast.Tuple(list(words), ast.Load()), call), owner=call)

    def _command(self, module: Module, call: ast.Call, command: ast.expr, owner: ast.AST | None = None) -> None:
        place = f"{module.path.relative_to(self._top)}:{call.lineno}"
        for word in self._resolve(module, command, owner or call, 0):
            if word is None:
                self.found.unknown.add(place)
            elif word != OWN and NAME.fullmatch(word):
                self.found.programs[word].add(place)

    def _resolve(self, module: Module, node: ast.expr, at: ast.AST, depth: int) -> Iterator[str | None]:
        """Yield the programs that an expression can name; None for what cannot be followed."""
        if depth > 12:
            yield None
            return
        deeper = depth + 1
        match node:
            case ast.Constant(value=str() as text):
                yield text
            case ast.Constant(value=None):
                return
            case ast.JoinedStr(values=values):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in values)
                yield OWN if text.startswith("*") and "/" in text else text
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                yield from self._sequence(module, elements, at, deeper)
            case ast.Starred(value=value):
                yield from self._resolve(module, value, at, deeper)
            case ast.BinOp(op=ast.Div()):
                yield OWN
            case ast.BinOp(left=left, op=ast.Add()):
                yield from self._resolve(module, left, at, deeper)
            case ast.IfExp(body=body, orelse=other):
                yield from self._resolve(module, body, at, deeper)
                yield from self._resolve(module, other, at, deeper)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self._resolve(module, value, at, deeper)
            case ast.NamedExpr(value=value):
                yield from self._resolve(module, value, at, deeper)
            case ast.Attribute(value=ast.Name(id="sys"), attr="executable"):
                yield OWN
            case ast.Attribute(attr=attr) if attr.isupper():
                yield from self._constant(attr, at, deeper)
            case ast.Subscript(value=value, slice=ast.Constant(value=0) | ast.Slice(lower=None)):
                yield from self._resolve(module, value, at, deeper)
            case ast.Call(func=ast.Attribute(attr="which"), args=[found, *_]):
                yield from self._resolve(module, found, at, deeper)
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[inner, *_]) if name in SAME:
                yield from self._resolve(module, inner, at, deeper)
            case ast.Call(func=ast.Name(id="map"), args=[_, inner]):
                yield from self._resolve(module, inner, at, deeper)
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str() as text), attr="split")):
                yield text.split()[0]
            case ast.Call(func=ast.Attribute(attr="with_name")):
                yield OWN
            case ast.Call(func=ast.Name(id=name)) if returned := self._returned(module, name):
                for other, value in returned:
                    yield from self._resolve(other, value, value, deeper)
            case ast.Name(id=name):
                yield from self._name(module, name, node if node in module.parents else at, deeper)
            case _:
                yield None

    def _sequence(self, module: Module, elements: Sequence[ast.expr], at: ast.AST, depth: int) -> Iterator[str | None]:
        if not elements:
            return
        words = list(self._resolve(module, elements[0], at, depth))
        if isinstance(elements[0], ast.Starred) and len(words) > 1:  # a wrapper with the program that it runs
            yield from words
            return
        for word in words:
            yield word
            name = (word or "").rpartition("/")[2]
            if name in SHELLS:
                for script in (element for element in elements[1:] if not _option(element)):
                    for text in self._resolve(module, script, at, depth):
                        yield from shell_programs(text or "")
                    break
            elif name in WRAPPERS:
                rest = list(elements[1:])
                while rest and self._option_of(module, rest[0], at, depth):
                    rest = rest[2 if getattr(rest[0], "value", "") in WITH_VALUE else 1 :]
                yield from self._sequence(module, rest, at, depth)

    def _returned(self, module: Module, name: str) -> list[tuple[Module, ast.expr]]:
        """Return what a function of the module, or one that it imports, returns."""
        dotted = module.imported.get(name, f"{module.dotted}.{name}")
        return [(other, value) for other, value in self._functions[name] if f"{other.dotted}.{name}" == dotted]

    def _option_of(self, module: Module, node: ast.expr, at: ast.AST, depth: int) -> bool:
        """Say whether a word, or several, are options of a wrapper and not yet the program that it runs."""
        if isinstance(node, ast.Starred):
            return all((word or "-").startswith("-") for word in self._resolve(module, node, at, depth))
        return isinstance(node, ast.JoinedStr) or _option(node)

    def _name(self, module: Module, name: str, at: ast.AST, depth: int) -> Iterator[str | None]:
        scope: ast.AST | None = at
        while scope is not None and not isinstance(scope, ast.Module):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                values = list(_assigned(module, scope, name))
                if values:
                    for value in values:
                        yield from self._resolve(module, value, value, depth)
                    return
                if self._parameter(module, scope, name):
                    return
            elif isinstance(scope, ast.GeneratorExp | ast.ListComp | ast.SetComp):
                values = [each for part in scope.generators for each in _each(module, part.target, part.iter, name)]
                if values:
                    for value in values:
                        yield from self._resolve(module, value, value, depth)
                    return
            scope = module.parents.get(scope)
        if module.names.get(name):
            for value in module.names[name]:
                yield from self._resolve(module, value, value, depth)
            return
        yield from self._constant(name, at, depth)

    def _constant(self, name: str, at: ast.AST, depth: int) -> Iterator[str | None]:
        if not self._constants.get(name):
            yield None
        for other, value in self._constants.get(name, []):
            yield from self._resolve(other, value, value, depth)

    def _parameter(self, module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
        """Note a function that passes a command on; its callers are followed instead."""
        arguments = function.args
        places = [*arguments.posonlyargs, *arguments.args]
        owner = module.parents[function]
        called = Function(module.dotted, function.name, isinstance(owner, ast.ClassDef))
        if function.name == "__init__" and isinstance(owner, ast.ClassDef):
            called = Function(module.dotted, owner.name, False)
        if places and places[0].arg in ("self", "cls"):
            places = places[1:]
        for place, argument in enumerate(places):
            if argument.arg == name:
                self._passed[called, place] = self._passed[called, name] = False
                return True
        if arguments.vararg and arguments.vararg.arg == name:
            self._passed[called, len(places)] = True
            return True
        if any(argument.arg == name for argument in arguments.kwonlyargs):
            self._passed[called, name] = False
            return True
        return False


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_which(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "which"


def _option(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("-")


def _assigned(module: Module, function: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        yield value
                    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                        for each, part in zip(target.elts, value.elts, strict=False):
                            if isinstance(each, ast.Name) and each.id == name:
                                yield part
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                yield value
            case ast.NamedExpr(target=ast.Name(id=found), value=value) if found == name:
                yield value
            case ast.For(target=target, iter=iterated) | ast.comprehension(target=target, iter=iterated):
                yield from _each(module, target, iterated, name)
            case _:
                pass


def _each(module: Module, target: ast.expr, iterated: ast.expr, name: str) -> Iterator[ast.expr]:
    """Yield what a loop's variable goes through: a literal's elements, a dictionary's keys or values."""
    if isinstance(target, ast.Name) and target.id != name:
        return
    values = False
    match iterated:
        case ast.Call(func=ast.Attribute(value=inner, attr="items")):
            values = isinstance(target, ast.Tuple) and getattr(target.elts[1], "id", "") == name
            if not values and getattr(getattr(target, "elts", [None])[0], "id", "") != name:
                return
            iterated = inner
        case _ if isinstance(target, ast.Tuple):
            return
    for found in module.names.get(iterated.id, []) if isinstance(iterated, ast.Name) else [iterated]:
        match found:
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                yield from elements
            case ast.Dict(keys=keys, values=of):
                yield from of if values else [key for key in keys if key]
            case _:
                yield found


def _load(path: Path, top: Path) -> Module:
    module = Module(path, ast.parse(path.read_text()))
    module.dotted = ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
    package = module.dotted if path.name == "__init__.py" else module.dotted.rpartition(".")[0]
    for parent in ast.walk(module.tree):
        if isinstance(parent, ast.Call):
            module.calls.append(parent)
        if isinstance(parent, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - parent.level + 1]) if parent.level else ""
            source = ".".join(filter(None, (base, parent.module)))
            module.imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in parent.names}
        elif isinstance(parent, ast.Import):
            module.imported |= {alias.asname or alias.name: alias.name for alias in parent.names}
        for child in ast.iter_child_nodes(parent):
            module.parents[child] = parent
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        module.names[target.id].append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                module.names[name].append(value)
            case _:
                pass
    return module
