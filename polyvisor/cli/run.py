"""``run FILE``: up if needed, apply, wait until every machine of the manifest runs, and join the console on request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from polyvisor import prerequisites
from polyvisor.api.reading import nested
from polyvisor.cli.change import apply
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Context, Session
from polyvisor.cli.discovery import Kind
from polyvisor.cli.drivers import lacking, of_nodes, try_again
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.manifests import load
from polyvisor.cli.output import Output, note
from polyvisor.drivers.pace import Deadline
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.state import running

VMIS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances"
WAIT_SECONDS = 180.0
"""On an idle core; a slow machine gets more."""
LOOK_SECONDS = 2.0
AGAIN_SECONDS = 1.0
DOCTOR = "`polyvisor doctor` lists all that is missing."
NODES = "/api/v1/nodes"
MACHINES = ("VirtualMachine", "VirtualMachineInstance")
RUNS_BY_ITSELF = ("Always", "RerunOnFailure", "Once")


def run(context: Context, files: Sequence[str], namespace: str, *, console: bool, timeout: float | None) -> None:
    """Do all of it; the manifest is read first, so that a mistake in it starts nothing."""
    if not files:
        raise CliError("run which manifest?", ExitCode.USAGE, "For example: polyvisor run demo.yaml")
    if "-" not in files:
        load(files)
    if context.local and not (running(context.state.pid_file) or {}).get("ready"):
        from polyvisor.cli.host import up

        up(context, foreground=False, port=0, timeout=None)
    session = context.connect()
    made = apply(session, files, namespace, force=False, output=Output.TABLE, dry_run=False)
    machines = [obj for kind, obj in made if _shall_run(kind, obj)]
    if console and len(machines) != 1:
        raise CliError(f"--console joins one machine, and the manifest has {len(machines)}", ExitCode.USAGE)
    deadline = Deadline(WAIT_SECONDS) if timeout is None else Deadline(timeout, measure=lambda: 1.0)
    for machine in machines:
        if context.local:
            tell_unavailable(session, machine, deadline)
        namespace, name = machine["metadata"]["namespace"], machine["metadata"]["name"]
        wait_running(session, namespace, name, deadline, here=context.local)
    if console:
        from polyvisor.cli.console import attach

        attach(session.client, machines[0]["metadata"]["namespace"], machines[0]["metadata"]["name"], idle=2.0)


def _shall_run(kind: Kind, obj: Obj) -> bool:
    if kind.kind == "VirtualMachine":
        spec = obj.get("spec") or {}
        return spec.get("runStrategy") in RUNS_BY_ITSELF or bool(spec.get("running"))
    return kind.kind in MACHINES


def tell_unavailable(session: Session, machine: Obj, deadline: Deadline) -> None:
    """Say why none of the drivers that a machine asks for works on this machine, and fail if something is missing.

    They are tried again first, as the user may just have installed what was missing. One that only did not work yet is
    waited for.
    """
    spec = nested(machine, "spec").get("template", machine).get("spec") or {}
    asked = spec.get("hypervisor") or {}
    names = [asked["driver"]] if asked.get("driver") else asked.get("anyOf") or []
    known = lacking(of_nodes(session.client.get(NODES).get("items") or []), names)
    try:
        known = lacking(try_again(session.client, max(1.0, deadline.left)), names) if known else []
    except ApiError as error:
        if not error.unreachable:
            raise
        note(f"{error}; what is known of the drivers may be old")
    if not known:
        return
    name = machine["metadata"]["name"]
    said = [f"{name}: {one['title']} is not available on this machine: {one['reason']}" for one in known]
    if all(prerequisites.advice(one["name"]) for one in known):
        hint = f"{name} is created, and starts once that is done. {DOCTOR}"
        raise CliError("\n".join(said), ExitCode.ERROR, hint)
    for line in said:
        note(line)


def wait_running(session: Session, namespace: str, name: str, deadline: Deadline, *, here: bool = False) -> None:
    """Wait until a machine runs, telling its phases and warnings; its failure is ours.

    So is a program that its agent misses, where that is on this machine (``here``).
    """
    started = time.monotonic()
    path = VMIS.format(namespace)
    selector = f"metadata.name={name}"
    teller = _Teller(session, namespace, name, started, here)
    while True:
        if deadline.passed:
            raise CliError(
                f"{name} is not running yet (phase {teller.phase or 'none'})",
                ExitCode.TIMEOUT,
                f"`polyvisor describe vmi {name} -n {namespace}` says what it waits for.",
            )
        try:
            answer = session.client.get(path, {"fieldSelector": selector})
            if any(teller.running(vmi) for vmi in answer.get("items") or []):
                return
            query = {"fieldSelector": selector, "resourceVersion": answer["metadata"]["resourceVersion"]}
            with suppress(TimeoutError):
                for event, vmi in session.client.watch(path, query, timeout=min(deadline.left, LOOK_SECONDS)):
                    if event in ("ADDED", "MODIFIED") and teller.running(vmi):
                        return
            teller.warnings()
        except ApiError as error:
            if not error.unreachable:
                raise
            teller.once(f"{error}; trying again")
            time.sleep(AGAIN_SECONDS)


class _Teller:
    """Tells what happens to a machine, each thing once."""

    def __init__(self, session: Session, namespace: str, name: str, started: float, here: bool) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._started = started
        self._here = here
        self._told: set[str] = set()
        self.phase = ""

    def running(self, vmi: Obj) -> bool:
        status = vmi.get("status") or {}
        phase = status.get("phase") or "Pending"
        if phase != self.phase:
            self.phase = phase
            driver = nested(status, "hypervisor").get("driver")
            on = f" under {driver}" if driver else ""
            note(f"{self._name}: {phase}{on} ({time.monotonic() - self._started:.1f} s)")
        if phase in ("Failed", "Succeeded"):
            self.warnings()
            raise CliError(
                f"{self._name} has ended: {phase}",
                ExitCode.ERROR,
                f"`polyvisor describe vmi {self._name}` and `polyvisor logs {self._name}` say more.",
            )
        if phase != "Running":
            self._check_programs(status.get("conditions") or [])
        return bool(phase == "Running")

    def _check_programs(self, conditions: Sequence[Obj]) -> None:
        """Raise if the machine waits for a program that somebody has to install first."""
        for one in conditions if self._here else ():
            message = str(one.get("message", ""))
            unready = (one.get("type"), one.get("status")) == ("Synchronized", "False")
            if unready and prerequisites.still_missing(message):
                hint = f"{self._name} is created, and starts once that is done. {DOCTOR}"
                raise CliError(f"{self._name}: {message}", ExitCode.ERROR, hint)

    def once(self, text: str) -> None:
        """Tell something unless it was told before."""
        if text not in self._told:
            self._told.add(text)
            note(f"{self._name}: {text}")

    def warnings(self) -> None:
        query = {"fieldSelector": f"involvedObject.name={self._name},type=Warning"}
        events = self._session.client.get(f"/api/v1/namespaces/{self._namespace}/events", query)
        for event in events.get("items") or []:
            self.once(f"{event.get('reason')}: {' '.join(str(event.get('message', '')).split())}")
