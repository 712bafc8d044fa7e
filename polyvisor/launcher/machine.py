"""The one domain of this launcher, through libvirt: start, adopt, power down, and how it ended.

The domain is defined before it is started, so that libvirt remembers why it stopped for a launcher that was dead at
that moment. State is always read from libvirt; an event only says that it is time to look, or, for a domain that is
already gone, how it went. Where libvirt's driver has no events it is looked at in turns, and how the domain ended is
what it was asked to do last. A domain whose launcher died while starting it is told by the ``starting`` mark in the
state file; the mark says whether it then has to run or to wait, as it was asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import libvirt

from polyvisor.launcher.adopted import when_taken_over
from polyvisor.launcher.capabilities import capabilities
from polyvisor.launcher.daemon import Daemon
from polyvisor.launcher.files import now, read_state, write_durably
from polyvisor.launcher.plan import Plan
from polyvisor.launcher.steady import on_one_cpu

State = dict[str, Any]

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}
ENDS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "failed",
}
EVENT_ENDS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "failed",
}
MODES = {
    "default": libvirt.VIR_DOMAIN_SHUTDOWN_DEFAULT,
    "acpi": libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
    "agent": libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    "initctl": libvirt.VIR_DOMAIN_SHUTDOWN_INITCTL,
    "signal": libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL,
}
KEEPING = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
AGENT = "org.qemu.guest_agent.0"
LISTENING = re.compile(rf"<target type='virtio' name='{re.escape(AGENT)}' state='connected'")
CONSOLE = re.compile(r"<console type='pty' tty='([^']+)'")
SERIAL = re.compile(r"<serial type='pty'>\s*<source path='([^']+)'")


class Refused(Exception):
    """An operation that cannot be done; ``code`` is for programs, the text for people."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **more}


class Machine:
    """All calls into libvirt. One thread at a time works in it; events arrive on libvirt's own thread."""

    def __init__(self, plan: Plan, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._plan = plan
        self._changed = changed
        self._say = say
        self._connection: Any = None
        self._daemon = Daemon(plan, say) if plan.daemon else None
        self._mutex = threading.Lock()
        self._leaving = threading.Event()
        self._asked = ""
        self._agent = False
        self._removed = 0
        kept = read_state(plan.folder)
        self._starting = bool(kept.pop("starting", False))
        self._wait = bool(kept.pop("wait", False))
        self._state: State = kept if "state" in kept else {"state": "none", "reason": "", "since": now(), "id": -1}
        self.versions = {"libvirtVersion": "", "hypervisorVersion": "", "driver": plan.driver}

    @property
    def state(self) -> State:
        """The state as it was last seen, whether the guest's agent listens, how many devices the guest let go of."""
        return {**self._state, "agent": self._agent and not self.ended, "removed": self._removed}

    @property
    def ended(self) -> bool:
        """Whether the domain ran and is over; it is never started a second time."""
        return self._state["state"] in ("shutoff", "crashed")

    def open(self) -> None:
        """Reach libvirt, then take over the domain if it is there. Raises what libvirt or the daemon raises."""
        if self._daemon:
            self._daemon.ensure()
        with on_one_cpu():
            connection = libvirt.openAuth(self._plan.uri, [[], lambda *_: -1, None])
        if self._plan.poll_seconds:
            self._poll()
        else:
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._event, None)
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._noticed, None)
            with suppress(libvirt.libvirtError):  # few drivers have agents to tell of
                connection.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._noticed, None
                )
            with suppress(libvirt.libvirtError):  # nor devices that go
                connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._let_go, None)
        connection.registerCloseCallback(self._closed, None)
        self._connection = connection
        self.versions = {
            "libvirtVersion": _dotted(connection.getLibVersion()),
            "hypervisorVersion": _dotted(connection.getVersion()),
            "driver": self._plan.driver or connection.getType().lower(),
        }
        self.refresh()
        if self._starting and self._state["state"] in ("running", "paused"):
            self._say("finishing the start that a former launcher began")
            self._let(self.domain())
            self._started()
        if self._state["state"] in ("running", "paused"):
            when_taken_over(self.domain(), self._changed)

    def refresh(self) -> None:
        """Look at the domain and record what is seen."""
        domain = self._find()
        if domain is None:
            if self._state["state"] in ("running", "paused", "shutdown"):
                self._record("shutoff", self._asked or "unknown")
            return
        state, reason = domain.state()
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            if self._state["state"] not in ("none", "shutoff", "crashed"):
                self._end(ENDS.get(reason) or self._asked or "unknown")
        else:
            held = state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_DUMP
            word = "running" if held else STATES.get(state, "running")  # libvirt lets it go on by itself
            self._record(word, "starting" if self._starting else "", domain.ID())

    def start(self, xml: str, prepare: Callable[[], None], paused: bool = False) -> State:
        """Define and start the domain unless it runs or ran; ``prepare`` is called before the guest's first step.

        With ``paused`` it waits for :meth:`resume`.
        """
        if self._connection is None:
            self.open()
        self.refresh()
        if self._state["state"] != "none":
            return self.state
        domain = self._connection.defineXML(xml)
        if not self._is_ours(domain):
            domain.undefine()
            raise Refused("identity", f"the XML names another domain than the plan ({self._plan.name})")
        self._starting, self._wait = True, paused
        self._record("none", "starting", force=True)
        try:
            self._create(domain)
            prepare()
            self._let(domain)
        except libvirt.libvirtError:
            self._starting = False
            self._discard(domain)
            self._record("none", "failed", force=True)
            raise
        self._started()
        return self.state

    def _create(self, domain: Any) -> None:
        """Start the domain, paused if that is of use and libvirt's driver can."""
        if self._wait or self._plan.start_paused:
            try:
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
                return
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:  # what a driver says of a flag it lacks
                    raise
        domain.createWithFlags(0)

    def _let(self, domain: Any) -> None:
        """Let a domain that was just created run, or have it wait, as it was asked."""
        waits = domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        if self._wait and not waits:
            domain.suspend()
        elif waits and not self._wait:
            domain.resume()

    def _started(self) -> None:
        self._starting = self._wait = False
        self.refresh()

    def shutdown(self, step: int) -> int:
        """Ask the guest to power down, from the plan's ``step`` on; return the step to go on with if it does not.

        The first way that libvirt takes is the one that counts; the last refusal is raised if it takes none.
        """
        domain = self.domain()
        refusal: Exception | None = None
        for number, way in enumerate(self._plan.shutdown[step:], step):
            taken = False
            for one in way.split("+"):
                try:
                    _ask(domain, one)
                    taken = True
                except libvirt.libvirtError as error:
                    refusal = error
            if taken:
                self._asked = "shutdown"
                self._say(f"asked the guest to power down ({way})")
                return number + 1
        if refusal:
            raise refusal
        return len(self._plan.shutdown)

    @property
    def shutdown_steps(self) -> int:
        """How many ways of powering down the plan has."""
        return len(self._plan.shutdown)

    def destroy(self) -> None:
        """End the domain at once; no error if it is over."""
        domain = self._find()
        if domain is not None and domain.isActive():
            self._asked = "destroyed"
            try:
                domain.destroy()
            except libvirt.libvirtError:
                if domain.isActive():
                    raise
                self._record("shutoff", "destroyed")  # libvirt was taking it over: it notes another end, and no event
        self.refresh()

    def pause(self) -> None:
        """Hold the guest's CPUs."""
        domain = self.domain()
        if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
            domain.suspend()
        self.refresh()

    def resume(self) -> None:
        """Let a held guest go on."""
        domain = self.domain()
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        self.refresh()

    def close(self, final: bool) -> None:
        """Leave libvirt: its daemon ends, domains go on; with ``final`` the ended domain's definition goes too."""
        if final and self._connection is not None and (domain := self._find()) is not None:
            if domain.isActive() and not self.ended:  # some drivers call a domain active that they know to be over
                raise Refused("active", "the domain is still there")
            self._discard(domain)
        self._leaving.set()
        if self._daemon:
            self._daemon.stop(final=final)

    def capabilities(self, virt_type: str) -> State:
        """Return what libvirt says of guests of a virt type on this host."""
        if self._connection is None:
            self.open()
        return {**capabilities(self._connection, virt_type)}

    def description(self) -> str:
        """Return the running domain's XML, with all that libvirt added to it."""
        text: str = self.domain().XMLDesc()
        return text

    def inspect(self) -> str:
        """See whether the guest's agent listens; return the pseudo terminal of its console, or an empty text."""
        domain = self._find()
        if domain is None or not domain.isActive():
            return ""
        xml = domain.XMLDesc()
        listens = bool(LISTENING.search(xml))
        if listens != self._agent:
            self._agent = listens
            self._changed()
        match = CONSOLE.search(xml) or SERIAL.search(xml)
        return match.group(1) if match else ""

    def _find(self) -> Any:
        if self._connection is None:
            self.open()
        try:
            if self._plan.own_uuids:
                return self._connection.lookupByName(self._plan.name)
            return self._connection.lookupByUUIDString(self._plan.uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def domain(self) -> Any:
        """Return libvirt's handle of the running domain; refuse if it does not run."""
        domain = self._find()
        if domain is None or not domain.isActive():
            raise Refused("no-domain", "the domain is not running")
        return domain

    def _is_ours(self, domain: Any) -> bool:
        known = self._plan.own_uuids or domain.UUIDString() == self._plan.uuid
        return known and bool(domain.name() == self._plan.name)

    def _discard(self, domain: Any) -> None:
        try:
            if domain.isActive():
                domain.destroy()
            _undefine(domain)
        except libvirt.libvirtError as error:
            self._say(f"the domain's definition stays: {error}")

    def _event(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        if not self._is_ours(domain):
            return
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            # A failed start is start()'s to tell, and no end; nor is a reboot: some drivers tell it as a stop.
            if self._state["state"] != "none" and not _runs(domain):
                self._end(EVENT_ENDS.get(detail, "unknown"))
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            self._record("crashed", "crashed")
        else:
            self._changed()

    def _poll(self) -> None:
        """Look again and again, for a driver that reports no events; one thread, however often we connect."""

        def look() -> None:
            while not self._leaving.wait(self._plan.poll_seconds):
                self._changed()

        if not any(thread.name == "poll" for thread in threading.enumerate()):
            threading.Thread(target=look, daemon=True, name="poll").start()

    def _let_go(self, *_: Any) -> None:
        self._removed += 1
        self._changed()

    def _noticed(self, *_: Any) -> None:
        self._changed()

    def _closed(self, _connection: Any, reason: int, _opaque: Any) -> None:
        if self._leaving.is_set():
            return
        self._say(f"libvirt's connection broke (reason {reason})")
        self._connection = None
        self._changed()

    def _end(self, reason: str) -> None:
        reason = "destroyed" if (reason, self._asked) == ("failed", "destroyed") else reason  # before a container is up
        self._record("crashed" if reason == "crashed" else "shutoff", reason)

    def _record(self, state: str, reason: str, number: int = -1, force: bool = False) -> None:
        with self._mutex:
            old = self._state
            same = (old["state"], old["reason"], old["id"]) == (state, reason, number)
            if not force and (same or (self.ended and state in ("shutoff", "crashed"))):
                return
            self._state = {"state": state, "reason": reason, "since": now(), "id": number}
            kept = {**self._state, "starting": self._starting, "wait": self._wait}
            write_durably(self._plan.folder / "state.json", json.dumps(kept) + "\n")
        self._say(f"state {state} {reason}")
        self._changed()


def _runs(domain: Any) -> bool:
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError:
        return False


def _undefine(domain: Any) -> None:
    """Forget a domain's definition, but not its firmware's variables and its TPM, which somebody may want kept."""
    try:
        domain.undefineFlags(KEEPING)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        domain.undefine()


def _ask(domain: Any, way: str) -> None:
    kind, _, signals = way.partition(":")
    if not signals:
        domain.shutdownFlags(MODES[kind])
    for number in signals.split(",") if signals else ():
        domain.sendProcessSignal(1, int(number), 0)


def _dotted(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
