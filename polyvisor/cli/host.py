"""``up``, ``down`` and ``status`` of the installation on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyvisor.api.reading import read_status
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import Output, columns, note, print_structured, say
from polyvisor.kube.errors import ApiError
from polyvisor.standalone import control
from polyvisor.standalone.failure import StartError
from polyvisor.standalone.state import BRIDGE, StateFolder, running

TELL_SECONDS = 10.0


def up(context: Context, *, foreground: bool, port: int, timeout: float | None, network: str = "") -> None:
    """Start the process, or say that it runs."""
    state = context.state
    info = _running(state)
    if network:
        _choose_network(state, network, info is not None)
    if info is not None:
        if foreground:
            raise CliError(
                f"Polyvisor runs already (pid {info.get('pid')})", ExitCode.CONFLICT, "Stop it with `polyvisor down`."
            )
        info = _wait_ready(state, info, timeout)
        _tell_drivers(context)
        say(f"Polyvisor runs already: {info.get('url', '')} (pid {info.get('pid')})")
        return
    if foreground:
        from polyvisor.standalone.process import main

        code = main(["--state-dir", str(state.root), "--port", str(port), "--foreground"])
        if code:
            raise SystemExit(code)
        return
    started = time.monotonic()
    with _start_errors(), _spinner() as show:
        for message in control.start(state, port=port, timeout=timeout):
            show(message)
            if "ready" in message:
                info = message["ready"]
    say(f"Polyvisor is up after {time.monotonic() - started:.1f} s: {(info or {}).get('url', '')}")
    say(f"kubectl --kubeconfig {state.kubeconfig} get nodes")


def _tell_drivers(context: Context) -> None:
    """Tell which drivers work now, as the start did then; what was missing may have been installed since."""
    from polyvisor.agent.node.probing import told
    from polyvisor.cli.drivers import try_again

    session = Context(str(context.state.kubeconfig), "", context.state).connect()
    with _spinner() as show:
        show({"step": "node", "text": "trying the hypervisor drivers"})
        try:
            report = try_again(session.client)
        except ApiError as error:
            note(str(error))
            return
        for key, text, works in told(report):
            show({"done": key, "text": text, "ok": works})


def _choose_network(state: StateFolder, network: str, runs: bool) -> None:
    if runs and network != state.network:
        raise CliError(
            f"Polyvisor runs already, with the network {state.network!r}",
            ExitCode.CONFLICT,
            "Stop it with `polyvisor down`, then start it again.",
        )
    if network == BRIDGE and os.geteuid() != 0:
        raise CliError("a bridge for machines can be made by root alone", ExitCode.NOT_PERMITTED, "Run with sudo.")
    if not runs:
        try:
            state.choose_network(network)
        except OSError as error:
            raise CliError(f"{state.root} cannot be written: {error.strerror}", ExitCode.NOT_PERMITTED) from error


def down(context: Context, *, keep_guests: bool, timeout: float | None) -> None:
    """Stop the process, and the guests unless they shall go on."""
    state = context.state
    with _start_errors():
        found = _running(state) is not None
        if not found and not keep_guests and control.leftovers(state):
            note("The process is gone, but launchers are there: starting it to stop them properly.")
            for _ in control.start(state, port=0):
                pass
            found = True
        if not found:
            say("Polyvisor is not running.")
            return
        with _spinner() as show:
            show({"step": "stop", "text": "stopping" if keep_guests else "shutting guests down"})
            control.stop(state, keep_guests=keep_guests, timeout=timeout)
    left = control.leftovers(state)
    if left and not keep_guests:
        names = ", ".join(str(folder) for folder in left)
        raise CliError(f"Polyvisor is down, but launchers are left in {names}", ExitCode.ERROR, f"See {state.log}.")
    say("Polyvisor is down." + (f" {len(left)} guests go on running." if left else ""))


def status(context: Context, output: Output) -> None:
    """Print what runs; exit code 7 if nothing does."""
    state = context.state
    info = _running(state)
    report: Obj = {"running": info is not None, "stateDir": str(state.root), "kubeconfig": str(state.kubeconfig)}
    if info is not None:
        report |= {"pid": info.get("pid"), "url": info.get("url", ""), "ready": bool(info.get("ready"))}
        try:
            report |= _contents(context)
        except (ApiError, CliError) as error:
            report["error"] = str(error)
        from polyvisor.cli import confinement

        report["confinement"] = confinement.report(state.root)
    if output in (Output.JSON, Output.YAML):
        print_structured(report, output)
    else:
        _print_status(report)
    if info is None:
        raise SystemExit(ExitCode.NOT_RUNNING)


def _contents(context: Context) -> Obj:
    session = Context(str(context.state.kubeconfig), "", context.state).connect()
    client = session.client
    nodes = client.get("/api/v1/nodes").get("items") or []
    vmis = client.get("/apis/kubevirt.io/v1/virtualmachineinstances").get("items") or []
    vms = client.get("/apis/kubevirt.io/v1/virtualmachines").get("items") or []
    phases: dict[str, int] = {}
    for vmi in vmis:
        phase = read_status(vmi).get("phase") or "Pending"
        phases[phase] = phases.get(phase, 0) + 1
    from polyvisor.cli.drivers import of_nodes

    return {
        "nodes": [{"name": n["metadata"]["name"], "ready": _node_ready(n)} for n in nodes],
        "drivers": of_nodes(nodes),
        "virtualMachines": len(vms),
        "virtualMachineInstances": len(vmis),
        "phases": phases,
    }


def _node_ready(node: Obj) -> bool:
    conditions = read_status(node).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _print_status(report: Obj) -> None:
    if not report["running"]:
        say(f"Polyvisor is not running (state in {report['stateDir']}). Start it with `polyvisor up`.")
        return
    state = "running" if report["ready"] else "starting"
    rows = [["Process:", f"{state}, pid {report['pid']}"], ["API server:", str(report["url"])]]
    rows.append(["State:", report["stateDir"]])
    if error := report.get("error"):
        rows.append(["Error:", error])
    for node in report.get("nodes", ()):
        rows.append(["Node:", f"{node['name']}, {'Ready' if node['ready'] else 'not ready'}"])
    for driver in report.get("drivers", ()):
        said = f"{driver['version']} ({', '.join(driver['virtTypes'])})" if driver["available"] else driver["reason"]
        rows.append(["Driver:", f"{driver['name']}: {said}"])
    if found := report.get("confinement"):
        from polyvisor.cli import confinement

        rows += confinement.rows(found)
    if "virtualMachines" in report:
        rows.append(["Machines (vm):", str(report["virtualMachines"])])
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(report["phases"].items()))
        rows.append(["Instances (vmi):", f"{report['virtualMachineInstances']}" + (f": {phases}" if phases else "")])
    for line in columns(rows):
        say(line)


def _running(state: StateFolder) -> dict[str, Any] | None:
    try:
        return running(state.pid_file)
    except PermissionError as error:
        raise CliError(
            f"{state.pid_file} cannot be read: {error.strerror}",
            ExitCode.NOT_PERMITTED,
            "The installation belongs to another user: run as that user, or with sudo.",
        ) from error


def _wait_ready(state: StateFolder, info: dict[str, Any], timeout: float | None) -> dict[str, Any]:
    """Another command is starting it: wait until its note says that it is ready."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while not info.get("ready"):
        if deadline is not None and time.monotonic() > deadline:
            raise CliError(f"not ready after {timeout:g} s", ExitCode.TIMEOUT, f"{state.log} says what it waits for.")
        time.sleep(0.1)  # a file says it, and files tell nobody
        again = _running(state)
        if again is None:
            raise CliError("the process that was starting has ended", ExitCode.ERROR, f"See {state.log}.")
        info = again
    return info


@contextmanager
def _start_errors() -> Iterator[None]:
    try:
        yield
    except StartError as error:
        code = ExitCode(error.code) if error.code in ExitCode._value2member_map_ else ExitCode.ERROR
        raise CliError(error.message, code, error.hint) from error


@contextmanager
def _spinner() -> Iterator[Any]:
    """Show steps: a spinner on a terminal, lines elsewhere."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    if not (console.is_terminal and os.environ.get("TERM") != "dumb"):
        yield _Plain().show
        return
    with console.status("starting") as status:

        def show(message: dict[str, Any]) -> None:
            if text := message.get("waiting") or ("step" in message and message["text"]):
                status.update(Text(text))
            elif "done" in message:
                mark = Text("✓ ", "green") if message["ok"] else Text("✗ ", "yellow")
                console.print(mark + Text(message["text"]))

        yield show


class _Plain:
    """Shows steps where there is no terminal: what is awaited as well, less and less often."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = TELL_SECONDS

    def show(self, message: dict[str, Any]) -> None:
        """Write a line, if there is something to say."""
        if "done" in message:
            note(f"{'ok' if message['ok'] else '--'}  {message['text']}")
        elif (text := message.get("waiting")) and (waited := time.monotonic() - self._began) >= self._next:
            self._next = 2 * waited
            note(f"..  {text}")
