"""Write the table by which the embedded API server reads and writes Kubernetes' protobuf.

``generate_protobuf.py FOLDER`` reads the Go structs of ``k8s.io/api`` and ``k8s.io/apimachinery`` in FOLDER (where Go
keeps modules: ``$(go env GOMODCACHE)``), follows them from the kinds below, and writes
``polyvisor/standalone/apiserver/protobuf/messages.tsv``. The struct tags are the source: ``protobuf`` has the field's
number, ``json`` its name, whether it is inlined, and whether an empty value is left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OUTPUT = Path(__file__).resolve().parent.parent / "polyvisor/standalone/apiserver/protobuf/messages.tsv"
PACKAGES = {
    "core": "api@{}/core/v1",
    "coordination": "api@{}/coordination/v1",
    "events": "api@{}/events/v1",
    "storage": "api@{}/storage/v1",
    "authorization": "api@{}/authorization/v1",
    "apps": "api@{}/apps/v1",
    "meta": "apimachinery@{}/pkg/apis/meta/v1",
}
"""Our name of a package -> its folder; ``{}`` stands for the release."""
ROOTS = (
    "core.Pod",
    "core.Node",
    "core.PersistentVolume",
    "core.PersistentVolumeClaim",
    "core.Event",
    "core.ConfigMap",
    "core.Secret",
    "core.Namespace",
    "core.Service",
    "core.ServiceAccount",
    "core.Binding",
    "coordination.Lease",
    "events.Event",
    "storage.StorageClass",
    "apps.ControllerRevision",
    "authorization.SelfSubjectAccessReview",
    "authorization.SelfSubjectRulesReview",
    "meta.DeleteOptions",
    "meta.Status",
    "meta.ListMeta",
)
ALIASES = {"v1": "core", "corev1": "core", "metav1": "meta"}
SPECIAL = {
    "metav1.Time": "time",
    "meta.Time": "time",
    "metav1.MicroTime": "microtime",
    "meta.MicroTime": "microtime",
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    "metav1.FieldsV1": "raw",
    "meta.FieldsV1": "raw",
    "runtime.RawExtension": "raw",
    "types.UID": "string",
    "types.NodeName": "string",
}
SCALARS = {"string": "string", "bool": "bool", "int32": "int", "int64": "int", "[]byte": "bytes", "uint8": "int"}
_STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^\s*type (\w+) ([\w\[\].]+)$", re.MULTILINE)
_FIELD = re.compile(r'^\s*(?:\w+\s+)?([*\[\]\w.]+)\s+`json:"([^"]*)"(?: [^`]*?)? ?protobuf:"([^"]*)"', re.MULTILINE)


def newest(folder: Path, module: str) -> str:
    """Return the highest release of a module there."""
    found = [path.name.partition("@v")[2] for path in folder.glob(f"k8s.io/{module}@v0.*")]
    if not found:
        raise SystemExit(f"{folder} has no k8s.io/{module}: `go mod download k8s.io/{module}@latest` brings it")
    return "v" + max(found, key=lambda text: [int(part) for part in re.findall(r"\d+", text)])


class Source:
    """The structs and named types of all packages."""

    def __init__(self, folder: Path) -> None:
        self.structs: dict[str, str] = {}
        self.named: dict[str, str] = {}
        for package, pattern in PACKAGES.items():
            place = folder / "k8s.io" / pattern.format(newest(folder, pattern.partition("@")[0]))
            for path in sorted(place.glob("*.go")):
                if path.name.startswith(("zz_", "generated")) or path.name.endswith("_test.go"):
                    continue
                text = path.read_text()
                self.structs |= {f"{package}.{name}": body for name, body in _STRUCT.findall(text)}
                self.named |= {f"{package}.{name}": kind for name, kind in _NAMED.findall(text)}

    def resolve(self, package: str, kind: str) -> tuple[str, str]:
        """Return a Go type as (type of ours, form): form is empty, ``repeated`` or ``map``."""
        kind = kind.removeprefix("*")
        if kind in SCALARS:
            return SCALARS[kind], ""
        if kind.startswith("[]"):
            return self.resolve(package, kind[2:])[0], "repeated"
        if found := re.fullmatch(r"map\[[\w.]+\]([\w.\[\]]+)", kind):
            inner, form = self.resolve(package, found[1])
            if form:
                raise SystemExit(f"a map of lists is not foreseen: {kind}")
            return inner, "map"
        if kind in SPECIAL:
            return SPECIAL[kind], ""
        owner, _, name = kind.rpartition(".")
        full = f"{ALIASES.get(owner, owner) or package}.{name}"
        if full in SPECIAL:
            return SPECIAL[full], ""
        if full in self.structs:
            return full, ""
        if full in self.named:
            return self.resolve(full.partition(".")[0], self.named[full])
        raise SystemExit(f"unknown type {kind} in {package}")


def rows(source: Source) -> list[tuple[str, ...]]:
    """Return the table: message, number, name in JSON (empty: inlined), type, form, whether zero is written."""
    found: list[tuple[str, ...]] = []
    seen: set[str] = set()
    wanted = list(ROOTS)
    while wanted:
        message = wanted.pop()
        if message in seen:
            continue
        seen.add(message)
        package = message.partition(".")[0]
        for kind, json_tag, tag in _FIELD.findall(source.structs[message]):
            name, _, options = json_tag.partition(",")
            number = tag.split(",")[1]
            inner, form = source.resolve(package, kind)
            kept = "zero" if kind.startswith("*") or (name and "omitempty" not in options) else ""
            found.append((message, number, name, inner, form, kept))
            if inner in source.structs:
                wanted.append(inner)
    return sorted(found, key=lambda row: (row[0], int(row[1])))


def main() -> None:
    """Write the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    table = rows(Source(Path(sys.argv[1])))
    header = ("message", "number", "name", "type", "form", "zero")
    OUTPUT.write_text("".join("\t".join(row) + "\n" for row in (header, *table)))
    sys.stdout.write(f"{OUTPUT.name}: {len({row[0] for row in table})} messages, {len(table)} fields" + "\n")


if __name__ == "__main__":
    main()
