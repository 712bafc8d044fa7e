"""What is done to domains: define, start, power down, pause, mark, undefine; each only for the one whose it is.

A domain is started paused where its console can be opened, and goes on once somebody reads it, so that no early output
is lost. Nothing is remembered here: after a break of the connection the host is what there is.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import libvirt

from polyvisor.launcher.endpoint.consoles import Consoles
from polyvisor.launcher.endpoint.owned import (
    MARK,
    PREFIX,
    UNSUPPORTED,
    Answer,
    Refused,
    check,
    find,
    owned,
    owner_of,
    text_of,
)

UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
MODES = {
    "default": libvirt.VIR_DOMAIN_SHUTDOWN_DEFAULT,
    "acpi": libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
    "agent": libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    "initctl": libvirt.VIR_DOMAIN_SHUTDOWN_INITCTL,
    "signal": libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL,
}
SOURCES = (
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
)
MAX_ADDRESSES = 64
AGENT = "org.qemu.guest_agent.0"
CONNECTED = re.compile(rf"<target [^>]*name='{re.escape(AGENT)}'[^>]*state='connected'")


class Domains:
    """The operations; ``there`` gives the connection, ``record`` what is listed of a domain."""

    def __init__(
        self, there: Callable[[], Any], record: Callable[[Any, str], Answer | None], consoles: Consoles
    ) -> None:
        self._there = there
        self._record = record
        self._consoles = consoles
        self.operations: Mapping[str, Callable[[Answer], Answer]] = {
            "define": self._define,
            "start": self._start,
            "state": self._state,
            "follow": self._follow,
            "shutdown": self._shutdown,
            "destroy": self._destroy,
            "pause": self._simple("suspend"),
            "resume": self._simple("resume"),
            "reboot": self._reboot,
            "reset": self._reset,
            "undefine": self._undefine,
            "mark": self._mark,
            "unmark": self._unmark,
            "addresses": self._addresses,
        }

    def _define(self, asked: Answer) -> Answer:
        """Define a domain that has the mark of its owner in it; again, if it is there and is the same one's.

        With ``anew`` the one that is there is undefined before, where libvirt does not change a definition.
        """
        connection, xml = self._there(), text_of(asked, "xml")
        if "<!" in xml:
            raise Refused("bad-request", "xml: a domain without document type is expected")
        root = ET.fromstring(xml)
        name, uuid = root.findtext("name") or "", root.findtext("uuid") or ""
        for look, what in ((connection.lookupByUUIDString, uuid), (connection.lookupByName, name)):
            there = _if_there(look, what)
            if there is None:
                continue
            if there.UUIDString() != uuid:
                raise Refused("name-taken", f"the name {name} is another domain's on the host")
            check(there, asked)
            if asked.get("anew") is True and what == uuid:
                self._forget(there)
        domain = connection.defineXML(xml)
        return {"uuid": domain.UUIDString(), "name": domain.name()}

    def _start(self, asked: Answer) -> Answer:
        """Start a domain, paused if that is asked; return what is listed of it. One that runs already goes on."""
        domain = owned(self._there(), asked)
        if not domain.isActive():
            self._begin(domain, text_of(asked, "machine"), paused=asked.get("paused") is True)
        return self._told(domain)

    def _begin(self, domain: Any, machine: str, *, paused: bool) -> None:
        try:
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        except libvirt.libvirtError as error:
            if paused or error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, *UNSUPPORTED):
                raise
            domain.create()  # the driver starts nothing paused
        with suppress(libvirt.libvirtError):
            self._consoles.follow(domain, machine)
        if not paused and domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()

    def _state(self, asked: Answer) -> Answer:
        """Return what is listed of a domain, and whether the agent inside its guest is connected."""
        domain = find(self._there(), text_of(asked, "uuid"))
        told = self._told(domain)
        if told["state"] == "running":
            told = {**told, "agent": bool(CONNECTED.search(domain.XMLDesc(0)))}
        return told

    def _told(self, domain: Any) -> Answer:
        found = self._record(domain, domain.UUIDString())
        if found is None:
            raise Refused("no-domain", "the domain is gone")
        return found

    def _follow(self, asked: Answer) -> Answer:
        """Read the console of a domain that runs, if it is not read yet."""
        domain = owned(self._there(), asked)
        try:
            self._consoles.follow(domain, text_of(asked, "machine"))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in UNSUPPORTED:
                raise
            return {"console": False}
        return {"console": True}

    def _shutdown(self, asked: Answer) -> Answer:
        """Ask the guest to power down, by the first of ``ways`` from ``step`` on that libvirt takes.

        The answer's ``step`` is where to go on if the guest does not heed it.
        """
        domain = owned(self._there(), asked)
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        given, step = asked.get("ways"), asked.get("step", 0)
        ways = [way for way in given if isinstance(way, str)] if isinstance(given, list) else []
        ways = ways or ["default"]
        refusal: libvirt.libvirtError | None = None
        for number in range(step if isinstance(step, int) and 0 <= step < len(ways) else 0, len(ways)):
            try:
                for one in ways[number].split("+"):
                    _ask(domain, one)
            except libvirt.libvirtError as error:
                refusal = error
                continue
            return {"step": number + 1}
        assert refusal is not None
        raise refusal

    def _destroy(self, asked: Answer) -> Answer:
        domain = owned(self._there(), asked)
        if domain.isActive():
            try:
                domain.destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or domain.isActive():
                    raise
        return {}

    def _simple(self, method: str) -> Callable[[Answer], Answer]:
        def operation(asked: Answer) -> Answer:
            getattr(owned(self._there(), asked), method)()
            return {}

        return operation

    def _reboot(self, asked: Answer) -> Answer:
        owned(self._there(), asked).reboot(0)
        return {}

    def _reset(self, asked: Answer) -> Answer:
        owned(self._there(), asked).reset(0)
        return {}

    def _undefine(self, asked: Answer) -> Answer:
        """Forget the definition of a domain that does not run; nothing to do if there is none."""
        try:
            domain = owned(self._there(), asked)
        except Refused as refusal:
            if refusal.code == "no-domain":
                return {}
            raise
        self._forget(domain)
        return {}

    def _forget(self, domain: Any) -> None:
        if domain.isActive():
            raise Refused("active", f"domain {domain.name()} runs")
        self._consoles.forget(domain.UUIDString())
        if not domain.isPersistent():
            return
        try:
            domain.undefineFlags(UNDEFINE)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, *UNSUPPORTED):
                raise
            domain.undefine()

    def _mark(self, asked: Answer) -> Answer:
        """Write the owner's mark into a domain that has none, or the mark of the machine ``before``, which it replaces.

        Whether that machine's time is over is the agent's to say; another's mark is never written over.
        """
        domain, mark = find(self._there(), text_of(asked, "uuid")), text_of(asked, "mark")
        given = dict(ET.fromstring(mark).attrib)
        if (given.get("cluster"), given.get("machine")) != (text_of(asked, "cluster"), text_of(asked, "machine")):
            raise Refused("bad-request", "mark: it is to name the cluster and the machine of the request")
        found = owner_of(domain)
        if found.get("cluster", given["cluster"]) != given["cluster"]:
            raise Refused("foreign", f"domain {domain.name()} is marked for another installation")
        if found.get("machine") not in (None, given["machine"], asked.get("before")):
            raise Refused("foreign", f"domain {domain.name()} is marked for another machine by now")
        # libvirt adds the namespace itself, and refuses an element that declares it
        self._write_mark(domain, ET.tostring(ET.Element("owner", given), encoding="unicode"))
        return {}

    def _unmark(self, asked: Answer) -> Answer:
        domain = owned(self._there(), asked)
        self._write_mark(domain, None)
        self._consoles.forget(domain.UUIDString())
        return {}

    def _write_mark(self, domain: Any, mark: str | None) -> None:
        """Write or take away the mark, of the running domain and of its definition."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
        key = PREFIX if mark is not None else None
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, mark, key, MARK, flags)

    def _addresses(self, asked: Answer) -> Answer:
        """Return the addresses that are known of a domain's interfaces, from each source that its driver has.

        Without ``guest`` what the guest itself says is left out.
        """
        domain = find(self._there(), text_of(asked, "uuid"))
        found: dict[str, Answer] = {}
        for source in SOURCES if asked.get("guest", True) else SOURCES[1:]:
            try:
                told = domain.interfaceAddresses(source, 0)
            except libvirt.libvirtError:  # no agent, no leases, no such source: each is usual
                continue
            for name, one in (told or {}).items():
                mac = str(one.get("hwaddr") or "").lower()
                addresses = [str(a["addr"]) for a in one.get("addrs") or [] if a.get("addr")]
                if not mac or not addresses:
                    continue
                entry = found.setdefault(mac, {"name": name, "mac": mac, "addresses": []})
                entry["addresses"] += [one for one in addresses if one not in entry["addresses"]][:MAX_ADDRESSES]
        return {"interfaces": list(found.values())[:MAX_ADDRESSES]}


def _if_there(look: Callable[[str], Any], what: str) -> Any:
    try:
        return look(what)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _ask(domain: Any, way: str) -> None:
    kind, _, signals = way.partition(":")
    if not signals:
        mode = MODES.get(kind, 0)
        domain.shutdownFlags(mode) if mode else domain.shutdown()
    for number in signals.split(",") if signals else ():
        domain.sendProcessSignal(1, int(number), 0)
