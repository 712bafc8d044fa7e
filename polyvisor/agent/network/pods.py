"""The networks of the machines of a node, one Pod's at a time; what is kept of each stands in a folder of the agent's.

:class:`Networks` is a node on which there is nothing to set up: hypervisors bring a network in user mode of their own.
:class:`PodNetworks` is a node whose Pods have network namespaces. What isn't obvious: before anything of a Pod's
interface is taken away, what it had is written down, so that an agent that was killed in between can go on.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path
from typing import ClassVar

from polyvisor.agent.files import safepath
from polyvisor.agent.identity import domain_uuid
from polyvisor.agent.link import containers
from polyvisor.agent.link.connection import LauncherGone, Link
from polyvisor.agent.network import dhcp, guests, multus
from polyvisor.agent.network.facts import look
from polyvisor.agent.network.namespace import Namespace, NetworkError, forward6
from polyvisor.agent.network.plan import Card, Taken, commands, plan, take, wanted
from polyvisor.agent.network.rules import ruleset
from polyvisor.api import Obj
from polyvisor.api.host_names import host_name
from polyvisor.api.reading import nested, read_status
from polyvisor.domain import CardSource
from polyvisor.drivers.base import CardKind, Driver
from polyvisor.prerequisites import not_installed

KEPT = "taken.json"
TUN = "devices.kubevirt.io/tun"
PROGRAMS = ("ip", "nft", "nsenter", dhcp.PROGRAM)
TRIAL = "ip link add name t0 type bridge && ip tuntap add dev t1 mode tap && ip link set t1 master t0 && nft -f -"


class Networks:
    """Nothing is set up by the agent."""

    gives: ClassVar[frozenset[str]] = frozenset()
    """The features that a node has by its networks."""

    async def open(self) -> None:
        """Begin; called once."""

    def facts(self) -> frozenset[str]:
        """Return the features that hold on this node because of its networks."""
        return frozenset()

    async def make(self, id_: str, driver: Driver, uuid: str) -> None:
        """Make a Pod's own network, where this agent is the one to do it."""

    def prefix(self, id_: str) -> list[str]:
        """Return what to begin a launcher's command line with."""
        return []

    def address(self, id_: str) -> str:
        """Return a Pod's address; empty: the node's own."""
        return ""

    async def join(self, id_: str, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> list[Card]:
        """Join a machine's cards to its Pod's networks; repeated after each start of the agent."""
        return []

    def resolver(self, vmi: Obj, pod: Obj) -> str:
        """Return the ``resolv.conf`` of a machine that cannot be relied on to ask for one; empty: it has none."""
        return ""

    def joined(self, id_: str) -> list[Card] | None:
        """Return the cards of a machine, None if this agent has not joined them yet."""
        return []

    def addresses(self, id_: str, pod: Obj) -> list[str]:
        """Return the addresses by which others reach a Pod."""
        said = read_status(pod).get("podIPs") or []
        return [str(one["ip"]) for one in said if one.get("ip")]

    def socket(self, id_: str, kind: socket.SocketKind) -> tuple[socket.socket, str] | None:
        """Return a socket from which a guest can be reached, and its address; None where it has no inner address."""
        return None

    async def release(self, id_: str) -> None:
        """Take away all that was made for a Pod. Safe to repeat."""

    async def sweep(self, living: Collection[str]) -> None:
        """Take away what belongs to Pods that are gone."""

    async def close(self) -> None:
        """Take away what was made for the node itself, if no Pod needs it."""


@dataclass
class _Joined:
    namespace: Namespace
    cards: list[Card]
    seen: list[str]
    """The addresses that the Pod's interface had, of cards behind it."""
    addresses: frozenset[str] = frozenset()
    """The Pod's, as the kubelet tells them."""


class PodNetworks(Networks):
    """Networks inside the namespaces that Pods have already. ``resolver`` is given to guests."""

    gives = frozenset(
        (
            *("network.pod", "network.pod.cidr", "network.multus", "interface.masquerade", "interface.bridge"),
            *("interface.multiqueue", "interface.mtu", "interface.dhcp-options", "interface.mac", "interface.ports"),
        )
    )

    def __init__(self, folder: Path, resolver: dhcp.Resolver) -> None:
        self._folder = folder
        self._resolver = resolver
        self._joined: dict[str, _Joined] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.reason = "not tried yet"
        """Why networks do not work on this node; empty if they do."""

    async def open(self) -> None:
        """Find out whether networks can be set up here."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.reason = await asyncio.to_thread(trial)

    def facts(self) -> frozenset[str]:
        """Return the features that hold on this node because of its networks."""
        return frozenset() if self.reason else self.gives

    async def join(self, id_: str, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> list[Card]:
        """Join a machine's cards to its Pod's networks, unless the hypervisor does without."""
        if driver.cards is CardKind.NONE or not self._has(id_, link):
            return []
        if not list(wanted(vmi)):
            await asyncio.to_thread(self._keep, id_, {})  # so that cards may come while it runs
            return []
        if driver.cards is CardKind.TAP and not self._has_tun(pod):
            if any(card.get("masquerade") is None for card, _ in wanted(vmi)):
                raise NetworkError(
                    f"a bridged interface needs {TUN} in the launcher's container, which was not given it"
                )
            return []
        async with self._locks[id_]:
            namespace = self._namespace(id_, pod, link)
            try:
                await self._before(id_, vmi, namespace)
                owner = (link.user, link.gid) if driver.cards is CardKind.TAP else None
                cards, seen = await asyncio.to_thread(self._set_up, id_, vmi, pod, namespace, owner)
            except BaseException:
                namespace.close()
                raise
            old = self._joined.pop(id_, None)
            if old is not None:
                old.namespace.close()
            self._joined[id_] = _Joined(namespace, cards, seen)
            self.addresses(id_, pod)
            return cards

    def addresses(self, id_: str, pod: Obj) -> list[str]:
        """Return the addresses by which others reach a Pod: the kubelet's word, and until it comes what was seen.

        The kubelet reports them up to a second after a machine can run.
        """
        told = super().addresses(id_, pod)
        found = self._joined.get(id_)
        if found is None:
            return told
        found.addresses = frozenset(told)
        return told or found.seen

    def resolver(self, vmi: Obj, pod: Obj) -> str:
        """Return what the DHCP server tells of the Pod's names, as a ``resolv.conf``."""
        return "" if self.reason or not list(wanted(vmi)) else self._resolver.of(pod).text()

    def _has_tun(self, pod: Obj) -> bool:
        """Whether a launcher may open the device behind taps: its container was given it, or all devices."""
        for container in pod["spec"].get("containers") or []:
            limits = nested(container, "resources").get("limits") or {}
            if TUN in limits or nested(container, "securityContext").get("privileged"):
                return True
        return False

    def _has(self, id_: str, link: Link) -> bool:
        """Whether the agent sets up this machine's networks; one that runs without goes on so."""
        return not self.reason and (not link.active or (self._folder / id_ / KEPT).exists())

    async def _before(self, id_: str, vmi: Obj, namespace: Namespace) -> None:
        """Do what others do on a real node: join the Pod to its further networks."""

    def _namespace(self, id_: str, pod: Obj, link: Link) -> Namespace:
        """Open the namespace of the launcher, which is held meanwhile: its number may become another process's."""
        try:
            with containers.held(link.pid, str(pod["metadata"]["uid"])) as process:
                namespace = Namespace.open(Path(f"/proc/{link.pid}/ns/net"))
                try:
                    containers.check(process)
                except BaseException:
                    namespace.close()
                    raise
        except (ProcessLookupError, FileNotFoundError) as error:
            raise NetworkError(f"the launcher has ended: {error}") from None
        return namespace

    def _set_up(
        self, id_: str, vmi: Obj, pod: Obj, namespace: Namespace, owner: tuple[int, int] | None
    ) -> tuple[list[Card], list[str]]:
        """Return the cards, and the addresses of the interface that some are behind."""
        folder = self._folder / id_
        folder.mkdir(mode=0o700, exist_ok=True)
        taken = _read(folder / KEPT)
        facts = multus.finished(look(namespace), pod)
        cards = plan(vmi, domain_uuid(vmi), facts, taken)
        for card in cards:
            if not card.translated and card.outer not in taken:
                taken[card.outer] = take(facts.devices[card.outer], facts)
        self._keep(id_, taken)
        if any(card.translated for card in cards):
            namespace.set("net/ipv4/ip_forward", "1")
        for card in cards:
            if card.address6 is not None:
                namespace.within(partial(forward6, card.outer))
        namespace.run(["ip", "-batch", "-"], "\n".join(commands(cards, facts, owner)) + "\n")
        namespace.run(["nft", "-f", "-"], ruleset(cards))
        if dhcp.served(cards):
            text = dhcp.config(folder, cards, host_name(vmi), self._resolver.of(pod))
            dhcp.ensure(folder, namespace, text)
        outer = [facts.devices[card.outer] for card in cards if card.translated]
        seen = [str(one.ip) for device in outer for one in device.addresses]
        return cards, [*seen, *(str(one.ip) for device in outer for one in device.addresses6)]

    def _keep(self, id_: str, taken: Mapping[str, Taken]) -> None:
        folder = self._folder / id_
        folder.mkdir(mode=0o700, exist_ok=True)
        kept = {outer: one.to_obj() for outer, one in taken.items()}
        safepath.write_atomic(folder / KEPT, json.dumps(kept).encode())

    def joined(self, id_: str) -> list[Card] | None:
        """Return the cards of a machine, None if this agent has not joined them yet."""
        found = self._joined.get(id_)
        return found.cards if found else None

    def socket(self, id_: str, kind: socket.SocketKind) -> tuple[socket.socket, str] | None:
        """Return a socket from which a guest is reached, and its address, as this agent worked it out.

        A guest behind the Pod's address is reached inside the Pod. One that has the Pod's address cannot be, since that
        is taken from the Pod; it is reached from the node, at the address that was the Pod's.

        :raises LauncherGone: a former agent set the network up, and this one has not come to it yet.
        """
        found = self._joined.get(id_)
        if found is None and dhcp.was_made(self._folder / id_):
            raise LauncherGone("the VM's network is being set up again, since the node's agent has started; try again")
        for card in found.cards if found else ():
            address = card.address or card.address6
            if found is None or address is None or not guests.may_be(address.ip):
                continue
            if card.translated:
                return found.namespace.socket(kind, address.version), str(address.ip)
            if card.shown and str(address.ip) in found.addresses and not guests.is_local(address.ip):
                return guests.from_node(kind, address.ip), str(address.ip)
        return None

    async def release(self, id_: str) -> None:
        """End the DHCP server and forget what was kept; the rest goes with the Pod's namespace."""
        async with self._locks[id_]:
            await asyncio.to_thread(dhcp.stop, self._folder / id_)
            found = self._joined.pop(id_, None)
            if found is not None:
                found.namespace.close()
            await self._take_apart(id_)
            await asyncio.to_thread(safepath.remove_path, self._folder / id_)
        self._locks.pop(id_, None)

    async def _take_apart(self, id_: str) -> None:
        """Undo what was made outside the Pod; what is known of it is forgotten after that."""

    async def sweep(self, living: Collection[str]) -> None:
        """Release what a former agent left of Pods that are gone."""
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if folder.is_dir() and folder.name not in living:
                await self.release(folder.name)


def sources(cards: list[Card]) -> dict[str, CardSource]:
    """Return what the domain XML has to say of each card."""
    return {
        card.name: CardSource(
            tap=card.tap,
            bridge=card.bridge,
            mac=card.mac,
            mtu=card.mtu,
            queues=card.queues,
            address=card.address,
            gateway=card.gateway,
            address6=card.address6,
            gateway6=card.gateway6,
        )
        for card in cards
    }


def trial() -> str:
    """Try whether networks can be set up here, in a namespace that is gone at once; return why not. Blocking."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return not_installed(program)
    samples = [
        Card("t", translated, "e0", "t0", "t1", "", 1500, address=IPv4Interface("10.0.2.2/24"))
        for translated in (True, False)
    ]
    try:
        done = subprocess.run(
            ["unshare", "--net", "--", "/bin/sh", "-c", TRIAL],
            input=ruleset(samples),
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"networks cannot be tried: {error}"
    said = re.sub(r"\s+", " ", done.stderr).strip()[:300]
    return f"the kernel or the rights for networks are missing: {said}" if done.returncode else ""


def _read(path: Path) -> dict[str, Taken]:
    try:
        found: Mapping[str, Obj] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return {outer: Taken.of_obj(one) for outer, one in found.items()}
