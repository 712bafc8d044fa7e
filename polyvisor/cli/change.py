"""``apply``, ``create`` and ``delete``. Every document is tried; what failed is listed at the end, with its line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from polyvisor.api.refused import why_not
from polyvisor.cli.client import APPLY, Obj, Query
from polyvisor.cli.context import Session
from polyvisor.cli.discovery import Kind
from polyvisor.cli.errors import CliError, ExitCode, code_of, explain
from polyvisor.cli.get import list_all, split_targets
from polyvisor.cli.manifests import Manifest, load
from polyvisor.cli.output import Output, print_structured, say
from polyvisor.kube.errors import ApiError

MANAGER = "polyvisor"


def apply(
    session: Session,
    files: Sequence[str],
    namespace: str,
    *,
    force: bool,
    output: Output,
    dry_run: bool,
) -> list[tuple[Kind, Obj]]:
    """Server-side apply; return what the server made of each object."""
    return _each(session, load(files), namespace, output, lambda *a: _apply_one(*a, force=force, dry_run=dry_run))


def create(
    session: Session, files: Sequence[str], namespace: str, *, output: Output, dry_run: bool
) -> list[tuple[Kind, Obj]]:
    """Create objects that must not exist."""
    return create_each(session, load(files), namespace, output=output, dry_run=dry_run)


def create_each(
    session: Session, manifests: list[Manifest], namespace: str, *, output: Output | None, dry_run: bool
) -> list[tuple[Kind, Obj]]:
    """Create each object; without ``output`` nothing is printed of those that were created."""
    return _each(session, manifests, namespace, output, lambda *a: _create_one(*a, dry_run=dry_run))


def _each(  # type: ignore[no-untyped-def]
    session: Session, manifests: list[Manifest], namespace: str, output: Output | None, act
) -> list[tuple[Kind, Obj]]:
    done: list[tuple[Kind, Obj]] = []
    failures: list[CliError] = []
    for manifest in manifests:
        try:
            kind, where = place(session, manifest, namespace)
            word, obj = act(session, kind, manifest, where)
        except ApiError as error:
            if error.unreachable:
                raise
            failures.append(refusal(manifest, error))
            continue
        except CliError as error:
            failures.append(error)
            continue
        done.append((kind, obj))
        if output is None:
            continue
        if output in (Output.JSON, Output.YAML):
            if output == Output.YAML and len(done) > 1:
                say("---")
            print_structured(obj, output)
        else:
            name = obj["metadata"]["name"]
            say(f"{kind.label}/{name}" + ("" if output == Output.NAME else f" {word}"))
    if failures:
        hint = next((f.hint for f in failures if f.hint), "")
        raise CliError("\n".join(f.message for f in failures), failures[0].code, hint)
    return done


def place(session: Session, manifest: Manifest, namespace: str) -> tuple[Kind, str]:
    """Find a manifest's kind, and the namespace that it goes to."""
    obj = manifest.obj
    kind = session.discovery.of(obj["apiVersion"], obj["kind"])
    if kind is None:
        near = [k for k in session.discovery.kinds if k.kind.lower() == obj["kind"].lower()]
        said = f"the server has no kind {obj['kind']!r} in {obj['apiVersion']!r}"
        if reason := why_not(obj["apiVersion"], obj["kind"]):
            said = reason
        elif near:
            said += f"; do you mean {near[0].kind} in {near[0].api_version}?"
        line = manifest.line_of("kind")
        raise CliError(f"{manifest.file}:{line}: document {manifest.number}: {said}", ExitCode.INVALID)
    own = obj["metadata"].get("namespace")
    if not kind.namespaced:
        return kind, ""
    if own and namespace and own != namespace:
        raise CliError(
            f"{manifest.file}:{manifest.line_of('metadata.namespace')}: document {manifest.number}: "
            f"metadata.namespace is {own!r}, but -n says {namespace!r}",
            ExitCode.USAGE,
        )
    return kind, str(own or namespace or session.namespace)


def refusal(manifest: Manifest, error: ApiError) -> CliError:
    """Point each cause of a refusal at its line of the file."""
    if not error.causes:
        return explain(error, manifest.where)
    lines = [f"{manifest.where}: refused"]
    for cause in error.causes:
        path = str(cause.get("field") or "")
        lines.append(
            f"  line {manifest.line_of(path)}: {path}: {cause.get('message')}" if path else f"  {cause.get('message')}"
        )
    return CliError("\n".join(lines), code_of(error), explain(error).hint)


def _apply_one(
    session: Session, kind: Kind, manifest: Manifest, namespace: str, *, force: bool, dry_run: bool
) -> tuple[str, Obj]:
    name = manifest.obj["metadata"].get("name")
    if not name:
        raise CliError(f"{manifest.where}: apply needs metadata.name", ExitCode.INVALID, "Use create for generateName.")
    path = kind.path(namespace, name)
    before: Obj = {}
    try:
        before = session.client.get(path)
    except ApiError as error:
        if not error.not_found:
            raise
    query: Query = {
        "fieldManager": MANAGER,
        "fieldValidation": "Strict",
        "force": force,
        "dryRun": "All" if dry_run else "",
    }
    code, obj = session.client.request_with_code("PATCH", path, manifest.obj, query=query, content_type=APPLY)
    same = before and before["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion")
    word = "created" if code == 201 or not before else "unchanged" if same else "configured"
    return word + (" (dry run)" if dry_run else ""), obj


def _create_one(session: Session, kind: Kind, manifest: Manifest, namespace: str, *, dry_run: bool) -> tuple[str, Obj]:
    query: Query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "dryRun": "All" if dry_run else ""}
    obj = session.client.request("POST", kind.path(namespace), manifest.obj, query=query)
    return "created" + (" (dry run)" if dry_run else ""), obj


def delete(
    session: Session,
    words: Sequence[str],
    files: Sequence[str],
    namespace: str,
    *,
    selector: str,
    everything: bool,
    grace_period: int,
    cascade: str,
    wait: bool,
    timeout: float,
    ignore_missing: bool,
    output: Output,
) -> None:
    """Delete objects and, unless told otherwise, wait until they are gone."""
    targets = _delete_targets(session, words, files, namespace, selector, everything)
    body: Obj = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": cascade.capitalize()}
    if grace_period >= 0:
        body["gracePeriodSeconds"] = grace_period
    failures: list[CliError] = []
    going: list[tuple[Kind, str, str, str]] = []
    for kind, where, name in targets:
        path = kind.path(where, name)
        try:
            old = session.client.get(path)
            session.client.request("DELETE", path, body)
        except ApiError as error:
            if error.unreachable:
                raise
            # What was listed may go by itself meanwhile, with its owner for instance.
            if not (error.not_found and (ignore_missing or everything or selector)):
                failures.append(explain(error))
            continue
        going.append((kind, where, name, old["metadata"].get("uid", "")))
        say(f"{kind.label}/{name}" if output == Output.NAME else f'{kind.label} "{name}" deleted')
    if wait:
        deadline = time.monotonic() + timeout if timeout else None
        for kind, where, name, uid in going:
            wait_gone(session, kind, where, name, uid, deadline)
    if failures:
        raise CliError("\n".join(f.message for f in failures), failures[0].code, failures[0].hint)


def _delete_targets(
    session: Session, words: Sequence[str], files: Sequence[str], namespace: str, selector: str, everything: bool
) -> list[tuple[Kind, str, str]]:
    if files:
        if words:
            raise CliError("give either -f or TYPE NAME, not both", ExitCode.USAGE)
        placed = [(*place(session, m, namespace), str(m.obj["metadata"].get("name", ""))) for m in load(files)]
        return placed[::-1]
    namespace = namespace or session.namespace
    found: list[tuple[Kind, str, str]] = []
    for kind, name in split_targets(session, words):
        if name:
            found.append((kind, namespace, name))
        elif not (everything or selector):
            raise CliError(f"which {kind.plural}?", ExitCode.USAGE, "Give names, -l SELECTOR, or --all.")
        else:
            objects = list_all(session, kind, kind.path(namespace), {"labelSelector": selector})
            found += [(kind, namespace, o["metadata"]["name"]) for o in objects]
    return found


def wait_gone(session: Session, kind: Kind, namespace: str, name: str, uid: str, deadline: float | None) -> None:
    """Wait until the object of that uid is gone."""
    selector = f"metadata.name={name}"
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise CliError(
                f"{kind.label}/{name} is still being deleted",
                ExitCode.TIMEOUT,
                f"`polyvisor describe {kind.singular} {name}` shows what it waits for.",
            )
        answer = session.client.get(kind.path(namespace), {"fieldSelector": selector})
        if not any(o["metadata"].get("uid") == uid for o in answer.get("items") or []):
            return
        query = {"fieldSelector": selector, "resourceVersion": answer["metadata"]["resourceVersion"]}
        with suppress(TimeoutError):
            for event, obj in session.client.watch(kind.path(namespace), query, timeout=left):
                if event == "DELETED" and obj["metadata"].get("uid") == uid:
                    return
