"""Rules for liveness and readiness probes.

A probe asks the machine itself and nobody else: a host of one's own is refused, because the node's agent would become
everybody's way into the node's network.
"""

from __future__ import annotations

import re

from polyvisor.admission.values import Findings, items, mapping, number, text, texts
from polyvisor.api import Obj

HANDLERS = ("httpGet", "tcpSocket", "exec", "guestAgentPing")
MOST_SECONDS = 24 * 3600
LEAST = {
    "initialDelaySeconds": 0,
    "timeoutSeconds": 1,
    "periodSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 1,
}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_PLAIN = re.compile(r"[\x21-\x7e]{0,2048}")
_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}")


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check the probes of an instance's spec."""
    for kind in ("livenessProbe", "readinessProbe"):
        if isinstance(spec.get(kind), dict):
            _probe(spec, spec[kind], f"{path}.{kind}", found)
    alive = mapping(spec, "livenessProbe")
    if (number(alive.get("successThreshold")) or 1) != 1:
        message = f"found {alive['successThreshold']}; a liveness probe's is 1"
        found.add(f"{path}.livenessProbe.successThreshold", message)


def _probe(spec: Obj, probe: Obj, path: str, found: Findings) -> None:
    given = [name for name in HANDLERS if probe.get(name) is not None]
    if not given:
        found.required(path, f"one of {', '.join(HANDLERS)} is wanted")
    for name in given[1:]:
        found.add(f"{path}.{name}", f"excludes {given[0]}; a probe asks in one way")
    for name, least in LEAST.items():
        value = number(probe.get(name))
        # Kubernetes takes 0 for what was not said
        if value is not None and not (value == 0 or least <= value <= MOST_SECONDS):
            found.add(f"{path}.{name}", f"found {value}; {least} to {MOST_SECONDS} are accepted")
    for name in ("httpGet", "tcpSocket"):
        if isinstance(probe.get(name), dict):
            _dialled(spec, probe[name], f"{path}.{name}", found)
    page = mapping(probe, "httpGet")
    if not _PLAIN.fullmatch(text(page.get("path"))):
        found.add(f"{path}.httpGet.path", "printable ASCII without blanks is accepted, at most 2048 characters")
    for where, header in items(page.get("httpHeaders"), f"{path}.httpGet.httpHeaders"):
        if not _HEADER.fullmatch(text(header.get("name"))):
            found.add(f"{where}.name", f"{text(header.get('name'))[:80]!r} is no name of an HTTP header")
        if not _VALUE.fullmatch(text(header.get("value"))):
            found.add(f"{where}.value", "printable ASCII is accepted, at most 4096 characters")
    if isinstance(probe.get("exec"), dict) and not texts(probe["exec"].get("command")):
        found.required(f"{path}.exec.command", "required; the program in the guest and its arguments")


def _dialled(spec: Obj, target: Obj, path: str, found: Findings) -> None:
    if target.get("host"):
        found.add(f"{path}.host", "not accepted: a probe asks its own machine; leave it out")
    port = target.get("port")
    if isinstance(port, str) and not port.isdigit():
        found.add(f"{path}.port", f"{port[:80]!r} is no number; a machine's ports have no names that a probe knows")
    elif isinstance(port, int | str) and not isinstance(port, bool) and not 1 <= int(port) <= 65535:
        found.add(f"{path}.port", f"found {port}; 1 to 65535 are accepted")
    networks = [network for _, network in items(spec.get("networks"), "")]
    if not any(network.get("pod") is not None for network in networks):
        found.add(path, "the machine joins no Pod network by which its ports could be reached; use exec")
