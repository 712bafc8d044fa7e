"""A stopped VirtualMachine on its way to another driver or host: what is checked before, and the machine after.

Pure. The disks are copied by whoever fills DataVolumes; nothing here knows how. A guest sees its devices anew: what
changes there, what gets lost and what prevents the move is found by comparing what both drivers make of the same spec.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.explanation import DriverVerdict, Fit, explain
from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.adopted import ADOPTED_SPEC_ANNOTATION, DELETION_POLICY_ANNOTATION
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION
from polyvisor.api.moved import MOVED_ANNOTATION
from polyvisor.api.reading import annotations_of, nested
from polyvisor.api.resources import VMS
from polyvisor.api.volumes import claim_of
from polyvisor.drivers.base import Driver
from polyvisor.machine.disks import Disk

KEPT_ANNOTATION = "hypervisor.kubevirt.io/kept-of-domain"
POD_NETWORK = "pod"
PATH = "spec.template.spec"


class Outcome(StrEnum):
    """What becomes of something."""

    STAYS = "stays"
    CHANGES = "changes"
    LOST = "lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one thing that a machine has; ``suggestion`` says what to do about it."""

    subject: str
    outcome: Outcome
    message: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a machine goes: a driver on this machine's nodes, or an endpoint, whose driver it is."""

    driver: Driver
    endpoint: Obj | None = None
    storage_class: str = ""

    @property
    def name(self) -> str:
        """The endpoint's name, or the driver's."""
        return str(self.endpoint["metadata"]["name"]) if self.endpoint is not None else self.driver.name


def claims(vm: Obj) -> list[str]:
    """Return the claims whose disks are copied, by name; a claim for memory dumps is left behind."""
    volumes = vm["spec"]["template"]["spec"].get("volumes") or []
    lasting = (one for one in volumes if "memoryDump" not in one and "ephemeral" not in one)
    return list(dict.fromkeys(name for one in lasting if (name := claim_of(one))))


def moved(vm: Obj, target: Target, names: Mapping[str, str], policy: str) -> Obj:
    """Return the machine as it is after the move; ``names`` are the new claims by the old ones' names."""
    new = copy.deepcopy(vm)
    template, spec = new["spec"]["template"], new["spec"]["template"]["spec"]
    source = nested(spec, "hypervisor").get("endpoint") or nested(spec, "hypervisor").get("driver") or ""
    choice: Obj = {"endpoint": target.name} if target.endpoint is not None else {"driver": target.driver.name}
    given = nested(spec, "hypervisor").get("virtType")
    if given in target.driver.virt_types:
        choice["virtType"] = given
    spec["hypervisor"] = choice
    for volume in spec.get("volumes") or []:
        if (old := claim_of(volume)) in names and "ephemeral" not in volume:
            for kind in ("persistentVolumeClaim", "dataVolume"):
                volume.pop(kind, None)
            volume["dataVolume"] = {"name": names[old]}
    templates = new["spec"].get("dataVolumeTemplates")
    if templates is not None:
        new["spec"]["dataVolumeTemplates"] = [one for one in templates if one["metadata"]["name"] not in names]
    annotations = nested(template, "metadata").get("annotations") or {}
    for name in (ADOPT_ANNOTATION, ADOPTED_SPEC_ANNOTATION):
        annotations.pop(name, None)
    own = new["metadata"].setdefault("annotations", {})
    for name in (KEPT_ANNOTATION, DELETION_POLICY_ANNOTATION):
        own.pop(name, None)
    said = {"from": source, "to": target.name, "claims": sorted(names), "policy": policy}
    own[MOVED_ANNOTATION] = json.dumps(said, sort_keys=True)
    return new


def preflight(
    vm: Obj, target: Target, sizes: Mapping[str, int], snapshots: int, available: int | None, context: AdmissionContext
) -> list[Finding]:
    """Return what becomes of all that a machine has.

    ``sizes`` are its claims' in bytes, ``snapshots`` how many libvirt has of its domain, ``available`` the bytes that
    are free where the disks go, None if nobody knows.
    """
    new = moved(vm, target, {}, "")
    before, after = explain(VMS, vm, context), explain(VMS, new, context)
    verdict = next((one for one in after.drivers if one.driver.name == target.driver.name), None)
    found = [*_host(target), *_driver(verdict, target), *(_problem(str(one)) for one in after.problems)]
    source = next((one.driver for one in before.drivers if one.allowed and one.fit is not Fit.UNSUPPORTED), None)
    if not any(one.outcome is Outcome.REFUSED for one in found):
        found += _devices(vm, source, target.driver)
    found += [*_firmware(vm), *_networks(vm, target), *_volumes(vm, sizes, available)]
    if snapshots:
        what = f"{snapshots} snapshots are of the disks before, and stay with them"
        found.append(Finding("snapshots", Outcome.LOST, what, "Copy what you need of them before the move."))
    if kept := annotations_of(vm).get(KEPT_ANNOTATION):
        what = f"what KubeVirt's API cannot express of the adopted domain: {kept}"[:500]
        found.append(Finding("domain", Outcome.LOST, what))
    return found


def _problem(message: str) -> Finding:
    return Finding("manifest", Outcome.REFUSED, message)


def _host(target: Target) -> Iterable[Finding]:
    conditions: list[Obj] = nested(target.endpoint or {}, "status").get("conditions") or []
    for one in conditions:
        if one.get("type") == "Schedulable" and one.get("status") == "False":
            what = f"endpoint {target.name} takes no machines now: {one.get('message') or one.get('reason')}"
            yield Finding("endpoint", Outcome.REFUSED, what, one.get("suggestion") or "")


def _driver(verdict: DriverVerdict | None, target: Target) -> Iterable[Finding]:
    if verdict is None:
        yield _problem(f"the machine cannot be judged for {target.driver.title}")
        return
    if verdict.fit is not Fit.UNSUPPORTED:
        yield Finding("driver", Outcome.CHANGES, f"{verdict.driver.title} runs the machine as it is written")
        return
    changes = "; ".join(f"{one}" for one in verdict.changes or ()) or "no small change makes it fit"
    for lack in verdict.lacks:
        yield Finding("driver", Outcome.REFUSED, f"{', '.join(lack.fields)}: {lack.reason}", changes)


def _devices(vm: Obj, source: Driver | None, target: Driver) -> Iterable[Finding]:
    """Compare the buses and models that both drivers choose where the machine leaves them open."""
    was, now = (_filled(vm, driver) for driver in (source or target, target))
    old = {one.name: Disk.of(one) for one in was.domain.devices.disks or []}
    for disk in now.domain.devices.disks or []:
        to, before = Disk.of(disk), old.get(disk.name)
        if before is not None and before.bus != to.bus:
            what = f"disk {disk.name} goes from bus {before.bus} to {to.bus}; the guest needs that bus' driver to boot"
            yield Finding("bus", Outcome.CHANGES, what)
        else:
            yield Finding("bus", Outcome.STAYS, f"disk {disk.name}: {to.bus}")
    models = {one.name: one.model for one in was.domain.devices.interfaces or []}
    for card in now.domain.devices.interfaces or []:
        before_model = models.get(card.name)
        if before_model != card.model:
            what = f"interface {card.name} goes from model {before_model or 'virtio'} to {card.model or 'virtio'}"
            advice = "A guest that keeps its settings by interface, such as Windows, loses a static address: note it."
            yield Finding("interface", Outcome.CHANGES, what, advice)
        else:
            yield Finding("interface", Outcome.STAYS, f"interface {card.name}: {card.model or 'virtio'}")


def _filled(vm: Obj, driver: Driver) -> VirtualMachineInstanceSpec:
    spec = VirtualMachineInstanceSpec.model_validate(copy.deepcopy(vm["spec"]["template"]["spec"]))
    driver.defaults(spec)
    return spec


def _firmware(vm: Obj) -> Iterable[Finding]:
    domain = nested(vm, "spec", "template", "spec", "domain")
    efi = nested(domain, "firmware", "bootloader").get("efi")
    if efi is None:
        yield Finding("firmware", Outcome.STAYS, "BIOS, or a kernel that is given")
    elif efi.get("persistent"):
        what = "UEFI; its variables, such as boot entries, begin empty"
        yield Finding("firmware", Outcome.LOST, what, "Have the guest's loader at EFI/BOOT of its EFI partition.")
    else:
        yield Finding("firmware", Outcome.STAYS, "UEFI")
    if nested(domain, "devices").get("tpm") is not None:
        what = "what the TPM holds, such as keys of disks"
        yield Finding("tpm", Outcome.LOST, what, "Have recovery keys, or suspend the encryption, before the move.")


def _networks(vm: Obj, target: Target) -> Iterable[Finding]:
    spec, namespace = vm["spec"]["template"]["spec"], vm["metadata"]["namespace"]
    mapped = {one["name"] for one in nested(target.endpoint or {}, "spec").get("networks") or []}
    for network in spec.get("networks") or []:
        multus = nested(network, "multus").get("networkName")
        name = POD_NETWORK if not multus else multus if "/" in multus else f"{namespace}/{multus}"
        if target.endpoint is not None and name not in mapped:
            what = f"network {network['name']}: endpoint {target.name} maps no network {name!r}"
            advice = f"polyvisor endpoint map {target.name} --network {name}=NETWORK"
            yield Finding("network", Outcome.REFUSED, what, advice)
        else:
            what = f"network {network['name']} is another network there: an address by DHCP changes"
            yield Finding("address", Outcome.CHANGES, what, "MAC addresses stay the same.")
    for volume in spec.get("volumes") or []:
        for kind in ("cloudInitNoCloud", "cloudInitConfigDrive"):
            if any(key.startswith("networkData") for key in volume.get(kind) or {}):
                what = f"volume {volume['name']} gives the guest network settings of its own"
                yield Finding("address", Outcome.CHANGES, what, "Check that its addresses are right there.")


def _volumes(vm: Obj, sizes: Mapping[str, int], available: int | None) -> Iterable[Finding]:
    for volume in vm["spec"]["template"]["spec"].get("volumes") or []:
        name = volume["name"]
        if "memoryDump" in volume:
            yield Finding("volume", Outcome.LOST, f"volume {name}: memory dumps stay in their claim")
        elif "ephemeral" in volume:
            what = f"volume {name} is a layer above a claim that stays where it is"
            yield Finding("volume", Outcome.REFUSED, what, "Make it a persistentVolumeClaim, or leave it out.")
        elif claim := claim_of(volume):
            yield Finding("volume", Outcome.STAYS, f"volume {name}: claim {claim} is copied, {sizes[claim]} bytes")
        elif "hostDisk" in volume:
            what = f"volume {name} is a file of this node"
            yield Finding("volume", Outcome.REFUSED, what, "Bring it into a claim first: polyvisor image-upload.")
        elif "containerDisk" in volume or "emptyDisk" in volume:
            yield Finding("volume", Outcome.STAYS, f"volume {name}: made anew, as with each start")
        else:
            yield Finding("volume", Outcome.STAYS, f"volume {name}: made of its texts")
    needed = sum(sizes.values())
    if available is not None and needed > available:
        what = f"the disks have {needed} bytes, and {available} are free where they go"
        yield Finding("space", Outcome.CHANGES, what, "Disks take what is written in them; free some space to be sure.")
