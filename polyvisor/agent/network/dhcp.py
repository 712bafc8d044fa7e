"""The DHCP server of a machine: ``dnsmasq`` inside its Pod's network namespace, which knows that one machine alone.

It hands out what is settled already, so it keeps no leases. It may outlive this agent: it is known again by its process
id together with its command line, since a number alone may belong to somebody else by now.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.agent.network.namespace import Namespace
from polyvisor.agent.network.plan import Card
from polyvisor.api import Obj

CONFIG = "dnsmasq.conf"
PROCESS = "dnsmasq.pid"
PROGRAM = "dnsmasq"
MOST = 3
LEASE6 = 300
"""Seconds of a lease of IPv6, which are the longest that a guest waits that comes back by another name (its DUID)."""
_PLAIN = re.compile(r"[A-Za-z0-9 !#$%&'()*+./:;<=>?@^_`{|}~\[\]-]{1,255}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Resolver:
    """Where names are looked up: servers, and the domains that short names are completed with."""

    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    def of(self, pod: Obj) -> Resolver:
        """Return a Pod's: this process's own, but the Pod's namespace for ours, and what the Pod says of its own."""
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        own = Resolver() if spec.get("dnsPolicy") == "None" else self
        given = spec.get("dnsConfig") or {}
        servers = [*own.servers, *(one for one in given.get("nameservers") or [] if _elsewhere(one))]
        domains = [re.sub(r"^[^.]+\.svc\.", f"{namespace}.svc.", domain) for domain in own.domains]
        domains += [name for name in given.get("searches") or [] if _DOMAIN.fullmatch(name)]
        return Resolver(tuple(servers[:MOST]), tuple(domains[: 2 * MOST]))

    def text(self) -> str:
        """Return it as a ``resolv.conf``; empty where there is no server to ask."""
        search = [f"search {' '.join(self.domains)}"] if self.domains else []
        lines = [*(f"nameserver {server}" for server in self.servers), *search]
        return "".join(f"{line}\n" for line in lines) if self.servers else ""

    @classmethod
    def read(cls, path: Path = Path("/etc/resolv.conf")) -> Resolver:
        """Read this process's own; a server on this host's loopback cannot be reached from a guest and is left out."""
        servers: list[str] = []
        domains: list[str] = []
        try:
            lines = path.read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            word, *rest = line.split() or [""]
            if word == "nameserver" and rest and _elsewhere(rest[0]):
                servers.append(rest[0])
            elif word in ("search", "domain"):
                domains = [name for name in rest if _DOMAIN.fullmatch(name)]
        return cls(tuple(servers), tuple(domains))


def _elsewhere(text: str) -> bool:
    """Whether a text is an address that others, too, reach a server by."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def served(cards: Iterable[Card]) -> list[Card]:
    """Return the cards that are given their address."""
    return [card for card in cards if card.address is not None or card.address6 is not None]


def config(folder: Path, cards: Iterable[Card], hostname: str, resolver: Resolver) -> str:
    """Return dnsmasq's configuration, with its process id in ``folder``."""
    lines = ["port=0", "bind-interfaces", "except-interface=lo", "dhcp-authoritative", "leasefile-ro"]
    lines += ["user=nobody", "group=nogroup", f"pid-file={folder / PROCESS}", "no-resolv", "no-hosts", "no-ping"]
    name = hostname if _HOST.fullmatch(hostname) else ""
    for number, card in enumerate(served(cards)):
        lines.append(f"interface={card.bridge}")
        if card.address is not None:
            lines += _card(card, f"c{number}", name, resolver)
        if card.address6 is not None:
            lines += _card6(card, f"v{number}", name, resolver)
    return "\n".join(lines) + "\n"


def _card6(card: Card, tag: str, hostname: str, resolver: Resolver) -> Iterator[str]:
    """A router that says of itself that it is there and that addresses are given out, and the one that is."""
    assert card.address6 is not None
    yield "enable-ra"
    yield f"dhcp-range=set:{tag},{card.address6.ip},static,{card.address6.network.prefixlen},{LEASE6}"
    name = f",{hostname}" if hostname else ""
    yield f"dhcp-host={card.mac},[{card.address6.ip}]{name},{LEASE6}"
    where = f"tag:{tag},option6"
    if servers := [f"[{server}]" for server in resolver.servers if ":" in server]:
        yield f"dhcp-option={where}:dns-server,{','.join(servers)}"
    if resolver.domains:
        yield f"dhcp-option={where}:domain-search,{','.join(resolver.domains)}"


def _card(card: Card, tag: str, hostname: str, resolver: Resolver) -> Iterator[str]:
    assert card.address is not None
    yield f"dhcp-range=set:{tag},{card.address.ip},static,{card.address.netmask},infinite"
    if not card.translated:
        yield f"shared-network={card.bridge},{card.address.ip}"
    name = f",{hostname}" if hostname else ""
    yield f"dhcp-host={card.mac},{card.address.ip}{name},infinite"
    where = f"tag:{tag}"
    yield f"dhcp-option={where},3" + (f",{card.gateway}" if card.gateway else "")
    if card.routes:
        # a client that is told of routes does not look at the gateway any more (RFC 3442)
        all_routes = [f"{route.to},{route.gateway or '0.0.0.0'}" for route in card.routes]
        all_routes += [f"0.0.0.0/0,{card.gateway}"] if card.gateway else []
        yield f"dhcp-option={where},121,{','.join(all_routes)}"
    yield f"dhcp-option={where},26,{card.mtu}"
    yield f"dhcp-option={where},6" + "".join(f",{server}" for server in resolver.servers if ":" not in server)
    if resolver.domains:
        yield f"dhcp-option={where},15,{resolver.domains[0]}"
        yield f"dhcp-option={where},119,{','.join(resolver.domains)}"
    options = card.options
    if options.ntp_servers:
        yield f"dhcp-option={where},42,{','.join(_plain(server) for server in options.ntp_servers)}"
    if options.tftp_server:
        yield f"dhcp-option-force={where},66,{_plain(options.tftp_server)}"
    if options.boot_file:
        yield f"dhcp-option-force={where},67,{_plain(options.boot_file)}"
    for number, text in options.private:
        yield f"dhcp-option-force={where},{number},{_plain(text)}"


def _plain(text: str) -> str:
    """Return a user's text, quoted, if it cannot be mistaken for anything else. Admission has said so before."""
    if not _PLAIN.fullmatch(text):
        raise AgentError(f"{text[:80]!r} cannot be a DHCP option's value", retry=False)
    return f'"{text}"' if not re.fullmatch(r"[0-9.]+", text) else text


def was_made(folder: Path) -> bool:
    """Whether a server has been made in ``folder``, by this agent or by a former one."""
    return (folder / CONFIG).exists()


def process(folder: Path) -> int:
    """Return the process id of the server that was started from ``folder``, 0 if there is none any more."""
    try:
        pid = int((folder / PROCESS).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if f"--conf-file={folder / CONFIG}".encode() in command else 0


def _there(pid: int, namespace: Namespace) -> bool:
    try:
        seen = os.stat(f"/proc/{pid}/ns/net")  # noqa: PTH116
    except OSError:
        return False
    return (seen.st_dev, seen.st_ino) == namespace.identity


def ensure(folder: Path, namespace: Namespace, text: str) -> None:
    """Have a server with the configuration ``text``. Blocking."""
    pid = process(folder)
    try:
        same = (folder / CONFIG).read_text() == text
    except OSError:
        same = False
    if pid and same and _there(pid, namespace):
        return
    stop(folder)
    safepath.write_atomic(folder / CONFIG, text.encode())
    namespace.run([PROGRAM, f"--conf-file={folder / CONFIG}"])


def stop(folder: Path) -> None:
    """End the server, and wait for its end. Blocking."""
    pid = process(folder)
    if not pid:
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _wait(descriptor)
        finally:
            os.close(descriptor)


def _wait(descriptor: int) -> None:
    import select

    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.poll(5000)
