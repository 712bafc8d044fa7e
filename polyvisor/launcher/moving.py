"""Live migration, as far as it is one launcher's: the domain's memory leaves by a socket, or comes in by one.

libvirt's embedded driver cannot be the target of a migration of libvirt's own (it destroys no domain by itself when a
connection ends), so both ends speak to the hypervisor's monitor through libvirt: the target's domain is started so that
it waits for its state, the source's sends it. The words are the plan's. Neither end has a network connection: a
launcher hands a unix socket to its agent, and the agents join the two (docs/decisions/0006-live-migration.md).

What isn't obvious: nothing here decides which side runs. The target's guest waits until it is told to go on, and the
source's stays where it is once all is sent; either can still be let go or destroyed.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import libvirt

from polyvisor.launcher.calls import call_of
from polyvisor.launcher.copying import Copies
from polyvisor.launcher.machine import Machine, Refused
from polyvisor.launcher.plan import Plan

ACCEPT_SECONDS = 10.0
INCOMING, OUTGOING = "incoming.sock", "outgoing.sock"
UNLIMITED = 1 << 60
DOWNTIME_MS = 300
"""The hypervisor's own default."""
MIGRATABLE = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
SENT, RECEIVED = "sent", "received"
"""What is said instead of the monitor's "completed", which both ends have."""
ARRIVED = "arrived"
"""What is said once a guest that was received has gone on: whoever pauses it later means it."""
HERE = ("failed", "cancelled")
"""How the sending of a guest ends that stays."""
OVER = (SENT, RECEIVED, ARRIVED, *HERE)


class Moving:
    """One domain's move out or in; the calls run on the server's worker threads."""

    def __init__(self, machine: Machine, plan: Plan, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._machine = machine
        self._plan = plan
        self._changed = changed
        self._say = say
        self._status = ""
        self._sends = False
        self._settled = False
        self._lock = threading.Lock()
        self._followed = False
        self.copies = Copies(self._tell, self._place, say)

    @property
    def state(self) -> dict[str, Any]:
        """The monitor's word for how far the move is; nothing if there was none."""
        return {"moving": self._status} if self._status else {}

    def xml(self) -> dict[str, Any]:
        """Return the domain as another host has to make it."""
        return {"xml": self._machine.domain().XMLDesc(MIGRATABLE)}

    def receive(self, xml: str, attach: Callable[[], None], disks: object) -> None:
        """Start a domain that waits for its state, and for that of some disks; repeated, it changes nothing."""
        if self._status:
            return
        self._words()
        self._machine.start(xml, attach, True)
        domain = self._machine.domain()
        self._follow(domain)
        self._tell("receiving")
        self.copies.serve(disks or [])
        self._tell("receive", socket=self._place(INCOMING))
        self._note("waiting")

    def incoming(self) -> dict[str, Any]:
        """Return the connection into which the state is to be written; there is one."""
        if self._status != "waiting":
            raise Refused("not-waiting", "the domain does not wait for its state")
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.connect(self._place(INCOMING))
        except OSError as error:
            peer.close()
            raise Refused("not-waiting", f"the domain takes no state: {error}") from None
        os.unlink(self._place(INCOMING))  # noqa: PTH108
        self._note("connected")
        return {"descriptor": peer.detach()}

    def send(self, options: object) -> dict[str, Any]:
        """Begin to send; return the connection from which the state is to be read."""
        words = self._words()
        given: Mapping[str, Any] = options if isinstance(options, dict) else {}
        if self._sends and self._status not in HERE:
            raise Refused("moving", f"the domain is being moved already ({self._status})")
        domain = self._machine.domain()
        self._follow(domain)
        holds = "true" if self.copies.begun else "false"
        self._tell("sending", converge="true" if given.get("converge") is True else "false", holds=holds)
        self._tell(
            "limits",
            bandwidth=str(_number(given.get("bandwidth")) or UNLIMITED),
            downtime=str(_number(given.get("downtime")) or DOWNTIME_MS),
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            place = self._place(OUTGOING)
            with suppress(FileNotFoundError):
                os.unlink(place)  # noqa: PTH108
            listener.bind(place)
            listener.listen(1)
            listener.settimeout(ACCEPT_SECONDS)
            self._sends, self._settled = True, False
            try:
                self._note("setup")
                self._tell("send", socket=place)
                connection, _ = listener.accept()
            except BaseException as error:
                self._note("failed")
                if isinstance(error, OSError):
                    raise Refused("moving", f"{words['call']} opened no connection: {error}") from None
                raise
            finally:
                os.unlink(place)  # noqa: PTH108
        connection.setblocking(True)
        self._say("sending the domain's state")
        return {"descriptor": connection.detach()}

    def progress(self) -> dict[str, Any]:
        """Return what the monitor says of the move: its status, and what was and is to be sent, in bytes."""
        found = self._look()
        memory = found.get("ram") or {}
        numbers = {key: _number(memory.get(key)) for key in ("total", "transferred", "remaining")}
        return {
            "progress": {
                "status": self._status,
                "error": str(found.get("error-desc") or ""),
                "downtime": _number(found.get("downtime")),
                "disks": self.copies.states(),
                **numbers,
            }
        }

    def switch(self) -> None:
        """Have a guest that stands still, with its disks copied, be sent to its end."""
        self.copies.complete()
        self._tell("go-on")

    def resume(self) -> None:
        """Let the guest go on; its disks are nobody else's then.

        Refused while it is sent away, and when it was sent, until :meth:`stay`: it may be the target's by then.
        """
        if self._sends and self._status not in HERE:
            what = f"the guest is being moved ({self._status}); it can be let go on when its migration has ended"
            raise Refused("moving", what)
        self.copies.withdraw()
        self._machine.resume()
        if self._status == RECEIVED:
            self._settled = True
            self._note(ARRIVED)

    def stay(self) -> None:
        """Take it that a guest that was sent is this domain's after all; it can be let go on, and be sent again."""
        if self._status == SENT:
            self._settled = True  # the monitor goes on saying "completed" of what was sent
            self._note("cancelled")

    def cancel(self) -> None:
        """Give up sending; the guest goes on here. No error if there is nothing to give up."""
        if self._sends and self._status not in OVER:
            self._tell("cancel")
        if self.copies.begun:
            self.copies.abandon()

    def _words(self) -> Mapping[str, str]:
        if "call" not in self._plan.move:
            raise Refused("no-migration", "libvirt's driver moves no domain from one launcher to another")
        return self._plan.move

    def _place(self, name: str) -> str:
        return os.fspath(self._plan.folder / name)

    def _tell(self, word: str, **values: str) -> Any:
        """Put a command of the plan's to the monitor; return its answer. Raises :class:`Refused`."""
        words = self._words()
        text = words[word]
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        answer = json.loads(call_of(words["call"])(self._machine.domain(), text, 0))
        if "error" in answer:
            raise Refused("moving", f"{word}: {answer['error'].get('desc')}")
        return answer.get("return")

    def _look(self) -> dict[str, Any]:
        answer = self._tell("look")
        found: dict[str, Any] = answer if isinstance(answer, dict) else {}
        if status := found.get("status"):
            self._note(str(status))
        return found

    def _follow(self, domain: Any) -> None:
        """Have the monitor's events tell how far the move is."""
        if self._followed:
            return
        words = self._words()

        def told(_connection: Any, _domain: Any, _event: str, _s: int, _us: int, details: str, _opaque: Any) -> None:
            with suppress(ValueError, AttributeError):
                self._note(str(json.loads(details).get("status")))

        call_of(words["events"])(domain.connect(), domain, words["event"], told, None, 0)
        self._followed = True

    def _note(self, status: str) -> None:
        if status == "completed":
            if self._settled:
                return
            status = SENT if self._sends else RECEIVED
        with self._lock:
            if status == self._status or (status == "setup" and self._status in ("connected", "waiting")):
                return
            self._status = status
        self._say(f"moving: {status}")
        self._changed()


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
