"""``python -m polyvisor.launcher [--pod | --trial] FOLDER``: serve the machine of FOLDER's plan until ``quit``.

SIGTERM leaves the domain running; a later launcher on the same folder takes it over. In a Pod (``--pod``) that would
be the domain's end, so there SIGTERM is left to the agent, who shuts the machine down and then ends the launcher; and
the launcher, which comes up before its plan, waits for it. A machine that is only tried (``--trial``) shall not outlive
who tries it: the launcher destroys it and ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import libvirt

from polyvisor.launcher.files import Taken, lock, now, write_pid
from polyvisor.launcher.first import become_owner, reap_orphans
from polyvisor.launcher.plan import Plan, PlanError, read_plan
from polyvisor.launcher.server import Server
from polyvisor.launcher.strays import end_strays

ABANDON_SECONDS = 60.0
QUIET_SECONDS = 2.0
"""How long nothing new may come to life before a launcher that still waits for libvirt's first answer is ended."""


def write_line(text: str, **about: str) -> None:
    """Write one line to the launcher's log: a JSON object, as all processes write them."""
    line = {"time": now(), "level": "info", "component": "virt-launcher", **about, "message": text}
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run the launcher; return its exit code."""
    in_pod, in_trial = arguments[:1] == ["--pod"], arguments[:1] == ["--trial"]
    if len(arguments) != 1 + in_pod + in_trial:
        sys.stderr.write("usage: python -m polyvisor.launcher [--pod | --trial] FOLDER\n")
        return 2
    folder = Path(arguments[-1]).resolve()
    os.umask(0o077)
    if in_pod:
        reap_orphans()
        _wait_for(folder / "plan.json")
    try:
        become_owner(folder)
        plan = read_plan(folder)
        held = lock(folder)
        plan.prepare()
        if plan.forbidden:
            from polyvisor.launcher.syscalls import forbid  # which most launchers do without

            forbid(plan.forbidden)
    except (PlanError, Taken) as error:
        sys.stderr.write(f"launcher: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"launcher: {folder}: {error}\n")
        return 2
    lifeline = os.dup(0) if in_trial else -1
    if not in_pod:  # there the log is the container's
        _redirect(folder / "launcher.log")
    write_pid(folder)
    if not plan.daemon:
        os.environ.update(plan.environment)
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_events, daemon=True, name="events").start()
    say = partial(write_line, domain=plan.name, uuid=plan.uuid)
    for pid in end_strays(folder, plan.strays):
        say(f"ended process {pid}, which a killed launcher has left behind")
    server = Server(plan, say)
    if in_trial:
        threading.Thread(target=_follow, args=(lifeline, server, plan), daemon=True, name="lifeline").start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if in_pod else lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if server.run():
        end_strays(folder, plan.strays)
        for name in ("launcher.sock", "launcher.pid"):
            (folder / name).unlink(missing_ok=True)
        say("done")
    else:
        server.close()
        say("leaving; the domain goes on")
    os.close(held)
    # The connection is not closed: libvirt's threads may be in it, and the domain must not notice.
    os._exit(0)


def _follow(lifeline: int, server: Server, plan: Plan) -> None:
    """Wait until the lifeline is cut, then end everything. What libvirt waits for in a call is ended under it."""
    while os.read(lifeline, 64):
        pass
    server.abandon()
    now = cut = quiet = time.monotonic()
    while now < cut + ABANDON_SECONDS and (server.opened or now < quiet + QUIET_SECONDS):
        if end_strays(plan.folder, plan.strays):
            quiet = now
        time.sleep(0.05)  # libvirt may start one more before it gives up
        now = time.monotonic()
    server.close()
    os._exit(1)


def _wait_for(plan: Path) -> None:
    """Wait for the plan; a Pod that is deleted before it has one just ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while not plan.exists():
        time.sleep(0.05)  # the standard library cannot watch a folder


def _events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
