"""CPU and memory of the small containers beside a launcher's, and what the cluster's configuration says of them. Pure.

A container's start is most of what such a container ever does: the runtime compiles the Pod's filter of system calls
inside the container's CPU limit, which takes some 0.2 s of CPU time. A limit of 10m spreads that over 20 s, during
which the kubelet starts no other container of the Pod. In a Pod of the class Guaranteed a container asks for all that
it is allowed, so there the limit is smaller, and the start is slower by as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from polyvisor.controllers.launcher_resources import firm

if TYPE_CHECKING:
    from polyvisor.api import Obj


class Support(StrEnum):
    """KubeVirt's names for kinds of containers in ``supportContainerResources``."""

    IMAGE = "container-disk"
    CONSOLE = "guest-console-log"
    ATTACHMENT = "hotplug-disk"
    SHARE = "virtiofs"


CPU = "500m"
RESERVED_CPU = "100m"
"""The limit of a container that has to ask for all that it is allowed, for as long as it lives."""
RESOURCES: Mapping[Support, Mapping[str, Mapping[str, str]]] = {
    Support.IMAGE: {
        "requests": {"cpu": "1m", "memory": "1M", "ephemeral-storage": "50M"},
        "limits": {"cpu": CPU, "memory": "40M"},
    },
    Support.CONSOLE: {"requests": {"cpu": "1m", "memory": "1M"}, "limits": {"cpu": CPU, "memory": "40M"}},
    Support.ATTACHMENT: {"requests": {"cpu": "1m", "memory": "2M"}, "limits": {"cpu": CPU, "memory": "40M"}},
    Support.SHARE: {"requests": {"cpu": "10m", "memory": "1M"}, "limits": {"cpu": "1", "memory": "80M"}},
}


def support_resources(kind: Support, config: Obj, *, guaranteed: bool = False, lasting: bool = True) -> Obj:
    """Return the ``resources`` of a container: by default, with what ``config`` (KubeVirt's) has in their place.

    ``guaranteed`` says that the Pod has to be of that class, ``lasting`` that the container lives as long as the Pod;
    what an init container asks for is not added to what the others do.
    """
    found: Obj = {name: dict(amounts) for name, amounts in RESOURCES[kind].items()}
    if guaranteed and lasting:
        found["limits"]["cpu"] = RESERVED_CPU
    for given in _given(kind, config):
        for name in found:
            found[name] |= given.get(name) or {}
    return firm(found) if guaranteed else found


def _given(kind: Support, config: Obj) -> Iterable[Obj]:
    for one in config.get("supportContainerResources") or []:
        if one.get("type") == kind:
            yield one.get("resources") or {}
