"""Connection URIs: which scheme belongs to which driver, and what of a URI an administrator may write.

libvirt's URIs can do more than connect: some parameters run a command on this machine, read a file of it or switch off
the verification of the other side (libvirt, ``docs/uri.rst``). So transports and parameters are allowed by a list, and
what is not on it is refused. A driver says which schemes are its own; what all of libvirt's daemons have in common
stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from polyvisor.api.problems import Reason

if TYPE_CHECKING:
    from polyvisor.drivers import DriverRegistry
    from polyvisor.drivers.base import Driver

LOCAL, UNIX, SSH, TLS, TCP = "", "unix", "ssh", "tls", "tcp"
DAEMON = (LOCAL, UNIX, SSH, TLS, TCP)
"""Transports to a libvirt daemon; the first is its socket on this machine, or TLS where the URI names a host."""
MAX_LENGTH = 1024
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\uffff]")
_PARAMETERS: Mapping[str, str] = {
    "socket": "/[A-Za-z0-9._/-]+",
    "mode": "auto|legacy|direct",
    "proxy": "auto|netcat|native",
    "tls_priority": "[A-Za-z0-9_:+!.%@-]+",
}
"""What all drivers' daemons take, and the values that each may have."""
_OPEN_TLS = re.compile(r"NULL|ANON|NONE|VERIFY_ALLOW|UNSAFE|EXPORT", re.IGNORECASE)
"""Words of GnuTLS's priorities by which a connection is not encrypted, or its host not verified."""
_OF_TRANSPORT: Mapping[str, tuple[str, ...]] = {
    UNIX: ("socket", "mode"),
    SSH: ("socket", "mode", "proxy"),
    TLS: ("tls_priority",),
}
_DANGEROUS: Mapping[str, str] = {
    "command": "it runs a program on this machine",
    "netcat": "it runs a program on the host",
    "argv": "it runs a program on this machine",
    "no_verify": "it switches the verification of the host off; give known_hosts or ca.crt in the credentials",
    "known_hosts_verify": "it can switch the verification of the host off; give known_hosts in the credentials",
    "known_hosts": "give known_hosts in the credentials",
    "keyfile": "give ssh-privatekey in the credentials",
    "pkipath": "give tls.crt, tls.key and ca.crt in the credentials",
    "cacert": "give ca.crt in the credentials, or spec.tls.caBundle",
    "authfile": "give username and password in the credentials",
    "no_sanity": "it switches a check of the certificates off",
    "name": "write the host's own URI as path and parameters instead",
    "password": "give password in the credentials",
}
"""Parameters of libvirt's that are refused, and what to do instead."""


@dataclass(frozen=True, slots=True)
class UriScheme:
    """A scheme of libvirt's connection URIs that leads to one driver.

    ``paths`` lists the accepted paths, of which an entry that ends in ``*`` stands for every path that begins so.
    ``parameters`` are the driver's own: name -> regular expression of the whole value. ``host``: the URI must name one,
    to which the driver has a protocol of its own.
    """

    name: str
    transports: tuple[str, ...] = DAEMON
    paths: tuple[str, ...] = ("/system", "/session")
    parameters: Mapping[str, str] = field(default_factory=dict)
    host: bool = False
    insecure: Mapping[str, str] = field(default_factory=dict)
    pinned: bool = False
    """Whether a host can be known by its certificate's fingerprint: it answers by HTTPS at the URI's port, or 443."""
    """Values of parameters that switch encryption off: name -> value."""
    unverified: Mapping[str, str] = field(default_factory=dict)
    """Parameters with which the driver's own protocol does not verify the host: name -> value."""


class UriProblem(NamedTuple):
    """Something wrong with a URI: what, what is accepted, what to do."""

    message: str
    reason: Reason = "FieldValueInvalid"


@dataclass(frozen=True, slots=True)
class ConnectionUri:
    """A connection URI in its parts; ``transport`` is empty where libvirt or the driver chooses."""

    scheme: str
    transport: str
    user: str
    host: str
    port: int | None
    path: str
    parameters: Mapping[str, str]

    @property
    def local(self) -> bool:
        """Whether it leads to this machine."""
        return not self.host

    def text(self, **more: str) -> str:
        """Write the URI, with more parameters than it has."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        port = f":{self.port}" if self.port is not None else ""
        scheme = f"{self.scheme}+{self.transport}" if self.transport else self.scheme
        query = urlencode({**self.parameters, **more}, quote_via=quote)
        return f"{scheme}://{user}{host}{port}{quote(self.path)}" + (f"?{query}" if query else "")


def insecure_part(uri: ConnectionUri, scheme: UriScheme) -> str:
    """Return the part of a URI that makes the connection unencrypted, empty if there is none."""
    if uri.transport == TCP:
        return f"{uri.scheme}+{TCP}"
    return next((f"{n}={v}" for n, v in scheme.insecure.items() if uri.parameters.get(n) == v), "")


def driver_of(scheme: str, drivers: DriverRegistry) -> tuple[Driver, UriScheme] | None:
    """Return the driver that a URI's scheme belongs to."""
    return next(((driver, one) for driver in drivers for one in driver.schemes if one.name == scheme), None)


def schemes(drivers: DriverRegistry) -> list[str]:
    """Return all schemes that lead to a driver."""
    return [one.name for driver in drivers for one in driver.schemes]


def parse(text: str, drivers: DriverRegistry) -> tuple[ConnectionUri | None, list[UriProblem]]:
    """Take a URI apart; with it comes all that is wrong with it. None for what is no URI of a driver's at all."""
    if len(text) > MAX_LENGTH or _UNPRINTABLE.search(text):
        what = f"{len(text)} characters" if len(text) > MAX_LENGTH else "a character that a URI may not have"
        accepted = f"at most {MAX_LENGTH} printable ASCII characters without spaces"
        return None, [UriProblem(f"found {what}; accepted: {accepted}")]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return None, [UriProblem(f"found {_shown(text)}, which is not a URI: {error}")]
    scheme, _, transport = parts.scheme.partition("+")
    known = schemes(drivers)
    found = driver_of(scheme, drivers)
    if found is None:
        what = f"unknown scheme {scheme[:64]!r}" if scheme else f"found {_shown(text)}, which has no scheme"
        return None, [
            UriProblem(f"{what}; known: {', '.join(known)}; for example {example(drivers)}", "FieldValueNotSupported")
        ]
    if parts.password is not None:
        message = "found a password; write it into the Secret of spec.credentials, since everybody sees the URI"
        return None, [UriProblem(message)]
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None, [UriProblem(f"the parameters {_shown(parts.query)} are not of the form NAME=VALUE&NAME=VALUE")]
    uri = ConnectionUri(
        scheme, transport, unquote(parts.username or ""), _host(parts), port, unquote(parts.path), dict(pairs)
    )
    problems = [*_places(uri, parts, found[1]), *_parameters(uri, [name for name, _ in pairs], found[1])]
    return uri, problems


def _places(uri: ConnectionUri, parts: SplitResult, scheme: UriScheme) -> Iterable[UriProblem]:
    if uri.transport not in scheme.transports:
        accepted = ", ".join(f"{scheme.name}+{one}" if one else scheme.name for one in scheme.transports)
        yield UriProblem(
            f"transport {uri.transport[:64]!r} is not accepted; accepted: {accepted}", "FieldValueNotSupported"
        )
    if parts.fragment:
        yield UriProblem(f"found a fragment, #{parts.fragment[:64]}; leave it out")
    if uri.host and (uri.transport == UNIX or not (uri.transport or scheme.host or TLS in scheme.transports)):
        yield UriProblem(f"found the host {uri.host[:64]!r}, but this URI leads to this machine; leave the host out")
    if not uri.host and (scheme.host or uri.transport in (SSH, TLS, TCP)):
        yield UriProblem(
            f"no host is named; write {scheme.name}{f'+{uri.transport}' if uri.transport else ''}://HOST/..."
        )
    if (uri.user or uri.port is not None) and not uri.host:
        yield UriProblem("a user or a port without a host has no meaning; leave it out")
    if re.search(r"[^A-Za-z0-9._:%-]", uri.host) or uri.host.startswith("-"):
        yield UriProblem(f"found the host {uri.host[:64]!r}; a DNS name or an IP address is accepted")
    if re.search(r"[^A-Za-z0-9._@\\-]", uri.user) or uri.user.startswith("-"):
        yield UriProblem(f"found the user {uri.user[:64]!r}; letters, digits and . _ - @ \\ are accepted")
    if not any(uri.path == one or (one.endswith("*") and uri.path.startswith(one[:-1])) for one in scheme.paths):
        accepted = ", ".join(scheme.paths)
        yield UriProblem(f"found the path {uri.path[:64]!r}; accepted: {accepted}")


def _parameters(uri: ConnectionUri, names: list[str], scheme: UriScheme) -> Iterable[UriProblem]:
    allowed = {name: _PARAMETERS[name] for name in _OF_TRANSPORT.get(uri.transport, ())} | dict(scheme.parameters)
    accepted = f"accepted: {', '.join(allowed) or 'none'}"
    for name in dict.fromkeys(names):
        value = uri.parameters[name]
        if names.count(name) > 1:
            yield UriProblem(f"the parameter {name[:64]!r} stands there {names.count(name)} times; write it once")
        elif name not in allowed:
            why = f": {_DANGEROUS[name]}" if name in _DANGEROUS else ""
            yield UriProblem(f"the parameter {name[:64]!r} is not accepted{why}; {accepted}", "FieldValueNotSupported")
        elif not re.fullmatch(allowed[name], value):
            yield UriProblem(f"the parameter {name} has the value {value[:64]!r}; accepted: {allowed[name]}")
        elif name == "tls_priority" and (word := _OPEN_TLS.search(value)):
            what = f"{word[0]} in the parameter tls_priority can switch encryption or the host's verification off"
            yield UriProblem(f"{what}; leave it out", "FieldValueForbidden")


def _host(parts: SplitResult) -> str:
    return parts.hostname or ""


def example(drivers: DriverRegistry) -> str:
    """Return a URI that a driver shows."""
    return next((uri for driver in drivers for uri in driver.uris), "SCHEME://HOST/system")


def _shown(text: str) -> str:
    """Return a text for a message, without what could be a password."""
    return repr(re.sub(r"(?<=:)[^/@:]*(?=@)", "...", text)[:80])
