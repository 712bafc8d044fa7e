"""Which of the libvirt daemon's modules this repository's code uses: what is not of domains is a module of its own.

Some distributions pack each of them by itself (Debian from 13 on, Fedora, SUSE), so a daemon may lack it and then
answers ``this function is not supported by the connection driver``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

METHODS = {
    "storage": re.compile(r"storage(Pool|Vol)[A-Z]\w*|list(All|Defined)?StoragePools|findStoragePoolSources"),
    "network": re.compile(r"network(Create|Define|Lookup|Event|Port)\w*|list(All|Defined)?Networks"),
    "nodedev": re.compile(r"nodeDevice[A-Z]\w*|list(All)?(Node)?Devices"),
    "interface": re.compile(r"interface(Define|Lookup)\w*|list(All|Defined)?Interfaces"),
    "secret": re.compile(r"secret(Define|Lookup|Event)\w*|list(All)?Secrets"),
    "nwfilter": re.compile(r"nwfilter[A-Z]\w*|list(All)?NWFilter\w*"),
}
"""Module -> methods of a connection in libvirt's Python binding that it serves."""
WORDS = {
    "storage": ("pool-", "vol-"),
    "network": ("net-",),
    "nodedev": ("nodedev-",),
    "interface": ("iface-",),
    "secret": ("secret-",),
    "nwfilter": ("nwfilter-",),
}
"""Module -> how virsh's commands for it begin."""
FILE = re.compile(r"libvirt_driver_(\w+)\.so$")


def used(files: Iterable[Path], top: Path) -> dict[str, set[str]]:
    """Return module -> places in the code that use it."""
    found = defaultdict(set)
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            for module in _of(node):
                found[module].add(f"{path.relative_to(top)}:{node.lineno}")  # type: ignore[attr-defined]
    return found


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield from (module for module, names in METHODS.items() if names.fullmatch(node.attr))
    if isinstance(node, ast.Call) and _name(node.func) == "virsh":
        words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        yield from (module for module, begins in WORDS.items() for word in words[:1] if word.startswith(begins))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def brought(files: Iterable[str]) -> set[str]:
    """Return the modules among files of the list of prerequisites."""
    return {match[1] for file in files if (match := FILE.search(file))}
