"""``explain``: each driver's verdict on a manifest, before anything is created.

With ``--against`` the nodes and the configuration of a cluster are asked too: what a driver can do in principle and
what runs there today are two columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.explanation import DriverVerdict, Explanation, Fit, filled_in
from polyvisor.admission.explanation import explain as judge
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.names import CandidateVerdict
from polyvisor.api.reading import nested
from polyvisor.api.refused import why_not
from polyvisor.api.resources import (
    ENDPOINTS,
    KUBEVIRTS,
    NAMESPACES,
    NODES,
    PVCS,
    REPLICA_SETS,
    VMIS,
    VMS,
    Resource,
)
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.manifests import Manifest, load
from polyvisor.cli.output import Output, print_structured, say
from polyvisor.cli.plugins import tell_left_out
from polyvisor.drivers import registry
from polyvisor.drivers.base import Place
from polyvisor.drivers.isolation import told
from polyvisor.kube.errors import ApiError

if TYPE_CHECKING:
    from polyvisor.admission.context import Lookup
    from polyvisor.cli.client import Client
    from polyvisor.drivers.base import Driver
    from polyvisor.placement import Placement
    from polyvisor.placement.offers import Elsewhere

KINDS = {resource.kind: resource for resource in (VMS, VMIS, REPLICA_SETS)}
NAMED = 4
"""How many features the table names; the rest is counted."""
STYLES = {Fit.RUNS: "green", Fit.CONDITIONAL: "yellow", Fit.UNSUPPORTED: "red"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What ``--against`` found: the configuration and the nodes."""

    config: Obj
    nodes: list[Obj]
    client: Client
    local: bool = False
    """Whether it is the installation of this machine, which chooses endpoints for machines that name none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One machine of the manifest, judged."""

    manifest: Manifest
    explanation: Explanation
    placement: Placement | None

    @property
    def runs(self) -> bool:
        """Whether it can run as it is written."""
        return self.explanation.runs and (self.placement is None or self.placement.driver is not None)

    def to_obj(self) -> Obj:
        """Return the answer as JSON."""
        obj = {"file": self.manifest.file, "line": self.manifest.line, **self.explanation.to_obj(), "runs": self.runs}
        obj["isolation"] = {verdict.driver.name: _isolation(verdict.driver) for verdict in self.explanation.drivers}
        if self.placement is not None:
            obj["placement"] = self.placement.to_status()
        return obj


def explain(files: Sequence[str], against: Path | None, output: Output) -> None:
    """Print the verdicts; raise with exit code 3 if a machine cannot run."""
    if not files:
        raise CliError("explain which manifest?", ExitCode.USAGE, "For example: polyvisor explain vm.yaml")
    given = load(files)
    manifests = [m for m in given if m.obj.get("kind") in KINDS]
    reasons = [(one, why_not(str(one.obj.get("apiVersion")), str(one.obj.get("kind")))) for one in given]
    refused = [f"{one.where}: {reason}" for one, reason in reasons if reason]
    if not manifests and refused:
        raise CliError("\n".join(refused), ExitCode.INVALID)
    if not manifests:
        there = ", ".join(sorted({str(one.obj.get("kind")) for one in given})) or "nothing"
        what = f"no machine in {', '.join(files)}: found {there}"
        raise CliError(what, ExitCode.INVALID, f"explain judges {', '.join(KINDS)}; it reads others beside them.")
    tell_left_out()
    cluster = _cluster(against) if against else None
    lookup = _lookup(given, cluster)
    answers = [_answer(manifest, cluster, lookup) for manifest in manifests]
    if output in (Output.JSON, Output.YAML):
        print_structured({"machines": [answer.to_obj() for answer in answers]}, output)
    else:
        for answer in answers:
            _print(answer, output)
    bad = [f"{answer.manifest.where}: cannot run as written" for answer in answers if not answer.runs]
    if bad or refused:
        raise CliError("\n".join([*bad, *refused]), ExitCode.INVALID)


def _answer(manifest: Manifest, cluster: Cluster | None, lookup: Lookup) -> Answer:
    obj = {**manifest.obj, "metadata": {"namespace": "default", **manifest.obj["metadata"]}}
    resource = KINDS[obj["kind"]]
    context = AdmissionContext(cluster.config if cluster else {}, registry(), lookup)
    explanation = judge(resource, obj, context)
    placement = None
    if cluster is not None and explanation.drivers:
        from polyvisor.api import KubeVirtConfiguration, VirtualMachineInstanceSpec
        from polyvisor.placement import place

        spec = filled_in(obj, context) if resource == VMS else admit("CREATE", resource, obj, None, context).obj["spec"]
        if resource == REPLICA_SETS:
            spec = spec["template"]["spec"]
        config = KubeVirtConfiguration.model_validate(cluster.config)
        beside = _beside(cluster, obj["metadata"]["namespace"], spec)
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
        placement = place(parsed, config, cluster.nodes, registry(), beside=beside)
    return Answer(manifest, explanation, placement)


def _cluster(kubeconfig: Path) -> Cluster:
    from polyvisor.cli.context import Context
    from polyvisor.cli.drivers import try_again

    if not kubeconfig.expanduser().exists():
        raise CliError(f"--against: {kubeconfig} does not exist", ExitCode.NOT_FOUND)
    context = Context(kubeconfig=str(kubeconfig))
    client = context.connect().client
    if context.local:
        try_again(client)  # the Node's report may be older than what the user has just installed
    kubevirts = client.get(f"/apis/{KUBEVIRTS.group}/{KUBEVIRTS.version}/{KUBEVIRTS.plural}").get("items") or [{}]
    config = nested(kubevirts[0], "spec").get("configuration") or {}
    nodes = client.get(f"/api/v1/{NODES.plural}").get("items") or []
    return Cluster(config, nodes, client, context.local)


def _beside(cluster: Cluster, namespace: str, spec: Obj) -> Elsewhere:
    """Return the endpoints that a machine may go to which names none."""
    from polyvisor.placement.offers import NOWHERE, elsewhere

    if not cluster.local:
        return NOWHERE
    look = cluster.client.get
    space = _lookup((), cluster)(NAMESPACES, "", namespace) or {"metadata": {"name": namespace}}
    claims = {one["metadata"]["name"]: one for one in look(PVCS.path(namespace)).get("items") or []}
    volumes = {one["metadata"]["name"]: one for one in look(PVS.path()).get("items") or []}
    return elsewhere(spec, space, look(ENDPOINTS.path()).get("items") or [], claims, volumes)


def _lookup(manifests: Sequence[Manifest], cluster: Cluster | None) -> Lookup:
    """Return a way to the objects that machines refer to: those beside them in the files, else the cluster's."""
    given = {(one.obj.get("kind"), one.obj["metadata"].get("name")): one.obj for one in manifests}

    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        found = given.get((resource.kind, name))
        if found is not None or cluster is None:
            return found
        try:
            return cluster.client.get(resource.path(namespace or None, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    return lookup


def _print(answer: Answer, output: Output) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    found = answer.explanation
    console.print(
        f"{found.kind} {found.name} ({answer.manifest.file}:{answer.manifest.line})", style="bold", markup=False
    )
    for problem in found.problems:
        line = answer.manifest.line_of(problem.field)
        console.print(f"  line {line}: {problem}", style="red", markup=False, soft_wrap=True)
    for warning in found.warnings:
        console.print(f"  warning: {warning}", markup=False, soft_wrap=True)
    if found.drivers:
        console.print(_table(answer))
        for one in answer.placement.candidates if answer.placement else ():
            if one.endpoint:
                words = f"Endpoint {one.endpoint} ({one.driver}): {_in_cluster(one)}"
                console.print(words, markup=False, soft_wrap=True)
        for verdict in found.drivers:
            here = verdict.driver.place is Place.LAUNCHER
            if here and verdict.allowed and verdict.fit is not Fit.UNSUPPORTED:
                words = f"Isolation under {verdict.driver.title}: {_isolation(verdict.driver)}"
                console.print(words, markup=False, soft_wrap=True)
        for verdict in found.drivers:
            if verdict.fit is not Fit.RUNS and (verdict.allowed or output == Output.WIDE):
                _details(console, answer.manifest, verdict, output == Output.WIDE)
    say()


def _table(answer: Answer) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    candidates = answer.placement.candidates if answer.placement else ()
    cluster = {c.driver: c for c in candidates if not c.endpoint}
    table = Table(box=box.SIMPLE, pad_edge=False)
    titles = ["DRIVER", "VERDICT", *(["IN THIS CLUSTER"] if cluster else []), "WHY", "CHANGES"]
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title in ("DRIVER", "VERDICT"))
    for verdict in answer.explanation.drivers:
        name = verdict.driver.name if verdict.allowed else f"({verdict.driver.name})"
        row = [Text(name), Text(str(verdict.fit), STYLES[verdict.fit])]
        if cluster:
            row.append(Text(_in_cluster(cluster.get(verdict.driver.name))))
        row += [Text(_why(verdict)), Text(_effort(verdict), justify="right")]
        table.add_row(*row)
    if any(not verdict.allowed for verdict in answer.explanation.drivers):
        table.caption = "(in parentheses: not named by the manifest)"
        table.caption_justify = "left"
    return table


def _isolation(driver: Driver) -> str:
    """Return in words what keeps a guest of a driver from the node, where it runs in a launcher."""
    words = told(driver) or "a kernel of the guest's own, and a launcher without privileges"
    if driver.own_user:
        words += "; on one machine, if root runs Polyvisor, a user for each machine (`polyvisor status`)"
    return words


def _in_cluster(candidate: Any) -> str:
    if candidate is None:
        return "not asked"
    words = "" if candidate.verdict is CandidateVerdict.UNSUPPORTED else "; ".join(r.message for r in candidate.reasons)
    return f"{candidate.verdict}" + (f": {words}" if words else "")


def _why(verdict: DriverVerdict) -> str:
    """Name what decides the verdict, in few words."""
    titles = [lack.feature.title for lack in verdict.lacks] or [c.feature.title for c in verdict.conditions]
    if not titles:
        return ""
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return ("lacks: " if verdict.lacks else "where there is: ") + ", ".join(titles[:NAMED]) + more


def _effort(verdict: DriverVerdict) -> str:
    if verdict.fit is not Fit.UNSUPPORTED:
        return ""
    return "no way found" if verdict.changes is None else str(len(verdict.changes))


def _details(console: Any, manifest: Manifest, verdict: DriverVerdict, wide: bool) -> None:
    """Print every reason with its line in the file, then what would make the driver fit."""
    title = verdict.driver.title
    console.print(f"{title} {'lacks' if verdict.lacks else 'needs'}:", style="bold", markup=False)
    said: list[tuple[tuple[str, ...], str, str]] = []
    said += [(lack.fields, lack.reason, lack.support.source) for lack in verdict.lacks]
    said += [(condition.fields, condition.text, condition.support.source) for condition in verdict.conditions]
    for fields, reason, source in said:
        for field in fields:
            console.print(f"  line {manifest.line_of(field)}: {field}", markup=False, soft_wrap=True)
        console.print(f"    {reason}" + (f" [{source}]" if wide else ""), style="dim", markup=False, soft_wrap=True)
    if verdict.changes:
        console.print(f"{title} would run it with:", style="bold", markup=False)
        for change in verdict.changes:
            console.print(f"  - {change}", markup=False, soft_wrap=True)
