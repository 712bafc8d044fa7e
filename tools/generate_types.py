"""Write the typed objects in ``polyvisor/api`` from tables of types.

``tools/data/kubevirt-types.tsv`` is KubeVirt's interface, restricted to what our kinds
reach (``--facts FILE`` renews it from a whole table); ``kubernetes-types.tsv`` holds the core types that
we touch, ``polyvisor-types.tsv`` the fields that we add, ``enums.tsv`` values that KubeVirt checks in code rather than
in its schema, ``subjects.tsv`` which module a type belongs to, and ``descriptions.tsv`` our own words on both.
Types are written in the order of their dependencies, so
that the modules need no forward references: that is what keeps importing them fast.
"""

from __future__ import annotations

import argparse
import csv
import keyword
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
API = HERE.parent / "polyvisor" / "api"
ROOTS = (
    *("v1.KubeVirt", *(f"v1.VirtualMachine{of}" for of in ("", "Instance", "InstanceReplicaSet", "InstanceMigration"))),
    *(f"v1beta1.VirtualMachine{of}{kind}" for kind in ("Instancetype", "Preference") for of in ("", "Cluster")),
    *(f"v1beta1.VirtualMachine{kind}" for kind in ("Pool", "Clone", "Snapshot", "SnapshotContent", "Restore")),
)
COLUMNS = ("type", "field", "field type", "required", "enum", "default")
SCALARS = {
    "string": "str",
    "string|null": "str",
    "boolean": "bool",
    "integer:int32": "Int32",
    "integer:int64": "Int64",
    "integer:byte": "Int32",
    "number:float": "float",
    "any": "Any",
    "object": "Any",
    "Quantity": "Quantity",
    "Time": "Time",
    "Duration": "Duration",
    "IntOrString": "IntOrString",
}
SPECIAL = ("Duration", "Int32", "Int64", "IntOrString", "OneOf", "Quantity", "Time")
IRREGULAR = re.compile(
    r"IPv[46]|SELinux|VSOCK|VMI(?=UID)|[A-Z]{2,}s(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+"
)
RENAMED = {
    "core.ResourceRequirements": "ContainerResources",
    "core.PersistentVolumeClaimVolumeSource": "ClaimReference",
    "v1beta1.VirtualMachine": "SnapshotMachine",
    "v1beta1.PersistentVolumeClaim": "SnapshotClaim",
    "v1beta1.VolumeSnapshotStatus": "SnapshotVolumeStatus",
    "v1beta1.Condition": "SnapshotCondition",
    "v1beta1.Error": "SnapshotError",
}
"""Types whose names others have too."""
KUBEVIRTS = re.compile(
    r"v1beta1\.(.*(Instancetype|Preference).*|SpreadOptions|VirtualMachine.*|Condition|Error|Source(Spec|Indication)"
    r"|Snapshot.*|VolumeBackup|VolumeRestore.*|VolumeSnapshotStatus|PersistentVolumeClaim)"
)
"""KubeVirt's own types of that version; the others are the data importer's."""
TAKEN = frozenset({"schema", "copy", "json", "dict", "validate", "construct"})


@dataclass
class Field:
    """One row of a table."""

    name: str
    type: str
    required: bool
    enum: tuple[str, ...]

    @property
    def attribute(self) -> str:
        """Return the snake_case name."""
        name = "_".join(word.lower() for word in IRREGULAR.findall(self.name))
        return f"{name}_" if keyword.iskeyword(name) or name in TAKEN else name


@dataclass
class Type:
    """A type with its fields, in the order of the table."""

    key: str
    fields: list[Field] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the class name; types of the data importer get a prefix, since one clashes with KubeVirt's own."""
        group, _, name = self.key.rpartition(".")
        if self.key in RENAMED:
            return RENAMED[self.key]
        return f"Cdi{name}" if group == "v1beta1" and not KUBEVIRTS.fullmatch(self.key) else name


def normal(name: str) -> str:
    """Return the name of a field type with Kubernetes' packages shortened to ``core.``."""
    for scalar in ("resource.Quantity", "v1.Time", "v1.Duration", "v1.MicroTime"):
        if name.endswith((f"k8s.io.apimachinery.pkg.api.{scalar}", f"k8s.io.apimachinery.pkg.apis.meta.{scalar}")):
            return scalar.partition(".")[2]
    return re.sub(r"k8s\.io\.[\w.]+\.", "core.", name.removeprefix("k8s.io.apimachinery.pkg.util.intstr."))


def split(name: str) -> tuple[str, str]:
    """Return (container prefix, item type): ``("[]", "v1.Disk")``."""
    found = re.fullmatch(r"((?:\[\]|map\[string\])*)(.*)", name)
    assert found
    return found[1], found[2]


def read(path: Path) -> dict[str, Type]:
    """Read a table of types."""
    types: dict[str, Type] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            owner = types.setdefault(row["type"], Type(row["type"]))
            if not row["field"]:
                continue
            container, item = split(row["field type"])
            item = normal(item)
            if row["type"].startswith("core.") and item not in SCALARS:
                item = f"core.{item}"
            owner.fields.append(
                Field(
                    row["field"], container + item, bool(row["required"]), tuple(filter(None, row["enum"].split("|")))
                )
            )
    return types


def reachable(types: dict[str, Type], roots: Iterable[str]) -> set[str]:
    """Return the keys of all types that ``roots`` refer to, directly or not."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        key = todo.pop()
        if key in seen or key not in types:
            continue
        seen.add(key)
        todo += [split(f.type)[1] for f in types[key].fields]
    return seen


def renew_facts(source: Path) -> None:
    """Copy the rows of KubeVirt's table that our kinds reach."""
    keep = reachable(read(source), ROOTS)
    with source.open(newline="") as file, (DATA / "kubevirt-types.tsv").open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in csv.DictReader(file, delimiter="\t") if row["type"] in keep)


def load() -> dict[str, Type]:
    """Read all tables and merge them."""
    types = read(DATA / "kubevirt-types.tsv") | read(DATA / "kubernetes-types.tsv")
    for key, extra in read(DATA / "polyvisor-types.tsv").items():
        types.setdefault(key, Type(key)).fields += extra.fields
    with (DATA / "enums.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found = next((f for f in types[row["type"]].fields if f.name == row["field"]), None)
            if found is None:
                raise SystemExit(f"enums.tsv: {row['type']} has no field {row['field']}")
            found.enum = tuple(row["values"].split("|"))
    return types


def ordered(types: dict[str, Type]) -> Iterator[Type]:
    """Yield types so that each comes after those it refers to."""
    done: set[str] = set()

    def visit(key: str) -> Iterator[Type]:
        if key in done or key not in types:
            return
        done.add(key)
        for f in types[key].fields:
            yield from visit(split(f.type)[1])
        yield types[key]

    for key in sorted(types):
        yield from visit(key)


def subjects(types: dict[str, Type]) -> dict[str, str]:
    """Return the module of each type, ``core/...`` or ``kubevirt/...``."""
    rules: list[tuple[str, re.Pattern[str]]] = []
    with (DATA / "subjects.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rules.append((row["module"], re.compile(row["types"])))
    homes = {}
    for key in types:
        homes[key] = next((module for module, pattern in rules if pattern.fullmatch(key)), "")
        if not homes[key]:
            raise SystemExit(f"subjects.tsv: no module for {key}")
    return homes


def annotation(f: Field, types: dict[str, Type], exceptions: dict[str, str]) -> str:
    """Return the Python annotation and default of a field."""
    container, item = split(f.type)
    text = SCALARS[item] if item in SCALARS else types[item].name
    for part in reversed(re.findall(r"\[\]|map\[string\]", container)):
        text = f"list[{text}]" if part == "[]" else f"dict[str, {text}]"
    if not f.required and text != "Any":
        text += " | None"
    if f.enum:
        text = f"Annotated[{text}, OneOf({', '.join(repr(v) for v in f.enum)})]"
    if exceptions.get(f.attribute, to_wire(f.attribute)) != f.name:
        start = "" if f.required else "None, "
        return f"{text} = Field({start}validation_alias={f.name!r}, serialization_alias={f.name!r})"
    return text if f.required else f"{text} = None"


Words = dict[tuple[str, str], str]


def descriptions() -> Words:
    """Return our own words on types (empty field) and fields."""
    with (DATA / "descriptions.tsv").open(newline="") as file:
        return {(row["type"], row["field"]): row["text"] for row in csv.DictReader(file, delimiter="\t")}


def render(module: str, members: list[Type], types: dict[str, Type], homes: dict[str, str], words: Words) -> str:
    """Return the text of one module."""
    body: list[str] = []
    imports: dict[str, set[str]] = {}
    exceptions = irregular(types)
    for member in members:
        origin = {"core": "Kubernetes", "own": "Polyvisor"}.get(member.key.split(".")[0], "KubeVirt")
        about = words.get((member.key, "")) or f"``{member.key.rpartition('.')[2]}`` of {origin}'s API."
        body.append(f'\n\nclass {member.name}(Model):\n    """{about}"""\n')
        for f in member.fields:
            body.append(f"    {f.attribute}: {annotation(f, types, exceptions)}")
            item = split(f.type)[1]
            if item not in SCALARS and homes[item] != module:
                imports.setdefault("polyvisor.api." + homes[item].replace("/", "."), set()).add(types[item].name)
    text = "\n".join(body)
    base = {"Model", *(name for name in SPECIAL if re.search(rf"\b{name}\b", text))}
    imports["polyvisor.api.base"] = base
    if " Field(" in text:
        imports["pydantic"] = {"Field"}
    typing = [name for name in ("Annotated", "Any") if re.search(rf"\b{name}\b", text)]
    subject = module.rpartition("/")[2]
    head = [
        f'"""{words.get((module, ""), subject)}',
        "",
        "Written by tools/generate_types.py from the tables in tools/data; change those.",
        '"""',
        "",
    ]
    if typing:
        head += [f"from typing import {', '.join(typing)}", ""]
    head += [f"from {source} import {', '.join(sorted(names))}" for source, names in sorted(imports.items())]
    return "\n".join(head) + "\n" + text + "\n"


def irregular(types: dict[str, Type]) -> dict[str, str]:
    """Return attribute -> wire name where the rule fails and all types agree on the exception."""
    uses: dict[str, set[str]] = {}
    for member in types.values():
        for f in member.fields:
            uses.setdefault(f.attribute, set()).add(f.name)
    return {a: next(iter(names)) for a, names in uses.items() if len(names) == 1 and names != {to_wire(a)}}


def names_module(types: dict[str, Type]) -> str:
    """Return the module of the attributes whose wire name the rule does not give."""
    lines = [
        '"""Wire names that do not follow from the attribute\'s name.',
        "",
        "Written by tools/generate_types.py from the tables in tools/data; change those.",
        '"""',
        "",
        "IRREGULAR = {",
        *(f"    {attribute!r}: {name!r}," for attribute, name in sorted(irregular(types).items())),
        "}",
    ]
    return "\n".join(lines) + "\n"


def to_wire(attribute: str) -> str:
    """Return the regular wire name of an attribute."""
    head, *rest = attribute.split("_")
    return head + "".join(word.capitalize() for word in rest)


def index_module(types: dict[str, Type], homes: dict[str, str]) -> str:
    """Return the module that says in which module each class lives."""
    lines = [
        '"""Where each typed object lives; :mod:`polyvisor.api` loads a module when one of its classes is asked for.',
        "",
        "Written by tools/generate_types.py from the tables in tools/data; change those.",
        '"""',
        "",
        "MODULES = {",
    ]
    by_module: dict[str, list[str]] = {}
    for key, module in homes.items():
        by_module.setdefault("polyvisor.api." + module.replace("/", "."), []).append(types[key].name)
    for module, names in sorted(by_module.items()):
        lines += [f"    {module!r}: (", *(f"        {name!r}," for name in sorted(names)), "    ),"]
    return "\n".join([*lines, "}"]) + "\n"


def descriptions_module(types: dict[str, Type], words: Words) -> str:
    """Return the module with our own words on types (key ``""``) and their fields."""
    lines = [
        '"""Short descriptions of types and fields, for ``kubectl explain`` and the CRD manifests.',
        "",
        "Written by tools/generate_types.py from the tables in tools/data; change those.",
        '"""',
        "",
        "DESCRIPTIONS = {",
    ]
    for key, member in types.items():
        known = {name: text for (owner, name), text in words.items() if owner == key}
        for name in known:
            if name and name not in {f.name for f in member.fields}:
                raise SystemExit(f"descriptions.tsv: {key} has no field {name}")
        if known:
            lines += [f"    {member.name!r}: {{", *(f"        {n!r}: {t!r}," for n, t in known.items()), "    },"]
    return "\n".join([*lines, "}"]) + "\n"


def by_key(types: dict[str, Type]) -> dict[str, str]:
    """Return the class name of each type."""
    return {key: member.name for key, member in types.items()}


def generate() -> dict[Path, str]:
    """Return the text of every generated file."""
    types = load()
    wanted = reachable(types, ROOTS) | {key for key in types if key.startswith(("core.", "own."))}
    types = {key: types[key] for key in types if key in wanted}
    for member in types.values():
        for f in member.fields:
            item = split(f.type)[1]
            if item not in SCALARS and item not in types:
                raise SystemExit(f"{member.key}.{f.name}: unknown type {item}")
    clashes = [key for key, name in by_key(types).items() if list(by_key(types).values()).count(name) > 1]
    if clashes:
        raise SystemExit(f"these types have the same class name: {', '.join(clashes)}")
    homes = subjects(types)
    words = descriptions()
    modules: dict[str, list[Type]] = {}
    for member in ordered(types):
        modules.setdefault(homes[member.key], []).append(member)
    files = {API / f"{module}.py": render(module, members, types, homes, words) for module, members in modules.items()}
    files[API / "_irregular.py"] = names_module(types)
    files[API / "_descriptions.py"] = descriptions_module(types, words)
    files[API / "_index.py"] = index_module(types, homes)
    return files


def formatted(text: str, path: Path) -> str:
    """Return the text as ruff lays it out."""
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "--quiet"]
    fixed = subprocess.run(
        [*command[:1], "check", "--quiet", "--select", "I,Q,RUF022", "--fix", "--stdin-filename", str(path), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return subprocess.run(
        [command[0], "format", "--quiet", "--stdin-filename", str(path), "-"],
        input=fixed,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def main() -> int:
    """Write the modules, or with ``--check`` say which are out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of step")
    parser.add_argument("--facts", type=Path, help="renew the table of KubeVirt's types from this one")
    arguments = parser.parse_args()
    if arguments.facts:
        renew_facts(arguments.facts)
    stale = []
    for path, text in generate().items():
        text = formatted(text, path)
        if not path.exists() or path.read_text() != text:
            stale.append(str(path.relative_to(HERE.parent)))
            if not arguments.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    sys.stdout.writelines(f"{'out of step' if arguments.check else 'written'}: {name}\n" for name in stale)
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
