"""What an agent can ask a launcher for, and which thread does it.

Calls that libvirt or the hypervisor answers by itself run one after the other; those that a guest or a slow disk may
hold up have a thread of their own, so that a pause or a forced end never waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polyvisor.launcher import attached, statistics
from polyvisor.launcher.confined import confine
from polyvisor.launcher.guest import Guest
from polyvisor.launcher.machine import Machine
from polyvisor.launcher.moving import Moving
from polyvisor.launcher.plan import Plan

Message = dict[str, Any]
Calls = dict[Any, Callable[[], Any]]


class Operations:
    """The operations by their names. ``own`` are the server's."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        guest: Guest,
        moving: Moving,
        attach: Callable[[], None],
        own: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._plan = plan
        self._machine = machine
        self._guest = guest
        self._moving = moving
        self._attach = attach
        self._own = own

    def __call__(self, message: Message) -> tuple[Calls, Calls]:
        """Return what a message can ask for: what is done in order, and what is done apart from that."""
        return self._in_order(message), self._apart(message)

    def _in_order(self, message: Message) -> Calls:
        machine, moving, xml = self._machine, self._moving, message.get("xml")
        return {
            **self._own,
            "start": lambda: machine.start(str(xml or ""), self._attach, message.get("paused") is True),
            "destroy": machine.destroy,
            "pause": machine.pause,
            "resume": moving.resume,
            "describe": lambda: {"xml": machine.description()},
            "capabilities": lambda: machine.capabilities(str(message.get("virtType", ""))),
            "attach": lambda: attached.attach(machine, xml),
            "update": lambda: attached.update(machine, xml),
            "vcpus": lambda: attached.cpus(machine, message.get("count")),
            "change": lambda: attached.change(machine, xml),
            "confine": lambda: confine(machine, self._plan.folder, message.get("cpus")),
            "detach": lambda: attached.detach(machine, message.get("alias"), xml),
            "portable": moving.xml,
            "receive": lambda: moving.receive(str(xml or ""), self._attach, message.get("disks")),
            "incoming": moving.incoming,
            "incoming-disk": moving.copies.incoming,
            "copy": lambda: moving.copies.copy(message.get("disk")),
            "switch": moving.switch,
            "send": lambda: moving.send(message.get("options")),
            "progress": moving.progress,
            "cancel": moving.cancel,
            "stay": moving.stay,
        }

    def _apart(self, message: Message) -> Calls:
        guest = self._guest
        return {
            "reboot": guest.reboot,
            "reset": guest.reset,
            "freeze": lambda: guest.freeze(_seconds(message)),
            "thaw": guest.thaw,
            "agent": lambda: guest.command(message.get("command"), message.get("timeout")),
            "screen": guest.screen,
            "usb": lambda: guest.usb(message.get("slot")),
            "port": lambda: guest.port(message.get("port"), message.get("answer")),
            "screenshot": guest.screenshot,
            "dump": lambda: guest.dump(message.get("path")),
            "stats": lambda: {"stats": statistics.read(self._machine.domain())},
        }


def _seconds(message: Message) -> float:
    value = message.get("timeout", 0)
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
