"""The claim in which a machine's own state (TPM, firmware variables) outlives its instances.

It belongs to the VirtualMachine where there is one, so Kubernetes removes it with the machine and not before.
"""

from __future__ import annotations

from polyvisor.api import Obj
from polyvisor.api.owners import controller_of
from polyvisor.api.resources import PVCS, VMIS, VMS
from polyvisor.controllers.objects import owner_reference
from polyvisor.domain.kept import state_claim
from polyvisor.kube import ApiError, KubeClient

SIZE = "10Mi"
LABEL = "persistent-state-for"


async def ensure_state_claim(client: KubeClient, vmi: Obj, config: Obj) -> str:
    """Make the claim if the machine needs one and it is not there; return why it cannot be used, or an empty text."""
    name = state_claim(vmi)
    if not name:
        return ""
    namespace = vmi["metadata"]["namespace"]
    owner = controller_of(vmi)
    if owner is None or owner.get("kind") != VMS.kind:
        owner = owner_reference(vmi, VMIS)
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    if storage_class := config.get("vmStateStorageClass"):
        spec["storageClassName"] = storage_class
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {LABEL: vmi["metadata"]["name"][:63].rstrip("-.")},
        "ownerReferences": [owner],
    }
    try:
        await client.create(PVCS, {"apiVersion": "v1", "kind": PVCS.kind, "metadata": metadata, "spec": spec})
    except ApiError as error:
        if not error.already_exists:
            raise
        found = await client.get(PVCS, name, namespace)
        if (controller_of(found) or {}).get("uid") != owner["uid"]:
            return f"PVC {name}, which is to keep the machine's state, belongs to something else"
    return ""
