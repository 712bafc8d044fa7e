"""``move``: a stopped machine goes to another driver or host, with copies of its disks.

What the move changes, loses or cannot do is shown first. Then each claim is copied by a DataVolume of the target's
class, and only when all copies are whole the machine is changed, in one step that fails if anybody changed or started
it meanwhile. Until then nothing of the machine is touched, and what was made is removed if the move ends early.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polyvisor.admission import AdmissionContext
from polyvisor.adoption import moving
from polyvisor.adoption.moving import Finding, Outcome, Target
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION
from polyvisor.api.moved import MOVE_OF_LABEL
from polyvisor.api.names import FINAL_PHASES, Phase
from polyvisor.api.quantity import format_quantity, whole
from polyvisor.api.reading import annotations_of, nested, phase_of, read_status
from polyvisor.api.resource import Resource
from polyvisor.api.resources import DATAVOLUMES, ENDPOINTS, KUBEVIRTS, PVCS, SNAPSHOTS, VMIS, VMS
from polyvisor.cli.client import Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.endpoint_mapping import DOORS
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import machine_name
from polyvisor.cli.output import Output, columns, note, print_structured, say
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.uris import driver_of, parse
from polyvisor.kube.errors import ApiError

LOOK_SECONDS = 1.0
MAX_NAME = 63
STAYING = ("Halted", "Manual")
"""Run strategies with which a machine that does not run stays so."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options said; ``policy`` is what becomes of the old claims."""

    to: str
    storage_class: str
    policy: str
    dry_run: bool
    timeout: float


def move(session: Session, namespace: str, word: str, wanted: Wanted, output: Output) -> None:
    """Move a machine; with ``dry_run`` only say what would become of it."""
    client, drivers = session.client, registry()
    vm = client.get(VMS.path(namespace, machine_name(word)))
    target = _target(client, drivers, wanted)
    _check_stopped(client, vm, target)
    context = AdmissionContext(_configuration(client), drivers, _lookup(client))
    sizes = {name: _size(client, namespace, name) for name in moving.claims(vm)}
    found = moving.preflight(vm, target, sizes, _snapshots(client, vm), _available(client, target), context)
    refused = [one for one in found if one.outcome is Outcome.REFUSED]
    _report(vm, target, found, output)
    if refused:
        what = f"VM {vm['metadata']['name']} cannot move to {target.name} as it is"
        raise CliError(what, ExitCode.INVALID, "; ".join(f"{one.message}" for one in refused)[:1000])
    names = {name: new_name(name, target.name) for name in sizes}
    new = moving.moved(vm, target, names, wanted.policy)
    path = VMS.path(namespace, vm["metadata"]["name"])
    client.request("PUT", path, moving.moved(vm, target, {}, wanted.policy), query={"dryRun": "All"})
    if wanted.dry_run:
        note("Nothing was created or changed.")
        return
    made: list[str] = []
    try:
        for old, name in names.items():
            _copy(client, vm, target, old, name, made)
        _await(client, namespace, made, wanted.timeout)
        client.request("PUT", path, new)
    except BaseException as error:
        if made and _may_have_moved(client, path, set(made)):
            what = f"it is not known whether VM {vm['metadata']['name']} has moved to {target.name}: {error}"
            hint = f"The copies {', '.join(made)} are kept. See: polyvisor get vm {vm['metadata']['name']} -o yaml"
            raise CliError(what, ExitCode.ERROR, hint) from error
        for name in made:
            _remove(client, DATAVOLUMES, namespace, name)
        if isinstance(error, ApiError) and error.conflict:
            what = f"VM {vm['metadata']['name']} was changed or started meanwhile, and stays where it is"
            raise CliError(what, ExitCode.CONFLICT, "The copies are removed. Stop it and move it again.") from error
        raise
    kept = f"; its disks before stay as {', '.join(names)}" if names else ""
    say(f"VM {vm['metadata']['name']} is at {target.name}{kept}")


def _target(client: Client, drivers: DriverRegistry, wanted: Wanted) -> Target:
    endpoints = {one["metadata"]["name"]: one for one in client.get(ENDPOINTS.path()).get("items") or []}
    endpoint = endpoints.get(wanted.to)
    if endpoint is None:
        driver = drivers.get(wanted.to)
        if driver is None:
            known = ", ".join([*sorted(endpoints), *(one.name for one in drivers)])
            raise CliError(f"--to {wanted.to!r} is neither an endpoint nor a driver", ExitCode.USAGE, f"Known: {known}")
        return Target(driver, None, wanted.storage_class)
    uri, _ = parse(endpoint["spec"]["uri"], drivers)
    pair = driver_of(uri.scheme, drivers) if uri else None
    if pair is None:
        raise CliError(f"the driver of endpoint {wanted.to} is not installed", ExitCode.INVALID)
    mapped = endpoint["spec"].get("storage") or []
    default = next((one for one in mapped if one.get("defaultForImages")), mapped[0] if mapped else {})
    chosen = wanted.storage_class or str(default.get("storageClass") or "")
    if chosen not in {one["storageClass"] for one in mapped}:
        there = ", ".join(one["storageClass"] for one in mapped) or "none"
        what = f"endpoint {wanted.to} maps no storage class {chosen!r}; it maps {there}"
        raise CliError(what, ExitCode.INVALID, f"polyvisor endpoint map {wanted.to} --storage CLASS=POOL")
    return Target(pair[0], endpoint, chosen)


def _check_stopped(client: Client, vm: Obj, target: Target) -> None:
    """Refuse a machine that runs or may be started at any moment, or that is there already."""
    name, namespace = vm["metadata"]["name"], vm["metadata"]["namespace"]
    choice = nested(vm["spec"]["template"]["spec"], "hypervisor")
    here = choice.get("endpoint") or ""
    if target.endpoint is not None and here == target.name:
        raise CliError(f"VM {name} is at endpoint {target.name} already", ExitCode.CONFLICT)
    if target.endpoint is None and not here and choice.get("driver") == target.driver.name:
        raise CliError(f"VM {name} is for driver {target.name} already", ExitCode.CONFLICT)
    hint = f"polyvisor stop {name} --wait"
    instance = _found(client, VMIS, namespace, name)
    if instance is not None and phase_of(instance) not in FINAL_PHASES:
        what = f"VM {name} is {phase_of(instance) or 'Pending'}; only a stopped one moves"
        raise CliError(what, ExitCode.CONFLICT, hint)
    strategy = vm["spec"].get("runStrategy") or ("Always" if vm["spec"].get("running") else "Halted")
    if strategy not in STAYING and (instance is None or phase_of(instance) != Phase.SUCCEEDED):
        what = f"VM {name} has the run strategy {strategy}, so it may start at any moment; only a stopped one moves"
        raise CliError(what, ExitCode.CONFLICT, hint)


def _configuration(client: Client) -> Obj:
    found = client.get(KUBEVIRTS.path()).get("items") or [{}]
    return nested(found[0], "spec").get("configuration") or {}


def _lookup(client: Client) -> Any:
    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        return _found(client, resource, namespace or None, name)

    return lookup


def _found(client: Client, resource: Resource, namespace: str | None, name: str) -> Obj | None:
    try:
        return client.get(resource.path(namespace, name))
    except ApiError as error:
        if error.not_found:
            return None
        raise


def _size(client: Client, namespace: str, name: str) -> int:
    claim = client.get(PVCS.path(namespace, name))
    told = read_status(claim).get("capacity") or nested(claim["spec"], "resources", "requests")
    return int(whole(told.get("storage", 0)))


def _snapshots(client: Client, vm: Obj) -> int:
    """Return how many VirtualMachineSnapshots there are of a machine, and libvirt's of a domain that was adopted."""
    namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
    listed = client.get(SNAPSHOTS.path(namespace)).get("items") or []
    own = [one for one in listed if nested(one, "spec", "source").get("name") == name]
    return len(own) + _of_domain(client, vm)


def _of_domain(client: Client, vm: Obj) -> int:
    template = vm["spec"]["template"]
    endpoint = nested(template["spec"], "hypervisor").get("endpoint")
    uuid = annotations_of(template).get(ADOPT_ANNOTATION)
    if not endpoint or not uuid:
        return 0
    try:
        return int(client.get(f"{DOORS}/{endpoint}/domains/{uuid}").get("snapshots") or 0)
    except ApiError:
        return 0


def _available(client: Client, target: Target) -> int | None:
    """Return the bytes that are free where the disks go, None where nobody can tell."""
    if target.endpoint is None:
        return None
    mapped = target.endpoint["spec"].get("storage") or []
    pool = next((one["pool"] for one in mapped if one["storageClass"] == target.storage_class), "")
    try:
        pools = client.get(f"{DOORS}/{target.name}/pools").get("items") or []
    except ApiError:  # a host that cannot be asked now
        return None
    return next((int(one.get("available") or 0) for one in pools if one.get("name") == pool), None)


def _report(vm: Obj, target: Target, found: Sequence[Finding], output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        name = f"{vm['metadata']['namespace']}/{vm['metadata']['name']}"
        print_structured({"machine": name, "to": target.name, "findings": [asdict(one) for one in found]}, output)
        return
    shown = found if output == Output.WIDE else [one for one in found if one.outcome is not Outcome.STAYS]
    rows = [
        [one.subject, str(one.outcome), one.message + (f" ({one.suggestion})" if one.suggestion else "")]
        for one in shown
    ]
    for line in columns([["SUBJECT", "OUTCOME", "WHAT"], *rows]):
        say(line)


def new_name(name: str, target: str) -> str:
    """Return the name of a claim's copy: one that no other claim's copy has, however long the names are."""
    whole_ = f"{name}-{target}"
    if len(whole_) <= MAX_NAME:
        return whole_
    return f"{whole_[: MAX_NAME - 9].rstrip('-.')}-{hashlib.sha256(whole_.encode()).hexdigest()[:8]}"


def _may_have_moved(client: Client, path: str, copies: set[str]) -> bool:
    """Whether a machine may be using copies by now: the answer to its change can have been lost."""
    try:
        return bool(copies & set(moving.claims(client.get(path))))
    except ApiError as error:
        return not error.not_found
    except CliError:  # nobody answers
        return True


def _copy(client: Client, vm: Obj, target: Target, old: str, name: str, made: list[str]) -> None:
    """Begin the copy of a claim; one that a move left before is made anew, since the old disk may have changed."""
    namespace, uid = vm["metadata"]["namespace"], vm["metadata"]["uid"]
    there = _found(client, DATAVOLUMES, namespace, name)
    if there is not None or _found(client, PVCS, namespace, name) is not None:
        labels = (there or {"metadata": {}})["metadata"].get("labels") or {}
        if labels.get(MOVE_OF_LABEL) != uid:
            hint = f"Delete it if nobody needs it: polyvisor delete dv {name}"
            raise CliError(
                f"there is a claim {namespace}/{name} already, which is not of this move", ExitCode.CONFLICT, hint
            )
        _remove(client, DATAVOLUMES, namespace, name)
        _gone(client, namespace, name)
    source = client.get(PVCS.path(namespace, old))
    spec = {
        "accessModes": source["spec"].get("accessModes") or ["ReadWriteOnce"],
        "volumeMode": source["spec"].get("volumeMode") or "Filesystem",
        "resources": {"requests": {"storage": format_quantity(_size(client, namespace, old))}},
        **({"storageClassName": target.storage_class} if target.storage_class else {}),
    }
    metadata: Obj = {"name": name, "namespace": namespace, "labels": {MOVE_OF_LABEL: uid}}
    if _goes_with(client, vm, old, source):
        owner = {"apiVersion": VMS.api_version, "kind": VMS.kind, "name": vm["metadata"]["name"], "uid": uid}
        metadata["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    body = {"source": {"pvc": {"namespace": namespace, "name": old}}, "pvc": spec}
    whole_ = {"apiVersion": DATAVOLUMES.api_version, "kind": DATAVOLUMES.kind, "metadata": metadata, "spec": body}
    client.request("POST", DATAVOLUMES.path(namespace), whole_)
    made.append(name)


def _goes_with(client: Client, vm: Obj, name: str, claim: Obj) -> bool:
    """Whether a claim, or the DataVolume that it is of, is deleted with the machine."""
    volume = _found(client, DATAVOLUMES, vm["metadata"]["namespace"], name)
    owners = [one for obj in (claim, volume or {}) for one in nested(obj, "metadata").get("ownerReferences") or []]
    return any(one.get("uid") == vm["metadata"]["uid"] for one in owners)


def _await(client: Client, namespace: str, names: Sequence[str], timeout: float) -> None:
    """Wait until all copies are whole, and tell how far they are."""
    deadline, told = time.monotonic() + timeout, ""
    while True:
        found = {name: read_status(client.get(DATAVOLUMES.path(namespace, name))) for name in names}
        for name, status in found.items():
            running: Obj = next((c for c in status.get("conditions") or [] if c["type"] == "Running"), {})
            if status.get("phase") == "Failed":
                raise CliError(f"copying {name} failed: {running.get('message')}")
        if all(status.get("phase") == "Succeeded" for status in found.values()):
            return
        text = ", ".join(f"{name} {status.get('progress', 'N/A')}" for name, status in found.items())
        if text != told:
            note(f"Copying: {text}")
            told = text
        if time.monotonic() >= deadline:
            reasons = [
                c.get("message") for s in found.values() for c in s.get("conditions") or [] if c["type"] == "Running"
            ]
            why = next((text for text in reasons if text), "")
            raise CliError(
                f"the disks are not copied after {timeout:g} s", ExitCode.TIMEOUT, why or "Give a longer --timeout."
            )
        time.sleep(LOOK_SECONDS)


def _remove(client: Client, resource: Resource, namespace: str, name: str) -> None:
    try:
        client.request("DELETE", resource.path(namespace, name))
    except ApiError as error:
        if not error.not_found:
            raise


def _gone(client: Client, namespace: str, name: str) -> None:
    while _found(client, PVCS, namespace, name) is not None or _found(client, DATAVOLUMES, namespace, name) is not None:
        time.sleep(LOOK_SECONDS / 4)
