"""The virtual machines that a pool makes: their names, their specs by index, and what an update keeps. Pure.

What isn't obvious: a virtual machine refers to DataVolumes, Secrets and ConfigMaps by name, and the pool's template is
the same for all. DataVolumes that the template makes always get the index appended, because two machines cannot share
them; Secrets and ConfigMaps only where ``spec.nameGeneration`` asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from polyvisor.api.pools import FINALIZER, REVISION_LABEL
from polyvisor.api.reading import nested
from polyvisor.api.resources import POOLS, VMS
from polyvisor.controllers.objects import add_finalizer, owner_reference
from polyvisor.placement import permission

if TYPE_CHECKING:
    from polyvisor.api import Obj

_SEEDS = ("cloudInitNoCloud", "cloudInitConfigDrive")
_SEED_SECRETS = ("secretRef", "networkDataSecretRef")
"""The Secrets with user data and network data of a cloud-init volume."""


def index_of(name: str) -> int | None:
    """Return the index at the end of a virtual machine's name, None if there is none."""
    number = name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def free_names(pool: str, taken: Iterable[str], count: int) -> list[str]:
    """Return the ``count`` names with the lowest indexes that are not taken."""
    found: list[str] = []
    used, index = set(taken), 0
    while len(found) < count:
        name = f"{pool}-{index}"
        if name not in used:
            found.append(name)
        index += 1
    return found


def revision_name(pool: Obj) -> str:
    """Return the name of the revision that the pool's present generation is kept in."""
    return f"{pool['metadata']['name']}-{pool['metadata'].get('generation') or 1}"


def machine_of(pool: Obj, name: str) -> Obj:
    """Return the virtual machine of that name as the pool makes it."""
    made: Obj = {
        "apiVersion": VMS.api_version,
        "kind": VMS.kind,
        "metadata": {
            "name": name,
            "namespace": pool["metadata"]["namespace"],
            "ownerReferences": [owner_reference(pool, POOLS)],
        },
    }
    _fill(pool, made, name)
    add_finalizer(made, FINALIZER)
    return made


def updated(pool: Obj, vm: Obj) -> Obj:
    """Return a virtual machine with the pool's present template; what its guest knows it by stays."""
    new = copy.deepcopy(vm)
    _fill(pool, new, vm["metadata"]["name"])
    firmware = nested(vm, "spec", "template", "spec", "domain", "firmware")
    kept = {key: firmware[key] for key in ("uuid", "serial") if firmware.get(key)}
    if kept:
        domain = new["spec"]["template"]["spec"]["domain"]
        domain["firmware"] = {**(domain.get("firmware") or {}), **kept}
    return new


def _fill(pool: Obj, vm: Obj, name: str) -> None:
    """Give a virtual machine, in place, what comes from the pool's template."""
    template, revision = pool["spec"]["virtualMachineTemplate"], revision_name(pool)
    metadata = template.get("metadata") or {}
    vm["metadata"]["labels"] = {**(metadata.get("labels") or {}), REVISION_LABEL: revision}
    vm["metadata"]["annotations"] = dict(metadata.get("annotations") or {})
    permission.hand_on(pool, vm)
    vm["spec"] = _indexed(pool["spec"], index_of(name) or 0)
    inner = vm["spec"]["template"]
    if not isinstance(inner.get("metadata"), dict):
        inner["metadata"] = {}
    inner["metadata"]["labels"] = {**(inner["metadata"].get("labels") or {}), REVISION_LABEL: revision}


def _indexed(pool_spec: Obj, index: int) -> Obj:
    """Return the template's spec with the index appended to the names that are one machine's own."""
    spec: Obj = copy.deepcopy(pool_spec["virtualMachineTemplate"]["spec"])
    generation = pool_spec.get("nameGeneration") or {}
    secrets, maps = bool(generation.get("appendIndexToSecretRefs")), bool(generation.get("appendIndexToConfigMapRefs"))
    own = {}
    for template in spec.get("dataVolumeTemplates") or []:
        name = template["metadata"]["name"]
        own[name] = template["metadata"]["name"] = f"{name}-{index}"
    for volume in nested(spec, "template", "spec").get("volumes") or []:
        for source, field in (("persistentVolumeClaim", "claimName"), ("dataVolume", "name")):
            if (used := volume.get(source)) and used.get(field) in own:
                used[field] = own[used[field]]
        refers = [(volume.get("configMap"), "name", maps), (volume.get("secret"), "secretName", secrets)]
        refers += [(nested(volume, seed).get(one), "name", secrets) for seed in _SEEDS for one in _SEED_SECRETS]
        sysprep = volume.get("sysprep") or {}
        refers += [(sysprep.get("configMap"), "name", maps), (sysprep.get("secret"), "name", secrets)]
        for reference, field, wanted in refers:
            if wanted and reference and reference.get(field):
                reference[field] += f"-{index}"
    return spec
