"""What can be done with a running guest besides holding and ending it: reboot, reset, screen, memory, agent.

These calls run on a thread of their own: an agent inside the guest may never answer, and that must not hold up a
pause or a forced end. A screen and a screenshot leave the launcher as a file descriptor beside the answer, so that
their bytes never pass through here.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt

from polyvisor.launcher import statistics
from polyvisor.launcher.calls import call_of
from polyvisor.launcher.files import write_durably
from polyvisor.launcher.machine import Machine, Refused
from polyvisor.launcher.plan import Plan

AGENT_SECONDS = 5
MOST_AGENT_SECONDS = 300
ACCEPT_SECONDS = 2.0
MOST_ANSWER_SECONDS = 60.0
SCREENSHOT_BYTES = 256 * 1024 * 1024
TCP = re.compile(r"<graphics type='vnc' port='(\d+)'[^>]*listen='([^']+)'")
UNIX = re.compile(r"<graphics type='vnc'[^>]* socket='([^']+)'")
USER = re.compile(r"<interface type='user'>(?:(?!</interface>).)*<alias name='([^']+)'", re.DOTALL)
USB = re.compile(r"<redirdev bus='usb' type='unix'>\s*<source mode='bind' path='([^']+)'")
MODES = {
    "default": libvirt.VIR_DOMAIN_REBOOT_DEFAULT,
    "acpi": libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN,
    "agent": libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT,
    "initctl": libvirt.VIR_DOMAIN_REBOOT_INITCTL,
}


class Guest:
    """All of it asks the machine for the domain, and is refused if that does not run."""

    def __init__(self, machine: Machine, plan: Plan, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._plan = plan
        self._say = say
        self._until = plan.folder / "frozen-until"
        self._thawing: threading.Timer | None = None

    def reboot(self) -> None:
        """Ask the guest to restart itself, in the first way of the plan that libvirt takes."""
        domain = self._machine.domain()
        refusal: Exception | None = None
        for way in self._plan.reboot:
            try:
                domain.reboot(MODES[way])
            except libvirt.libvirtError as error:
                refusal = error
            else:
                self._say(f"asked the guest to reboot ({way})")
                return
        if refusal:
            raise refusal

    def reset(self) -> None:
        """Press the reset button."""
        self._machine.domain().reset(0)
        self._say("reset")

    def freeze(self, seconds: float) -> None:
        """Have the guest's file systems hold still; they are let go by themselves after ``seconds`` (0: never).

        Those that hold still already do so until the new time is over: an agent refuses to be told so twice.
        """
        self._cancel()
        try:
            self._machine.domain().fsFreeze(None, 0)
        except libvirt.libvirtError:
            if self.command({"execute": "guest-fsfreeze-status"}, None)["answer"] != "frozen":
                raise
        self._say(f"file systems are frozen for at most {seconds:.0f} s" if seconds else "file systems are frozen")
        if seconds:
            write_durably(self._until, f"{time.time() + seconds}\n")
            self._thaw_in(seconds)

    def begin(self) -> None:
        """Tell the guest of its host where the plan says so; keep a former launcher's limit for frozen file systems."""
        if self._plan.metrics:
            from polyvisor.launcher import metrics  # which few machines have

            metrics.begin(self._plan.metrics, self._plan.folder, self._told, lambda: self._machine.ended)
        try:
            until = float(self._until.read_text())
        except (OSError, ValueError):
            return
        self._thaw_in(max(0.0, until - time.time()))

    def _told(self) -> bytes:
        """Return what the guest is told of its host, and of itself while it runs."""
        from polyvisor.launcher import metrics

        product = f"{self._plan.driver}-{self._machine.versions['hypervisorVersion']}"
        try:
            found = statistics.read(self._machine.domain())
        except (Refused, libvirt.libvirtError):
            found = {}
        return metrics.document(metrics.collect(self._plan.node, product, found))

    def _thaw_in(self, seconds: float) -> None:
        self._thawing = threading.Timer(seconds, self._late)
        self._thawing.daemon = True
        self._thawing.start()

    def thaw(self) -> None:
        """Let the guest's file systems go on."""
        self._cancel()
        self._machine.domain().fsThaw(None, 0)
        self._say("file systems go on")

    def command(self, command: object, seconds: object) -> dict[str, Any]:
        """Put one command to the agent inside the guest and return its answer."""
        if not isinstance(command, dict) or not isinstance(seconds, int | float | None):
            raise Refused("bad-request", "an agent's command is an object, its time limit a number of seconds")
        limit = int(min(max(1, AGENT_SECONDS if seconds is None else seconds), MOST_AGENT_SECONDS))
        if not self._plan.agent:
            raise Refused("no-agent", "libvirt reaches no agent inside this hypervisor's guests")
        text = call_of(self._plan.agent)(self._machine.domain(), json.dumps(command), limit, 0)
        return {"answer": json.loads(text).get("return")}

    def screen(self) -> dict[str, Any]:
        """Return a connection to the guest's screen that speaks VNC's protocol."""
        domain = self._machine.domain()
        try:
            return {"descriptor": domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)}
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        xml = domain.XMLDesc()
        if found := UNIX.search(xml):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.connect(found[1])
        elif found := TCP.search(xml):
            peer = socket.create_connection((found[2], int(found[1])), AGENT_SECONDS)
            peer.setblocking(True)
        else:
            raise Refused("no-screen", "the domain has no screen that can be looked at from here")
        return {"descriptor": peer.detach()}

    def usb(self, slot: object) -> dict[str, Any]:
        """Return a connection to one of the slots for USB devices, on which the hypervisor speaks first."""
        found = USB.findall(self._machine.domain().XMLDesc())
        if not isinstance(slot, int) or not 0 <= slot < len(found):
            raise Refused("no-slot", f"the domain has {len(found)} slots for USB devices, not one of number {slot!r}")
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(found[slot])
        return {"descriptor": peer.detach()}

    def port(self, port: object, answer: object = 0) -> dict[str, Any]:
        """Return a connection to a TCP port of a guest on a user-mode network.

        Its local port is there for the moment in which it is connected to, so that nobody else comes through it. The
        hypervisor takes a connection before the guest does: with ``answer`` seconds the guest must have, by then.
        """
        words, domain = self._plan.forward, self._machine.domain()
        card = USER.search(domain.XMLDesc())
        if not isinstance(port, int) or not 0 < port < 65536:
            raise Refused("bad-request", f"{port!r} is not a port")
        seconds = min(float(answer), MOST_ANSWER_SECONDS) if isinstance(answer, int | float) else 0.0
        if "call" not in words or card is None:
            raise Refused("no-address", "the machine has no network interface with an address that its node can reach")
        call, flags = call_of(words["call"]), int(words["flags"])

        def tell(word: str) -> str:
            text = words[word].format(alias=card[1], local=local, port=port)
            return str(call(domain, text, flags))

        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as unused:
            unused.bind(("127.0.0.1", 0))
            local = unused.getsockname()[1]
        if refusal := tell("open").strip():
            raise Refused("dial", refusal)
        try:
            peer = socket.create_connection(("127.0.0.1", local), AGENT_SECONDS)
            wanted = words["answered" if seconds and "answered" in words else "accepted"]
            found = re.compile(wanted.replace("{local}", str(local)))
            deadline = time.monotonic() + (seconds or ACCEPT_SECONDS)
            while not (taken := bool(found.search(tell("list")))) and time.monotonic() < deadline:
                if select.select([peer], [], [], 0.01)[0]:
                    taken = not seconds or bool(peer.recv(1, socket.MSG_PEEK))  # it has spoken, or ended already
                    break
            if seconds and not taken:
                peer.close()
                raise Refused("dial", f"port {port} of the guest takes no connection")
            peer.setblocking(True)
        except OSError as error:
            raise Refused("dial", f"port {port} of the guest: {error}") from None
        finally:
            tell("close")
        return {"descriptor": peer.detach()}

    def screenshot(self) -> dict[str, Any]:
        """Return a file in memory that holds a picture of the guest's screen, and its type."""
        domain = self._machine.domain()
        stream = domain.connect().newStream(0)
        file = os.memfd_create("screenshot", os.MFD_CLOEXEC)
        size = 0

        def keep(_stream: Any, data: bytes, _opaque: Any) -> int:
            nonlocal size
            size += len(data)
            if size > SCREENSHOT_BYTES:
                raise ValueError("the screenshot is too large")
            return os.write(file, data)

        try:
            kind = domain.screenshot(stream, 0, 0)
            stream.recvAll(keep, None)
            stream.finish()
            os.lseek(file, 0, os.SEEK_SET)
        except BaseException:
            os.close(file)
            raise
        return {"type": kind, "size": size, "descriptor": file}

    def dump(self, path: object) -> None:
        """Write the guest's memory into a file that is there, as an ELF core; its CPUs are held meanwhile."""
        if not isinstance(path, str) or not path.startswith("/"):
            raise Refused("bad-request", "dump wants the path of a file")
        domain = self._machine.domain()
        domain.coreDumpWithFormat(path, libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY)
        self._say("the memory was dumped")

    def _late(self) -> None:
        self._say("nobody let the file systems go on in time")
        try:
            self.thaw()
        except (Refused, libvirt.libvirtError) as error:
            self._say(f"the file systems cannot be let go: {error}")

    def _cancel(self) -> None:
        if self._thawing:
            self._thawing.cancel()
        self._thawing = None
        self._until.unlink(missing_ok=True)
