"""What things are called inside a launcher Pod: the controller writes these names, the agent finds things by them.

Names are KubeVirt's where it has one. What isn't obvious: volumes of a machine and Polyvisor's own share the Pod's
names, so a volume that is called as one of ours goes by another name there.
"""

from __future__ import annotations

import hashlib

from polyvisor.api.base import Obj
from polyvisor.api.dumps import dump_claim
from polyvisor.api.names import APP_LABEL, LAUNCHER_VOLUME, MACHINE_VOLUME, PRIVATE_FOLDER, PROGRAMS_VOLUME
from polyvisor.api.reading import annotations_of, labels_of, nested, read_status
from polyvisor.api.volumes import claim_of, drives, passing

DRIVER_ANNOTATION = "hypervisor.kubevirt.io/driver"
"""On a launcher Pod: the driver that it was made for."""
STATE_VOLUME = "vm-state"
"""The claim in which the state of the machine's own devices is kept."""
STATE_FOLDER = f"{PRIVATE_FOLDER}/vm-state"
HOTPLUG_VOLUME = "hotplug-disks"
HOTPLUG_FOLDER = "/var/run/kubevirt/hotplug-disks"
"""Where a launcher finds disks that came while it ran; the agent puts them there."""
EPHEMERAL_FOLDER = "/var/run/kubevirt-ephemeral-disks"
SEED_FOLDER = "cloud-init-data"
"""Where KubeVirt's launchers have cloud-init's discs, by namespace and machine: its tools look for them there."""
SHARES_VOLUME = "virtiofs-containers"
WAITING_PROGRAM = "/usr/libexec/polyvisor-waits"
"""Where a launcher's image has what the containers of images run (:mod:`polyvisor.launcher.waiting` made it)."""
SHARES_FOLDER = "/var/run/kubevirt/virtiofs-containers"
"""Where the sockets are of the containers that share folders with a guest."""
ATTACHMENT_APP = "hotplug-disk"
ATTACHMENT_PREFIX = "hp-volume-"
ATTACHMENT_CONTAINER = "hotplug-disk"
"""Label, prefix of the name and the one container of a Pod that has the claims which came to a running machine."""
OWN_VOLUMES = frozenset({LAUNCHER_VOLUME, MACHINE_VOLUME, PROGRAMS_VOLUME, STATE_VOLUME, HOTPLUG_VOLUME, SHARES_VOLUME})
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


def share_container(volume: str) -> str:
    """Return the name of the container that shares the folder of a volume with the guest."""
    return _fitting(f"virtiofs-{volume}")


def share_socket(volume: str) -> str:
    """Return where that container listens for the hypervisor."""
    return f"{SHARES_FOLDER}/{volume}.sock"


def claim_folder(volume: str) -> str:
    """Return where the launcher finds the claim behind a volume, if that is a file system."""
    return f"{CLAIMS}/{volume}"


def claim_device(volume: str) -> str:
    """Return where the launcher finds the claim behind a volume, if that is a block device."""
    return f"/dev/{volume}"


def attached_claim(volume: str) -> str:
    """Return where an attachment Pod has the claim behind a volume, be it a folder or a device."""
    return f"/path/{volume}"


def attached_name(volume: Obj, *, disc: bool) -> str:
    """Return the name in an attachment Pod of a volume; a drive's discs, which follow each other, have one each."""
    ending = hashlib.sha256(claim_of(volume).encode()).hexdigest()[:10] if disc else ""
    return pod_volume(volume["name"], ending)


def to_attach(spec: Obj, launcher: Obj) -> dict[str, Obj]:
    """Return an instance's volumes whose claims another Pod than its launcher's has to have, by their names there.

    They are disks that come and go, discs that came while the machine ran, and claims that take a memory dump.
    """
    here, named = attached_claims(launcher), drives(spec)
    return {
        attached_name(volume, disc=volume["name"] in named): volume
        for volume in spec.get("volumes") or []
        if passing(volume) and here.get(pod_volume(volume["name"])) != brought_claim(volume)
    }


def brought_claim(volume: Obj) -> str:
    """Return the name of the claim behind a volume, be it a disk's or one that takes a memory dump."""
    return claim_of(volume) or dump_claim(volume)


def made_for(pod: Obj) -> str:
    """Return the name of the driver that a launcher Pod was made for; empty if it does not tell."""
    return str(annotations_of(pod).get(DRIVER_ANNOTATION) or "")


def is_attachment(pod: Obj) -> bool:
    """Whether a Pod has claims for a machine that runs in another one."""
    return labels_of(pod).get(APP_LABEL) == ATTACHMENT_APP


def attached_claims(pod: Obj) -> dict[str, str]:
    """Return which claims a Pod has, by the names of its volumes."""
    found = {}
    for volume in pod["spec"].get("volumes") or []:
        if claim := nested(volume, "persistentVolumeClaim").get("claimName"):
            found[str(volume["name"])] = str(claim)
    return found


def attachment_holds(pod: Obj) -> bool:
    """Whether an attachment Pod runs, so that its claims are mounted."""
    found = read_status(pod).get("containerStatuses") or []
    return any(one.get("name") == ATTACHMENT_CONTAINER and "running" in (one.get("state") or {}) for one in found)


def is_block(claim: Obj) -> bool:
    """Whether a claim is a block device."""
    return nested(claim, "spec").get("volumeMode") == "Block"
