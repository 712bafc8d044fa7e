"""Whether a running machine can be moved to another node: all that keeps it, by KubeVirt's reasons.

What isn't obvious: a driver without live migration is one of the reasons, and so is a node that has no other beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from polyvisor.api import Obj
from polyvisor.api.conditions import find_condition
from polyvisor.api.migrations import PASSTHROUGH, USES_PASSTHROUGH, Blocked
from polyvisor.api.names import Reason, VmiCondition
from polyvisor.api.reading import annotations_of, devices_of, nested, read_status
from polyvisor.api.volumes import claim_of, shared
from polyvisor.domain.kept import state_claim
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import answer_of, may_support

FEATURE = "lifecycle.live-migration"
SHARED = "ReadWriteMany"
STANDALONE = "a standalone installation has one node, and no other to move to"
"""Why there is no other node."""
BRIDGE_ANNOTATION = "kubevirt.io/allow-pod-bridge-network-live-migration"
ON_THE_NODE = ("containerDisk", "emptyDisk", "ephemeral")
"""Volumes whose writes stay on the node."""
STAYS = "what the guest writes to volume {} stays on the node and is not copied; use a shared PVC"


@dataclass(frozen=True)
class Blocker:
    """One thing that keeps a machine on its node; ``storage``: of its disks, and nothing else."""

    reason: str
    message: str
    storage: bool = False


ON_ENDPOINT = Blocker(Reason.NOT_MIGRATABLE, "a machine on an endpoint stays on the host that the endpoint reaches")


def blockers(vmi: Obj, driver: Driver, claims: Mapping[str, Obj], alone: str = "") -> list[Blocker]:
    """Return all that keeps a running machine on its node; ``alone`` says why there is no other, empty if there is."""
    found = list(_of_the_node(driver, alone))
    copies = "copy" in driver.launcher(Path()).move
    kept = [] if copies else [Blocker(Blocked.DISKS, STAYS.format(name), storage=True) for name in copied(vmi)]
    return [*found, *_volumes(vmi, claims), *kept, *_interfaces(vmi), *_devices(vmi)]


def is_told(vmi: Obj) -> bool:
    """Whether the status says what keeps a machine; one that ran before an upgrade says what held then."""
    return find_condition(read_status(vmi), VmiCondition.STORAGE_LIVE_MIGRATABLE) is not None


def copied(vmi: Obj) -> list[str]:
    """Return the names of the disks that are on the node, and that a guest writes to: they have to be copied."""
    spec = vmi["spec"]
    read_only = {disk["name"] for disk in devices_of(spec).get("disks") or [] if _never_written(disk)}
    mounted = shared(spec)
    return [
        volume["name"]
        for volume in spec.get("volumes") or []
        if any(kind in volume for kind in ON_THE_NODE) and volume["name"] not in read_only | mounted
    ]


def _of_the_node(driver: Driver, alone: str) -> Iterator[Blocker]:
    if not may_support(driver, FEATURE):
        why = answer_of(driver, FEATURE).reason
        yield Blocker(Reason.NOT_MIGRATABLE, f"{driver.title} machines cannot be moved while they run: {why}")
    if alone:
        yield Blocker(Reason.NOT_MIGRATABLE, alone)


def _volumes(vmi: Obj, claims: Mapping[str, Obj]) -> Iterator[Blocker]:
    spec = vmi["spec"]
    mounted = shared(spec)
    plugged = {one["name"] for one in read_status(vmi).get("volumeStatus") or [] if "hotplugVolume" in one}
    for volume in spec.get("volumes") or []:
        name = volume["name"]
        if name in mounted:
            yield Blocker(Blocked.SHARES, f"VMI uses virtiofs (volume {name})")
        elif name in plugged:
            yield Blocker(
                Blocked.HOTPLUG, f"volume {name} was attached while the machine ran; detach it, or restart the machine"
            )
        elif any(kind in volume for kind in ON_THE_NODE):
            continue
        elif claim := claim_of(volume):
            if SHARED not in (nested(claims.get(claim) or {}, "spec").get("accessModes") or []):
                yield Blocker(
                    Blocked.DISKS,
                    f"cannot migrate VMI: PVC {claim} is not shared, live migration requires that all PVCs must be "
                    "shared (using ReadWriteMany access mode)",
                    storage=True,
                )
        elif "hostDisk" in volume:
            yield Blocker(Blocked.DISKS, f"cannot migrate VMI with non-shared HostDisk (volume {name})", storage=True)
    if state_claim(vmi):
        what = "the TPM or the firmware keeps state in a claim, which is not moved; leave `persistent` out"
        yield Blocker(Blocked.DISKS, what, storage=True)


def _never_written(disk: Obj) -> bool:
    return "cdrom" in disk or bool(nested(disk, "disk").get("readonly"))


def _interfaces(vmi: Obj) -> Iterator[Blocker]:
    networks = {network["name"]: network for network in vmi["spec"].get("networks") or []}
    allowed = BRIDGE_ANNOTATION in annotations_of(vmi)
    for interface in devices_of(vmi["spec"]).get("interfaces") or []:
        if interface.get("sriov") is not None:
            yield Blocker(Blocked.INTERFACE, f"interface {interface['name']} is a device of the node (sriov)")
        elif "pod" in networks.get(interface["name"], {}) and interface.get("masquerade") is None and not allowed:
            yield Blocker(
                Blocked.INTERFACE,
                "cannot migrate VMI which does not use masquerade, bridge with "
                f"{BRIDGE_ANNOTATION} VM annotation or a migratable plugin to connect to the pod network",
            )


def _devices(vmi: Obj) -> Iterator[Blocker]:
    domain = vmi["spec"]["domain"]
    devices = devices_of(vmi["spec"])
    if devices.get("hostDevices") or devices.get("gpus"):
        yield Blocker(Blocked.HOST_DEVICE, "VMI uses a PCI or USB device of the node")
    tpm = devices.get("tpm")
    if tpm is not None and tpm.get("enabled") is not False and not state_claim(vmi):
        yield Blocker(Reason.NOT_MIGRATABLE, "the state of the machine's TPM is not moved; remove devices.tpm")
    if domain.get("launchSecurity"):
        yield Blocker(Blocked.ENCRYPTED, "VMI uses memory encryption")
    if nested(domain, "features", PASSTHROUGH).get("enabled"):
        yield Blocker(Blocked.PASSTHROUGH, USES_PASSTHROUGH)
    if nested(domain, "cpu").get("dedicatedCpuPlacement"):
        what = "dedicatedCpuPlacement gives the machine CPUs of its own on this node, so it cannot be moved"
        yield Blocker(Reason.NOT_MIGRATABLE, what)
    if any(nested(disk, "lun").get("reservation") for disk in devices.get("disks") or []):
        yield Blocker(Blocked.RESERVATION, "VMI uses persistent reservation")
