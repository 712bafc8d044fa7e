"""``get`` and ``describe``. Tables are the server's own, so columns are never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyvisor.api.reading import nested
from polyvisor.cli.client import TABLE, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.discovery import Kind
from polyvisor.cli.errors import CliError, ExitCode, explain
from polyvisor.cli.output import Output, age, columns, note, print_structured, say, table_rows
from polyvisor.kube.errors import ApiError


def split_targets(session: Session, words: Sequence[str]) -> list[tuple[Kind, str]]:
    """Read ``TYPE[,TYPE]``, ``TYPE NAME...`` or ``TYPE/NAME...``; a name is empty where all are meant."""
    if not words:
        raise CliError("which kind of object?", ExitCode.USAGE, "For example: polyvisor get vmi")
    if any("/" in word for word in words):
        pairs = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not name or "/" in name:
                raise CliError(f"{word!r} is not TYPE/NAME", ExitCode.USAGE)
            pairs.append((session.discovery.find(kind), name))
        return pairs
    kinds = session.discovery.find_all(words[0])
    return [(kind, name) for kind in kinds for name in (words[1:] or [""])]


def get(
    session: Session,
    words: Sequence[str],
    *,
    namespace: str,
    all_namespaces: bool,
    selector: str,
    field_selector: str,
    output: Output,
    watch: bool,
    chunk: int = 500,
) -> None:
    """Print objects."""
    targets = split_targets(session, words)
    selectors = {"labelSelector": selector, "fieldSelector": field_selector}
    if watch:
        if len({kind for kind, _ in targets}) > 1 or len(targets) > 1:
            raise CliError("-w watches one kind, or one object, at a time", ExitCode.USAGE)
        _watch(session, targets[0], "" if all_namespaces else namespace, selectors, output)
        return
    if output in (Output.TABLE, Output.WIDE):
        _tables(session, targets, "" if all_namespaces else namespace, selectors, output == Output.WIDE)
        return
    objects: list[Obj] = []
    single = len(targets) == 1 and bool(targets[0][1])
    failures: list[CliError] = []
    for kind, name in targets:
        path = kind.path("" if all_namespaces else namespace, name)
        try:
            if name:
                objects.append(session.client.get(path))
            else:
                objects += list_all(session, kind, path, selectors, chunk)
        except ApiError as error:
            failures.append(explain(error))
    if output == Output.NAME:
        for obj in objects:
            kind_of = session.discovery.of(str(obj.get("apiVersion")), str(obj.get("kind")))
            say(f"{kind_of.label if kind_of else str(obj.get('kind')).lower()}/{obj['metadata']['name']}")
    elif single and objects:
        print_structured(objects[0], output)
    elif not failures:
        metadata = {"resourceVersion": ""}
        print_structured({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": objects}, output)
    _raise_all(failures)


def list_all(session: Session, kind: Kind, path: str, selectors: Obj, chunk: int = 500) -> list[Obj]:
    """List page by page; each object gets its kind, which lists leave out."""
    items: list[Obj] = []
    token = ""
    while True:
        answer = session.client.get(path, {**selectors, "limit": chunk, "continue": token})
        items += [{"apiVersion": kind.api_version, "kind": kind.kind, **o} for o in answer.get("items") or []]
        token = nested(answer, "metadata").get("continue") or ""
        if not token:
            return items


def _tables(session: Session, targets: list[tuple[Kind, str]], namespace: str, selectors: Obj, wide: bool) -> None:
    kinds = list(dict.fromkeys(kind for kind, _ in targets))
    failures: list[CliError] = []
    printed = False
    for kind in kinds:
        header: list[str] = []
        rows: list[list[str]] = []
        for name in [n for k, n in targets if k == kind]:
            try:
                path = kind.path(namespace, name)
                table = session.client.request("GET", path, query={} if name else selectors, accept=TABLE)
            except ApiError as error:
                failures.append(explain(error))
                continue
            prefix = kind.label if len(kinds) > 1 else ""
            header, more = table_rows(table, wide, kind.namespaced and not namespace, prefix)
            rows += more
        if rows:
            if printed:
                say()
            printed = True
            for line in columns([header, *rows]):
                say(line)
    if not printed and not failures:
        scoped = any(kind.namespaced for kind in kinds)
        note(f"No resources found in {namespace} namespace." if namespace and scoped else "No resources found")
    _raise_all(failures)


def _raise_all(failures: list[CliError]) -> None:
    if failures:
        raise CliError("\n".join(f.message for f in failures), failures[0].code, failures[0].hint)


def _watch(session: Session, target: tuple[Kind, str], namespace: str, selectors: Obj, output: Output) -> None:
    kind, name = target
    path = kind.path(namespace)
    if name:
        selectors = {**selectors, "fieldSelector": f"metadata.name={name}"}
    tabular = output in (Output.TABLE, Output.WIDE)
    accept = TABLE if tabular else "application/json"
    widths: list[int] = []
    started = False
    version = ""
    while True:
        if not version:
            answer = session.client.request("GET", path, query=selectors, accept=accept)
            version = nested(answer, "metadata").get("resourceVersion", "")
            if name and not (answer.get("rows") or answer.get("items")):
                raise CliError(f"{kind.label} {name!r} not found", ExitCode.NOT_FOUND)
            if tabular:
                header, rows = table_rows(answer, output == Output.WIDE, kind.namespaced and not namespace)
                for line in columns(([] if started else [header]) + rows, widths):
                    say(line)
                started = True
            else:
                for item in answer.get("items") or []:
                    _print_event({"apiVersion": kind.api_version, "kind": kind.kind, **item}, kind, output)
            flush()
        try:
            for event, value in session.client.watch(path, {**selectors, "resourceVersion": version}, accept):
                if event == "BOOKMARK":
                    continue
                if tabular:
                    _, rows = table_rows(value, output == Output.WIDE, kind.namespaced and not namespace)
                    for line in columns(rows, widths):
                        say(line)
                    first = (value.get("rows") or [{}])[0].get("object") or {}
                    version = nested(first, "metadata").get("resourceVersion", version)
                else:
                    _print_event(value, kind, output)
                    version = value["metadata"].get("resourceVersion", version)
                flush()
        except ApiError as error:
            if not error.expired:
                raise
            version = ""


def flush() -> None:
    """Let a reader of our output see it now."""
    import sys

    sys.stdout.flush()


def _print_event(obj: Obj, kind: Kind, output: Output) -> None:
    if output == Output.NAME:
        say(f"{kind.label}/{obj['metadata']['name']}")
        return
    if output == Output.YAML:
        say("---")
    print_structured(obj, output)


def describe(session: Session, words: Sequence[str], namespace: str) -> None:
    """Print one or more objects for people, with their events."""
    first = True
    for kind, name in split_targets(session, words):
        objects = (
            [session.client.get(kind.path(namespace, name))]
            if name
            else list_all(session, kind, kind.path(namespace), {})
        )
        if not objects:
            note(f"No resources found in {namespace} namespace.")
        for obj in objects:
            if not first:
                say("\n")
            first = False
            _describe(session, obj)


def _describe(session: Session, obj: Obj) -> None:
    meta = obj["metadata"]
    say(f"Name:         {meta['name']}")
    if meta.get("namespace"):
        say(f"Namespace:    {meta['namespace']}")
    for title in ("labels", "annotations"):
        pairs = [f"{k}={v}" for k, v in sorted((meta.get(title) or {}).items())] or ["<none>"]
        for index, pair in enumerate(pairs):
            say(f"{title.capitalize() + ':' if not index else '':14}{pair}")
    say(f"API Version:  {obj.get('apiVersion')}")
    say(f"Kind:         {obj.get('kind')}")
    shown = {k: v for k, v in meta.items() if k not in ("name", "namespace", "labels", "annotations", "managedFields")}
    _tree("Metadata", shown, 0)
    for key, value in obj.items():
        if key not in ("metadata", "apiVersion", "kind"):
            _tree(_title(key), value, 0)
    _events(session, obj)


def _events(session: Session, obj: Obj) -> None:
    meta = obj["metadata"]
    selector = f"involvedObject.name={meta['name']},involvedObject.uid={meta.get('uid', '')}"
    path = f"/api/v1/namespaces/{meta.get('namespace') or 'default'}/events"
    try:
        events = session.client.get(path, {"fieldSelector": selector}).get("items") or []
    except ApiError as error:
        say(f"Events:       unknown ({error.message})")
        return
    if not events:
        say("Events:       <none>")
        return
    events.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    rows = [["Type", "Reason", "Age", "From", "Message"]]
    for e in events:
        when = age(e.get("lastTimestamp") or e.get("eventTime"))
        if (e.get("count") or 1) > 1:
            when += f" (x{e['count']})"
        source = nested(e, "source").get("component") or e.get("reportingComponent") or ""
        rows.append([e.get("type", ""), e.get("reason", ""), when, source, " ".join(str(e.get("message", "")).split())])
    say("Events:")
    for line in columns(rows):
        say("  " + line)


def _title(key: str) -> str:
    words: list[str] = []
    for index, letter in enumerate(key):
        if letter.isupper() and index and not key[index - 1].isupper():
            words.append(" ")
        words.append(letter)
    text = "".join(words)
    return text[:1].upper() + text[1:]


def _tree(title: str, value: Any, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, dict):
        say(f"{pad}{title}:" + ("" if value else "  {}"))
        for key, inner in value.items():
            _tree(_title(key) if "/" not in key else key, inner, depth + 1)
    elif isinstance(value, list):
        say(f"{pad}{title}:" + ("" if value else "  []"))
        for index, inner in enumerate(value):
            if isinstance(inner, dict):
                if index:
                    say("")
                for key, deeper in inner.items():
                    _tree(_title(key) if "/" not in key else key, deeper, depth + 1)
            else:
                say(f"{pad}  {inner}")
    else:
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if "\n" in text:
            say(f"{pad}{title}:")
            for line in text.splitlines():
                say(f"{pad}  {line}")
        else:
            say(f"{pad}{title}:  {text}")
