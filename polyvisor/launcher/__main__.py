"""``python -m polyvisor.launcher FOLDER``: serve the one machine whose plan lies in FOLDER, until ``quit``.

SIGTERM leaves the domain running; a later launcher on the same folder takes it over.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import libvirt

from polyvisor.launcher.files import Taken, lock, now, write_pid
from polyvisor.launcher.plan import PlanError, read_plan
from polyvisor.launcher.server import Server


def say(text: str) -> None:
    """Write one line to the launcher's log."""
    sys.stdout.write(f"{now()} {text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run the launcher; return its exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m polyvisor.launcher FOLDER\n")
        return 2
    folder = Path(arguments[0]).resolve()
    os.umask(0o077)
    try:
        plan = read_plan(folder)
        held = lock(folder)
        plan.prepare()
    except (PlanError, Taken) as error:
        sys.stderr.write(f"launcher: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"launcher: {folder}: {error}\n")
        return 2
    _redirect(folder / "launcher.log")
    write_pid(folder)
    if not plan.daemon:
        os.environ.update(plan.environment)
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_events, daemon=True, name="events").start()
    server = Server(plan, say)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if server.run():
        for name in ("launcher.sock", "launcher.pid"):
            (folder / name).unlink(missing_ok=True)
        say("done")
    else:
        server.close()
        say("leaving; the domain goes on")
    os.close(held)
    # The connection is not closed: libvirt's threads may be in it, and the domain must not notice.
    os._exit(0)


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
