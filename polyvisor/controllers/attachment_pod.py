"""The Pod that has the claims which came to a running machine, as an object. Pure.

A running Pod's volumes cannot change. So claims that come later are mounted by a Pod beside it, on the same node and
owned by it, as KubeVirt does; the node's agent shows them to the launcher. What isn't obvious: the name follows from
the launcher and the volumes, so another set of volumes is another Pod, and the same set is never there twice.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Mapping
from typing import TYPE_CHECKING

from polyvisor.api import launcher_pods as inside
from polyvisor.api import names
from polyvisor.api.resources import PODS
from polyvisor.controllers.objects import owner_reference, uid
from polyvisor.controllers.pod_volumes import RESTRICTED, UNPRIVILEGED
from polyvisor.controllers.support_containers import Support, support_resources

if TYPE_CHECKING:
    from polyvisor.api import Obj

BUSYBOX = "/bin/busybox"
STAY = 'trap "exit 0" TERM; while :; do "$0" sleep 86400 & wait $!; done'
"""A shell's script for a container that does nothing but live; its first argument is the busybox to do that with."""


def attachment_name(launcher: Obj, volumes: Mapping[str, str]) -> str:
    """Return the name of the Pod with these volumes; ``volumes`` gives the claim of each."""
    parts = [uid(launcher), *(f"{name}={claim}" for name, claim in sorted(volumes.items()))]
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return inside.ATTACHMENT_PREFIX + b32encode(digest).decode().lower()[:12]


def build_attachment(launcher: Obj, volumes: Mapping[str, str], claims: Mapping[str, Obj], config: Obj) -> Obj:
    """Return the Pod that has ``volumes`` (name -> claim) for a launcher.

    ``claims`` are the namespace's, by name; ``config`` is KubeVirt's configuration.
    """
    spec = launcher["spec"]
    compute = next(one for one in spec["containers"] if one["name"] == names.COMPUTE_CONTAINER)
    container: Obj = {
        "name": inside.ATTACHMENT_CONTAINER,
        "image": compute["image"],
        "command": [BUSYBOX, "sh", "-c", STAY, BUSYBOX],
        "resources": support_resources(Support.ATTACHMENT, config),
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
    }
    if policy := compute.get("imagePullPolicy"):
        container["imagePullPolicy"] = policy
    for name, claim in sorted(volumes.items()):
        place = inside.attached_claim(name)
        if inside.is_block(claims.get(claim) or {}):
            container.setdefault("volumeDevices", []).append({"name": name, "devicePath": place})
        else:
            container.setdefault("volumeMounts", []).append({"name": name, "mountPath": place})
    here = {"key": "metadata.name", "operator": "In", "values": [spec["nodeName"]]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [here]}]}}
    pod_spec: Obj = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,  # with 0 the Pod would be gone before the kubelet has unmounted anything
        "affinity": {"nodeAffinity": affinity},
        "tolerations": [{"operator": "Exists"}],
        "securityContext": UNPRIVILEGED,
        "containers": [container],
        "volumes": [
            {"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in sorted(volumes.items())
        ],
    }
    for field in ("priorityClassName", "imagePullSecrets"):
        if spec.get(field):
            pod_spec[field] = spec[field]
    return {
        "apiVersion": "v1",
        "kind": PODS.kind,
        "metadata": {
            "name": attachment_name(launcher, volumes),
            "namespace": launcher["metadata"]["namespace"],
            "labels": {names.APP_LABEL: inside.ATTACHMENT_APP},
            "ownerReferences": [owner_reference(launcher, PODS)],
        },
        "spec": pod_spec,
    }
