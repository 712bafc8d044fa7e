"""Endpoints that a machine which names none may go to: which are worth a look, and what keeps it from them. Pure.

A namespace that an endpoint does not allow hears nothing of it. The machine's claims decide first: a disk on a host
ties the machine to that host, and a disk of this cluster keeps it away from all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.endpoint_names import allows
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.problems import Problem
from polyvisor.api.reading import nested, phase_of
from polyvisor.api.volumes import claim_of
from polyvisor.drivers.at_endpoint import NO_AGENT, by_agent

if TYPE_CHECKING:
    from polyvisor.api import Obj

POD_NETWORK = "pod"
MADE = ("containerDisk", "emptyDisk", "cloudInitNoCloud", "cloudInitConfigDrive", "configMap", "secret", "sysprep")
"""Volumes that are made in an endpoint's pool for images."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An endpoint that a machine may go to; ``problems`` say why it cannot, beside what its driver and Node say."""

    endpoint: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """All offers; ``tied`` says why the machine cannot run on nodes of the cluster."""

    offers: tuple[Offer, ...] = ()
    tied: tuple[Problem, ...] = ()


NOWHERE = Elsewhere()


def elsewhere(
    spec: Obj,
    namespace: Obj,
    endpoints: Iterable[Obj],
    claims: Mapping[str, Obj],
    volumes: Mapping[str, Obj],
) -> Elsewhere:
    """Return where else a machine may go. ``claims`` are its namespace's, ``volumes`` PersistentVolumes, by name."""
    hosts = {name: _host(claim, volumes) for name, claim in claims.items()}
    tied = tuple(
        Problem(f"spec.volumes[{number}]", f"claim {name} is a disk on the host of endpoint {hosts[name]}")
        for number, name in _claims(spec)
        if hosts.get(name)
    )
    found = []
    for endpoint in sorted(endpoints, key=lambda one: str(one["metadata"]["name"])):
        if allows(endpoint, namespace) and endpoint["spec"].get("management") != "Observe":
            found.append(
                Offer(endpoint["metadata"]["name"], tuple(_problems(spec, namespace, endpoint, claims, hosts)))
            )
    return Elsewhere(tuple(found), tied)


def _claims(spec: Obj) -> Iterable[tuple[int, str]]:
    for number, volume in enumerate(spec.get("volumes") or []):
        if name := claim_of(volume):
            yield number, name


def _host(claim: Obj, volumes: Mapping[str, Obj]) -> str:
    """Return the endpoint on whose host a claim's disk is, empty for other claims."""
    csi = nested(volumes.get(str(claim["spec"].get("volumeName") or "")) or {}, "spec", "csi")
    ours = csi.get("driver") == ENDPOINT_CSI_DRIVER
    return str(csi.get("volumeHandle") or "").partition("/")[0] if ours else ""


def _problems(
    spec: Obj, namespace: Obj, endpoint: Obj, claims: Mapping[str, Obj], hosts: Mapping[str, str]
) -> Iterable[Problem]:
    name, settings = endpoint["metadata"]["name"], endpoint["spec"]
    conditions: list[Obj] = nested(endpoint, "status").get("conditions") or []
    ready: Obj = next((one for one in conditions if one.get("type") == "Schedulable"), {})
    if ready.get("status") == "False":
        yield Problem("", f"endpoint {name} takes no machines now: {ready.get('message') or ready.get('reason')}")
    for field in by_agent(spec):
        yield Problem(f"spec.{field}", NO_AGENT)
    mapped = {one["name"] for one in settings.get("networks") or []}
    for number, network in enumerate(spec.get("networks") or []):
        multus = nested(network, "multus").get("networkName")
        space = namespace["metadata"]["name"]
        wanted = POD_NETWORK if not multus else multus if "/" in multus else f"{space}/{multus}"
        if wanted not in mapped:
            yield Problem(f"spec.networks[{number}]", f"endpoint {name} maps no network {wanted!r}")
    pools = settings.get("storage") or []
    for number, volume in enumerate(spec.get("volumes") or []):
        if not pools and any(kind in volume for kind in MADE):
            yield Problem(f"spec.volumes[{number}]", f"endpoint {name} maps no storage pool")
    classes = {one["storageClass"] for one in pools}
    for number, claim_name in _claims(spec):
        claim = claims.get(claim_name)
        if claim is None or hosts.get(claim_name) == name:
            continue
        waits = not claim["spec"].get("volumeName") and phase_of(claim) != "Bound"
        if not (waits and claim["spec"].get("storageClassName") in classes):
            yield Problem(f"spec.volumes[{number}]", f"claim {claim_name} is not a disk on the host of endpoint {name}")
