"""What things are called inside a launcher Pod: the controller writes these names, the agent finds things by them.

Names are KubeVirt's where it has one. What isn't obvious: volumes of a machine and Polyvisor's own share the Pod's
names, so a volume that is called as one of ours goes by another name there.
"""

from __future__ import annotations

import hashlib

from polyvisor.api.base import Obj
from polyvisor.api.names import LAUNCHER_VOLUME, MACHINE_VOLUME, PRIVATE_FOLDER, PROGRAMS_VOLUME

STATE_VOLUME = "vm-state"
"""The claim in which the state of the machine's own devices is kept."""
STATE_FOLDER = f"{PRIVATE_FOLDER}/vm-state"
OWN_VOLUMES = frozenset({LAUNCHER_VOLUME, MACHINE_VOLUME, PROGRAMS_VOLUME, STATE_VOLUME})
KERNEL_CONTAINER = "volumekernel-boot-volume"
MAX_NAME = 63
CLAIMS = f"{PRIVATE_FOLDER}/vmi-disks"
SECRETS = f"{PRIVATE_FOLDER}/secret"
CONFIG_MAPS = f"{PRIVATE_FOLDER}/config-map"
DOWNWARD_API = f"{PRIVATE_FOLDER}/downwardapi"
SYSPREP = f"{PRIVATE_FOLDER}/sysprep"
SEED_SECRETS = {"secretRef": "udata", "networkDataSecretRef": "ndata"}
"""Fields of a cloud-init volume that name a Secret, and the ending of the Pod's volume for it."""


def _fitting(name: str, taken: frozenset[str] = frozenset()) -> str:
    if len(name) <= MAX_NAME and name not in taken:
        return name
    return f"{name[:52].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def pod_volume(volume: str, ending: str = "") -> str:
    """Return the name in the Pod of a machine's volume, or of the Secret for a field of it."""
    return _fitting(f"{volume}-{ending}" if ending else volume, OWN_VOLUMES)


def image_container(volume: str) -> str:
    """Return the name of the container that holds the image of a containerDisk."""
    return _fitting(f"volume{volume}", frozenset({KERNEL_CONTAINER}))


def claim_folder(volume: str) -> str:
    """Return where the launcher finds the claim behind a volume, if that is a file system."""
    return f"{CLAIMS}/{volume}"


def claim_device(volume: str) -> str:
    """Return where the launcher finds the claim behind a volume, if that is a block device."""
    return f"/dev/{volume}"


def is_block(claim: Obj) -> bool:
    """Whether a claim is a block device."""
    return (claim.get("spec") or {}).get("volumeMode") == "Block"
