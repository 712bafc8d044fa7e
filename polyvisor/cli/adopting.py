"""``adopt``: the agent plans, the user sees what becomes of each setting, then the objects are created.

The machine is created first, halted, so that it owns the claims; it is switched on once its claims are there. The guest
is not touched by any of this: the agent marks the domain as the machine's, and shows it. What was created of a machine
is removed again if the rest of it cannot be.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import quote

from polyvisor.adoption import Note, Outcome
from polyvisor.api import adopted
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.names import RunStrategy
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resource import Resource
from polyvisor.api.resources import PVCS, VMIS, VMS
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.context import Session
from polyvisor.cli.domains import DOMAINS
from polyvisor.cli.endpoint_mapping import DOORS
from polyvisor.cli.errors import CliError, ExitCode, explain
from polyvisor.cli.importing import plain, print_objects, report
from polyvisor.cli.output import Output, columns, note, say
from polyvisor.kube.errors import ApiError

LOOK_SECONDS = 0.3
MAX_NAMED = 10
"""Domains that a message names."""
FREE = ("Available", "Released")
"""Phases of volumes that nothing is bound to."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options said; ``selector`` is a pattern over the names of domains."""

    namespace: str = ""
    name: str = ""
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The agent's answer for one domain."""

    endpoint: str
    told: Obj

    @property
    def domain(self) -> str:
        """``ENDPOINT/DOMAIN``, for people."""
        return f"{self.endpoint}/{plain(self.told['domain'])}"

    @property
    def machine(self) -> str:
        """``NAMESPACE/NAME`` of the machine."""
        metadata = self.told["machine"]["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}"

    @property
    def objects(self) -> list[Obj]:
        """What is created, in this order."""
        return [self.told["machine"], *self.told["volumes"], *self.told["claims"]]


def adopt(
    session: Session,
    words: Sequence[str],
    wanted: Wanted,
    output: Output | None,
    *,
    dry_run: bool,
    timeout: float,
) -> None:
    """Adopt domains, all of them or none."""
    client = session.client
    namespace = wanted.namespace or session.namespace
    targets = _targets(client, words, wanted.selector)
    if wanted.name and len(targets) > 1:
        message = f"--name names one machine, and there are {len(targets)} domains"
        raise CliError(message, ExitCode.USAGE, "Adopt the domains one at a time, or leave --name out.")
    plans = [_plan(client, endpoint, domain, namespace, wanted.name) for endpoint, domain in targets]
    for plan in plans:
        _report(plan, output)
    _check(plans)
    for plan in plans:
        _try(client, plan)
    if dry_run:
        print_objects([obj for plan in plans for obj in plan.objects], output)
        note("Nothing was created or changed.")
        return
    for plan in plans:
        _create(client, plan)
    for plan in plans:
        _await(client, plan, timeout)


def _targets(client: Client, words: Sequence[str], selector: str) -> list[tuple[str, str]]:
    """Return endpoints and domains that the words name, or whose names the pattern fits."""
    if not selector:
        found = []
        for word in words:
            endpoint, slash, domain = word.partition("/")
            if not (endpoint and slash and domain):
                hint = "`polyvisor domains -o name` lists them; --selector PATTERN takes several of one endpoint."
                raise CliError(f"{word!r} is not ENDPOINT/DOMAIN", ExitCode.USAGE, hint)
            found.append((endpoint, domain))
        return list(dict.fromkeys(found))
    if len(words) != 1 or "/" in words[0]:
        message = "--selector is a pattern over the names of one endpoint's domains"
        raise CliError(message, ExitCode.USAGE, f"For example: polyvisor adopt local --selector {selector!r}")
    listed = client.get(DOMAINS.format(words[0]))["items"]
    fitting = [one for one in listed if fnmatchcase(one["name"], selector)]
    free = [(words[0], str(one["uuid"])) for one in fitting if one["management"] != "Managed"]
    if not free:
        named = ", ".join(plain(one["name"]) for one in listed[:MAX_NAMED])
        why = "those that it fits are managed already" if fitting else f"it has {named or 'no domains'}"
        message = f"no domain of endpoint {words[0]} to adopt has a name like {selector!r}: {why}"
        raise CliError(message, ExitCode.NOT_FOUND, f"`polyvisor domains {words[0]}` lists them.")
    return free


def _plan(client: Client, endpoint: str, domain: str, namespace: str, name: str) -> Plan:
    query = {"domain": domain, "namespace": namespace, **({"name": name} if name else {})}
    try:
        return Plan(endpoint, client.get(f"{DOORS}/{quote(endpoint, safe='')}/adoption", query))
    except ApiError as error:
        raise explain(error, f"{endpoint}/{plain(domain)}") from error


def _report(plan: Plan, output: Output | None) -> None:
    told = plan.told
    title = f"{plan.domain} ({told['driver']}, {told['state']}) is VirtualMachine {plan.machine}"
    report(title, [_note(one) for one in told["settings"]], output)
    if told["untilNextStart"]:
        note("  The running guest has these otherwise than the domain is defined:")
        rows = [["FIELD", "NOW", ""]]
        rows += [[one["path"], plain(one["value"]), one["text"]] for one in told["untilNextStart"]]
        for line in columns(rows):
            note(f"  {line}")
    for volume in told["volumes"]:
        spec = volume["spec"]
        place = spec["csi"]["volumeAttributes"]
        where = f"pool {plain(place['pool'])}, volume {plain(place['volume'])}"
        note(
            f"  {where} is claim {spec['claimRef']['name']} ({spec['capacity']['storage']}, {spec['storageClassName']})"
        )


def _note(told: Obj) -> Note:
    return Note(told["path"], told["value"], Outcome(told["outcome"]), told["text"])


def _check(plans: Sequence[Plan]) -> None:
    """Refuse all if one cannot be adopted, or if two would have one name."""
    lines = []
    for plan in plans:
        if plan.told["reasons"]:
            lines.append(f"{plan.domain} cannot be adopted:")
            lines += [f"  {plain(reason)}" for reason in plan.told["reasons"]]
    if lines:
        raise CliError("\n".join(lines), ExitCode.INVALID, "Nothing was created or changed.")
    for machine, count in Counter(plan.machine for plan in plans).items():
        if count > 1:
            domains = ", ".join(plan.domain for plan in plans if plan.machine == machine)
            message = f"{count} domains would all be VirtualMachine {machine}: {domains}"
            raise CliError(message, ExitCode.CONFLICT, "Adopt them one at a time, with --name.")


def _try(client: Client, plan: Plan) -> None:
    """Ask the server whether it takes all objects of a plan."""
    for obj in plan.objects:
        resource = _resource(obj)
        if resource is PVS and _left_over(client, obj):
            continue
        _post(client, resource, obj, dry_run=True)


def _post(client: Client, resource: Resource, obj: Obj, *, dry_run: bool = False) -> Obj:
    namespace = obj["metadata"].get("namespace")
    try:
        return client.request("POST", resource.path(namespace), obj, query={"dryRun": "All"} if dry_run else None)
    except ApiError as error:
        raise explain(error, f"{resource.kind} {obj['metadata']['name']}") from error


def _resource(obj: Obj) -> Resource:
    return next(one for one in (VMS, PVS, PVCS) if one.kind == obj["kind"])


def _left_over(client: Client, volume: Obj) -> bool:
    """Whether a volume is there that stood for the same disk and that nothing is bound to any more."""
    try:
        there = client.get(PVS.path(name=volume["metadata"]["name"]))
    except ApiError as error:
        if error.not_found:
            return False
        raise
    same = nested(there["spec"], "csi").get("volumeHandle") == volume["spec"]["csi"]["volumeHandle"]
    return same and read_status(there).get("phase") in FREE


def _create(client: Client, plan: Plan) -> None:
    """Create a machine with its volumes and claims, and switch it on; take back what was created if that fails."""
    made: list[tuple[Resource, Obj]] = []
    try:
        machine = _post(client, VMS, plan.told["machine"])
        made.append((VMS, machine))
        for volume in plan.told["volumes"]:
            if _left_over(client, volume):
                _remove(client, PVS, volume)
            made.append((PVS, _post(client, PVS, volume)))
        for claim in plan.told["claims"]:
            owned = copy.deepcopy(claim)
            owned["metadata"]["ownerReferences"] = [_owner(machine)]
            made.append((PVCS, _post(client, PVCS, owned)))
        note_of_spec = {adopted.ADOPTED_SPEC_ANNOTATION: adopted.digest(machine["spec"]["template"])}
        change: Obj = {"template": {"metadata": {"annotations": note_of_spec}}, "runStrategy": plan.told["runStrategy"]}
        metadata = machine["metadata"]
        path = VMS.path(metadata["namespace"], metadata["name"])
        client.request("PATCH", path, {"spec": change}, content_type=MERGE)
    except BaseException:
        for resource, obj in reversed(made):
            with suppress(ApiError):
                client.request("DELETE", resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"]))
        raise


def _owner(machine: Obj) -> Obj:
    named = {name: machine["metadata"][name] for name in ("name", "uid")}
    return {"apiVersion": VMS.api_version, "kind": VMS.kind, **named}


def _remove(client: Client, resource: Resource, obj: Obj) -> None:
    """Delete an object that nothing is bound to, and wait until it is gone."""
    path = resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])
    with suppress(ApiError):
        client.request("DELETE", path)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.get(path)
        except ApiError as error:
            if error.not_found:
                return
            raise
        time.sleep(LOOK_SECONDS)


def _await(client: Client, plan: Plan, timeout: float) -> None:
    """Wait until the domain has the machine's mark, and a running guest's machine shows it."""
    deadline = time.monotonic() + timeout
    halted = plan.told["runStrategy"] == RunStrategy.HALTED
    while True:
        said = _waits_for(client, plan, halted)
        if not said:
            break
        if time.monotonic() >= deadline:
            message = f"{plan.domain} is VirtualMachine {plan.machine}, but not taken over after {timeout:g} s: {said}"
            name = plan.machine.rpartition("/")[2]
            hint = f"It is tried further: `polyvisor describe vm {name}` tells how it goes. The guest was not touched."
            raise CliError(message, ExitCode.TIMEOUT, hint)
        time.sleep(LOOK_SECONDS)
    state = "it stays shut off" if halted else "the guest runs on untouched"
    say(f"{plan.domain} is VirtualMachine {plan.machine} now; {state}")


def _waits_for(client: Client, plan: Plan, halted: bool) -> str:
    listed = client.get(DOMAINS.format(plan.endpoint))["items"]
    found = next((one for one in listed if one["uuid"] == plan.told["uuid"]), None)
    if found is None:
        return "the host no longer has the domain"
    namespace, _, name = plan.machine.partition("/")
    if not halted:
        selector = {"fieldSelector": f"metadata.name={name}"}
        machines = client.get(VMIS.path(namespace), selector).get("items") or []
        status = (machines[0].get("status") or {}) if machines else {}
        if status.get("phase") != "Running":
            return _why(status)
    return "" if found["management"] == "Managed" else "the domain has no mark of this installation yet"


def _why(status: Obj) -> str:
    """Say what a machine that does not run yet waits for."""
    for one in status.get("conditions") or []:
        if one.get("type") == "Synchronized" and one.get("status") == "False" and one.get("message"):
            return str(one["message"])
    return f"its instance is {status.get('phase') or 'not made yet'}"
