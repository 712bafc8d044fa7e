"""Whether a virtual machine may copy what its DataVolumes are to be filled with, asked as KubeVirt asks it.

DataVolumes of a machine's templates are made by virt-controller, whom CDI lets copy anything. So the machine's service
account is asked about, ``default`` if it names none: it needs ``create datavolumes/source`` in the namespace of the
source. That a user may use that service account is admission's to see to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.cluster_resources import SUBJECT_ACCESS_REVIEWS
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import DATAVOLUMES

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.kube import KubeClient

DEFAULT_ACCOUNT = "default"
COPIED = ("pvc", "snapshot")
"""Kinds of sources that are objects of a namespace."""


async def refusal(client: KubeClient, vm: Obj, template: Obj) -> str:
    """Return why a machine may not have a DataVolume of its templates filled; empty if it may."""
    spec = template.get("spec") or {}
    if spec.get("sourceRef"):
        return "a sourceRef cannot be checked; name the source itself"
    namespace = vm["metadata"]["namespace"]
    for kind in COPIED:
        source = nested(spec, "source").get(kind)
        origin = str((source or {}).get("namespace") or namespace)
        if source is None or origin == namespace:
            continue
        account = account_of(vm)
        name = str(source.get("name") or "")
        if not await _may(client, namespace, account, origin, name):
            return (
                f"service account {namespace}/{account} may not copy {kind} {origin}/{name}; it needs the right to "
                f"create datavolumes/source of {DATAVOLUMES.group} in namespace {origin}"
            )
    return ""


def account_of(vm: Obj) -> str:
    """Return the name of a machine's service account."""
    volumes = nested(vm["spec"], "template", "spec").get("volumes") or []
    named = [str(nested(one, "serviceAccount").get("serviceAccountName") or "") for one in volumes]
    return next((name for name in reversed(named) if name), DEFAULT_ACCOUNT)


async def _may(client: KubeClient, namespace: str, account: str, origin: str, name: str) -> bool:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    attributes = {
        "verb": "create",
        "group": DATAVOLUMES.group,
        "resource": DATAVOLUMES.plural,
        "subresource": "source",
        "namespace": origin,
        "name": name,
    }
    user = f"system:serviceaccount:{namespace}:{account}"
    spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
    review = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
    answer = await client.create(SUBJECT_ACCESS_REVIEWS, review)
    return bool(read_status(answer).get("allowed"))
