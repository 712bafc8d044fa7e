"""``import``: domain XML in, objects out, and a report of what was kept, changed and not expressible.

The report goes to standard error, manifests and names of objects to standard output, so that the output can be piped.
Nothing is created unless the server accepts all of it, which is asked first.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polyvisor.adoption import (
    Conversion,
    ConversionError,
    Mapping,
    NetworkMapping,
    Note,
    Outcome,
    PoolMapping,
    convert_all,
)
from polyvisor.adoption.reading import MAX_BYTES
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_subdomain_error
from polyvisor.api.resources import ENDPOINTS
from polyvisor.cli.change import create_each
from polyvisor.cli.context import Context, Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.manifests import Manifest
from polyvisor.cli.output import Output, columns, note, print_structured, say
from polyvisor.kube.errors import ApiError

SHOWN = 60
"""Characters of a setting's value that the report shows."""
USUAL = "default"
_REPORTED = (Outcome.CHANGED, Outcome.BESIDE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options said."""

    name: str = ""
    namespace: str = ""
    driver: str = ""
    endpoint: str = ""
    kernel_image: str = ""
    storage: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def import_domains(
    context: Context, files: Sequence[str], wanted: Wanted, output: Output | None, dry_run: bool
) -> None:
    """Convert all domains of the files; print the manifests, or create the objects."""
    if not files:
        raise CliError("import which file?", ExitCode.USAGE, "For example: virsh dumpxml web | polyvisor import -")
    session = None if dry_run else context.connect()
    namespace = wanted.namespace or (session.namespace if session else USUAL)
    given = mapping(wanted, namespace)
    if session is not None and wanted.endpoint:
        given = _with_endpoint(session, given)
    found = list(_converted(files, given))
    _check_names(found, wanted)
    for where, one in found:
        _report(where, one, output)
    refused = [(where, one) for where, one in found if one.causes]
    if dry_run and not any(one.problems for _, one in found):
        print_objects([obj for _, one in found for obj in objects(one)], output)
    if refused:
        raise _refusal(refused)
    if session is not None:
        manifests = [Manifest(obj, where, 1, n, {}) for where, one in found for n, obj in enumerate(objects(one), 1)]
        create_each(session, manifests, "", output=None, dry_run=True)
        create_each(session, manifests, "", output=output or Output.TABLE, dry_run=False)


def objects(one: Conversion) -> list[Obj]:
    """Return what a conversion creates, in the order in which it is created."""
    return [*one.volumes, *one.claims, one.machine]


def mapping(wanted: Wanted, namespace: str) -> Mapping:
    """Return the mapping that the options give; raise for one that is malformed."""
    if wanted.name and (error := dns_subdomain_error(wanted.name, 63)):
        raise CliError(f"--name: {error}", ExitCode.USAGE)
    return Mapping(
        namespace=namespace,
        name=wanted.name,
        driver=wanted.driver,
        endpoint=wanted.endpoint,
        kernel_image=wanted.kernel_image,
        storage=tuple(_pool(text) for text in wanted.storage),
        networks=tuple(_network(text) for text in wanted.networks),
    )


def _with_endpoint(session: Session, given: Mapping) -> Mapping:
    """Add what the endpoint maps to what the options map, which comes first."""
    try:
        spec = session.client.get(ENDPOINTS.path(None, given.endpoint))["spec"]
    except ApiError as error:
        if not error.not_found:
            raise
        hint = "`polyvisor get hypervisorendpoints` lists those that there are."
        raise CliError(f"there is no HypervisorEndpoint {given.endpoint!r}", ExitCode.NOT_FOUND, hint) from error
    storage = (PoolMapping(one["storageClass"], one["pool"]) for one in spec.get("storage") or [])
    networks = (NetworkMapping(one["name"], one["network"]) for one in spec.get("networks") or [])
    return replace(given, storage=(*given.storage, *storage), networks=(*given.networks, *networks))


def _pool(text: str) -> PoolMapping:
    storage_class, equals, rest = text.partition("=")
    pool, colon, folder = rest.partition(":")
    if not (storage_class and equals and pool) or (colon and not folder.startswith("/")):
        message = f"--storage {text!r}: expected CLASS=POOL or CLASS=POOL:/FOLDER"
        raise CliError(message, ExitCode.USAGE, "For example: --storage fast=images:/var/lib/libvirt/images")
    if error := dns_subdomain_error(storage_class):
        raise CliError(f"--storage {text!r}: the name of a StorageClass {error}", ExitCode.USAGE)
    return PoolMapping(storage_class, pool, folder)


def _network(text: str) -> NetworkMapping:
    name, equals, network = text.partition("=")
    if not (name and equals and network):
        message = f"--network {text!r}: expected NAME=NETWORK"
        raise CliError(message, ExitCode.USAGE, "For example: --network pod=default --network lan=br0")
    return NetworkMapping(name, network)


def _converted(files: Sequence[str], given: Mapping) -> Iterator[tuple[str, Conversion]]:
    for file in files:
        where = "<stdin>" if file == "-" else file
        try:
            for one in convert_all(_read(file), given):
                yield where, one
        except ConversionError as error:
            raise CliError(f"{where}: {error}", ExitCode.INVALID) from error


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CliError(f"{file}: no such file", ExitCode.NOT_FOUND) from error
    except OSError as error:
        raise CliError(f"{file}: cannot be read: {error.strerror}") from error


def _check_names(found: Sequence[tuple[str, Conversion]], wanted: Wanted) -> None:
    if wanted.name and len(found) > 1:
        message = f"--name names one machine, and there are {len(found)} domains"
        raise CliError(message, ExitCode.USAGE, "Import the domains one at a time, or leave --name out.")
    counted = Counter(str(one.machine["metadata"]["name"]) for _, one in found)
    for name, count in counted.items():
        if count > 1:
            domains = ", ".join(plain(one.domain) for _, one in found if one.machine["metadata"]["name"] == name)
            message = f"{count} domains would all be called {name}: {domains}"
            raise CliError(message, ExitCode.CONFLICT, "Import them one at a time, with --name.")


def _refusal(refused: Sequence[tuple[str, Conversion]]) -> CliError:
    lines = []
    for where, one in refused:
        lines.append(f"{where}: domain {plain(one.domain)} cannot become a machine:")
        lines += [f"  {plain(cause)}" for cause in one.causes]
    return CliError("\n".join(lines), ExitCode.INVALID, "Nothing was created.")


def _report(where: str, one: Conversion, output: Output | None) -> None:
    metadata = one.machine["metadata"]
    title = f"{where}: domain {plain(one.domain)} ({one.driver}) is VirtualMachine {metadata['namespace']}/"
    report(f"{title}{metadata['name']}", one.notes, output)


def report(title: str, settings: Sequence[Note], output: Output | None) -> None:
    """Write what became of a domain's settings; those that were kept are counted."""
    counts = Counter(found.outcome for found in settings)
    note(title)
    note("  " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + " settings")
    notes = [found for found in settings if output == Output.WIDE or found.outcome in _REPORTED]
    if notes:
        rows = [["SETTING", "VALUE", "OUTCOME", ""], *_rows(notes)]
        for line in columns(rows):
            note(f"  {line}")


def _rows(notes: Sequence[Note]) -> list[list[str]]:
    """Return a line for each device or element of which the same became, with all of its values."""
    grouped: dict[tuple[str, Outcome, str], list[Note]] = {}
    for found in notes:
        steps = found.path.split("/")
        element = "/".join(steps[:2] if steps[0] == "devices" else steps[:1])
        grouped.setdefault((element, found.outcome, found.text), []).append(found)
    rows = []
    for (element, outcome, text), together in grouped.items():
        if len(together) == 1:
            path, value = together[0].path, together[0].value
        else:
            values = ((found.path.removeprefix(element).strip("/@"), found.value) for found in together)
            path, value = element, " ".join(f"{name}={value}" if name else value for name, value in values)
        rows.append([path, _short(value), str(outcome), text])
    return rows


def plain(text: str) -> str:
    """Make one line of a stranger's text, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _short(value: str) -> str:
    shown = plain(value)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


def print_objects(found: Sequence[Obj], output: Output | None) -> None:
    """Print manifests, or the names of what they describe."""
    if output == Output.NAME:
        for obj in found:
            say(f"{obj['kind'].lower()}/{obj['metadata']['name']}")
    elif output == Output.JSON:
        print_structured({"apiVersion": "v1", "kind": "List", "items": list(found)}, Output.JSON)
    else:
        for number, obj in enumerate(found):
            if number:
                say("---")
            print_structured(obj, Output.YAML)
