"""The status of an endpoint, from what was observed of it: a function without side effects.

A failure concerns one condition. Those that had to hold before it are true, and nothing is said about what can only be
known after it: a host that cannot be reached may well accept the credentials. Times of transition are kept as long as
a condition's status stays, which is also how long a host has been unreachable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from polyvisor.agent.platform.endpoint.failures import Aspect, Failure
from polyvisor.agent.platform.endpoint.inventory import Domain, HostInfo, used
from polyvisor.agent.platform.endpoint.login import Secret
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity, parse_quantity

ORDER: tuple[Aspect, ...] = ("Reachable", "Authenticated", "Privileged", "Supported")
"""In this order a connection passes them."""
MIN_LIBVIRT = (7, 0)
"""The oldest libvirt on a host that is supported: that of Debian 11."""
MAX_PODS = 1000
"""Virtual machines of an endpoint, unless its capacity says how many."""
HOLDS = {
    "Reachable": "the host answers",
    "Authenticated": "the host is verified and accepts the credentials",
    "Privileged": "the connection may do all that is needed",
    "Supported": "the host's libvirt is supported",
}


class Condition(NamedTuple):
    """A condition before its times are known."""

    type: str
    status: str
    reason: str
    message: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of an endpoint. ``failure``: what keeps it from working now.

    ``domains`` is None until they were listed; they and ``host`` may be older than a failure. ``refused`` is what the
    host said of new credentials while the connection goes on with older ones. ``insecure`` says what is not secure.
    ``itself`` is the UUID of the domain that is the host itself, where the hypervisor lists one. ``beside`` are other
    endpoints that lead to the same host.
    """

    driver: str
    cluster: str = ""
    host: HostInfo | None = None
    domains: Sequence[Domain] | None = None
    failure: Failure | None = None
    refused: Failure | None = None
    insecure: str = ""
    itself: str = ""
    beside: tuple[str, ...] = ()
    good: Secret | None = None
    tried: Secret | None = None


def status_of(endpoint: Obj, seen: Observed, now: str) -> Obj:
    """Return the whole status; ``now`` is the time of what changed."""
    generation = endpoint["metadata"].get("generation", 0)
    before = {one.get("type"): one for one in (endpoint.get("status") or {}).get("conditions") or []}
    conditions = []
    for one in conditions_of(endpoint, seen):
        old = before.get(one.type, {})
        changed = old.get("lastTransitionTime") if old.get("status") == one.status else None
        written = {key: value for key, value in one._asdict().items() if value}
        conditions.append({**written, "lastTransitionTime": changed or now, "observedGeneration": generation})
    status: Obj = {"observedGeneration": generation, "driver": seen.driver, "conditions": conditions}
    if seen.host is not None:
        told = {
            "libvirtVersion": seen.host.libvirt_version,
            "hypervisorVersion": seen.host.hypervisor_version,
            "hostName": seen.host.host_name,
            "hostUUID": seen.host.uuid,
        }
        status |= {key: value for key, value in told.items() if value}
        status |= resources_of(endpoint["spec"], seen.host, seen)
    if seen.domains is not None:
        managed = sum(is_managed(domain, seen.cluster) for domain in seen.domains)
        status["domains"] = {"managed": managed, "foreign": len(seen.domains) - managed}
    versions = {"good": seen.good, "tried": seen.tried}
    if known := {key: _version(secret) for key, secret in versions.items() if secret is not None and secret.name}:
        status["credentials"] = known
    return status


def is_managed(domain: Domain, cluster: str) -> bool:
    """Whether a domain is this installation's."""
    return bool(cluster) and domain.owner == cluster


def conditions_of(endpoint: Obj, seen: Observed) -> list[Condition]:
    """Return all conditions."""
    failure = seen.failure or _unsupported(seen)
    found = [_aspect(aspect, failure, seen.host is not None) for aspect in ORDER]
    if seen.refused is not None:
        says = f"{seen.refused.message}; the connection goes on with the credentials before"
        found[1] = Condition("Authenticated", "False", "NewCredentialsRefused", says, seen.refused.suggestion)
    synced = seen.domains is not None and failure is None
    found.append(
        Condition("InventorySynced", "True", "Listed", f"{_count(len(seen.domains or ()))} on the host")
        if synced
        else Condition("InventorySynced", "False", failure.reason if failure else "Waiting", "the list may be old")
    )
    found.insert(0, _ready(failure, synced))
    found.append(_schedulable(endpoint["spec"], failure, seen))
    found.append(
        Condition("Insecure", "True", "Allowed", seen.insecure, "Use a transport that is encrypted and verified.")
        if seen.insecure
        else Condition("Insecure", "False", "Secure", "the connection is local, or encrypted and verified")
    )
    return found


def _ready(failure: Failure | None, synced: bool) -> Condition:
    if failure is not None:
        return Condition("Ready", "False", failure.reason, failure.message, failure.suggestion)
    if not synced:
        return Condition("Ready", "False", "Connecting", "the agent is connecting to the host")
    return Condition("Ready", "True", "Connected", "the host is connected and its domains are listed")


def _aspect(aspect: Aspect, failure: Failure | None, connected: bool) -> Condition:
    if failure is None:
        known = ("True", "Passed", HOLDS[aspect]) if connected else ("Unknown", "Connecting", "")
        return Condition(aspect, *known)
    at, failed = ORDER.index(aspect), ORDER.index(failure.aspect)
    if at == failed:
        return Condition(aspect, "False", failure.reason, failure.message, failure.suggestion)
    # What is wrong with the credentials alone is found before anything is sent to the host.
    if at < failed and (connected or failure.reason not in NOT_SENT):
        return Condition(aspect, "True", "Passed", HOLDS[aspect])
    return Condition(aspect, "Unknown", failure.reason, "it was not seen, as something before it failed")


NOT_SENT = ("SecretNotFound", "SecretNotLabelled", "SecretInvalid", "CredentialsIncomplete", "DriverMissing")
"""Failures before which nothing was sent to the host."""


def _unsupported(seen: Observed) -> Failure | None:
    if seen.host is None or not seen.host.libvirt_version:
        return None
    version = seen.host.libvirt_version
    if tuple(int(part) for part in version.split(".")[:2]) >= MIN_LIBVIRT:
        return None
    oldest = ".".join(map(str, MIN_LIBVIRT))
    message = f"the host has libvirt {version}; {oldest} or newer is supported"
    return Failure("Supported", "LibvirtTooOld", message, "Upgrade libvirt on the host.")


def blocked(spec: Obj, seen: Observed) -> Condition | None:
    """Return why a host that is there takes no machines: its capacity is somebody else's as well, and is not declared.

    What this installation measures as free is counted again by whoever shares the host.
    """
    declared = spec.get("capacity") or {}
    if "cpu" in declared and "memory" in declared:
        return None
    advice = "Declare spec.capacity.cpu and spec.capacity.memory: the share of the host that is for this endpoint."
    if seen.beside:
        message = f"the host is that of {', '.join(seen.beside)} as well, and its capacity would be counted twice"
        return Condition("Schedulable", "False", "SharedHost", message, advice)
    others = sorted({one.owner for one in seen.domains or () if one.owner and one.owner != seen.cluster})
    if others and seen.cluster:
        message = f"another installation of Polyvisor has domains there ({', '.join(others[:3])})"
        return Condition("Schedulable", "False", "ForeignOwner", message, advice)
    return None


def _schedulable(spec: Obj, failure: Failure | None, seen: Observed) -> Condition:
    if spec.get("management") == "Observe":
        return Condition("Schedulable", "False", "Observe", "spec.management is Observe, so nothing is changed there")
    if failure is not None:
        return Condition("Schedulable", "False", failure.reason, "no new machines go to the host while it is away")
    if (why := blocked(spec, seen)) is not None:
        return why
    return Condition("Schedulable", "True", "TakesMachines", "machines of the allowed namespaces may go to the host")


def resources_of(spec: Obj, host: HostInfo, seen: Observed) -> Obj:
    """Return capacity and allocatable: as declared, else as measured; less what foreign domains have.

    The domain that is the host itself has memory of its own, but shares its CPUs with guests: by default it has all.
    """
    declared = spec.get("capacity") or {}
    measured: dict[str, Any] = {"cpu": host.cpus, "memory": host.memory, "pods": MAX_PODS}
    capacity = {key: parse_quantity(declared[key]) if key in declared else measured[key] for key in measured}
    foreign = [one for one in seen.domains or () if not is_managed(one, seen.cluster)]
    cpus = used(one for one in foreign if one.uuid != seen.itself)[0]
    memory = used(foreign)[1]
    taken = {"cpu": 0 if "cpu" in declared else cpus, "memory": 0 if "memory" in declared else memory, "pods": 0}
    left = {key: max(capacity[key] - taken[key], 0) for key in capacity}
    return {"capacity": _written(capacity), "allocatable": _written(left)}


def _written(amounts: dict[str, Any]) -> Obj:
    return {key: format_quantity(value, binary=key == "memory") for key, value in amounts.items()}


def _version(secret: Secret) -> Obj:
    return {"name": secret.name, "resourceVersion": secret.version}


def _count(number: int) -> str:
    return "1 domain" if number == 1 else f"{number} domains"
