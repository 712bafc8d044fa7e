"""Letting the claims of a removed virtual machine outlive it, for the next one that gets its index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.reading import nested
from polyvisor.api.resources import DATAVOLUMES, PVCS
from polyvisor.api.volumes import claim_of
from polyvisor.controllers.objects import owned_by, uid
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj


async def keep(client: KubeClient, vm: Obj) -> None:
    """Take the virtual machine out of the owners of its DataVolumes and claims, so that they stay when it goes."""
    namespace = vm["metadata"]["namespace"]
    claims = [claim_of(volume) for volume in nested(vm, "spec", "template", "spec").get("volumes") or []]
    claims += [template["metadata"]["name"] for template in vm["spec"].get("dataVolumeTemplates") or []]
    for name in sorted({claim for claim in claims if claim}):
        for resource in (DATAVOLUMES, PVCS):
            try:
                found = await client.get(resource, name, namespace)
                if owned_by(found, vm):
                    owners = [one for one in found["metadata"]["ownerReferences"] if one.get("uid") != uid(vm)]
                    version = found["metadata"]["resourceVersion"]
                    change = {"metadata": {"ownerReferences": owners, "resourceVersion": version}}
                    await client.patch(resource, name, change, namespace)
            except ApiError as error:
                if not error.not_found:
                    raise
