"""Many machines for one driver: each feature that it has alone, mixtures of them, and odd but legal names and sizes.

All of it follows from the driver's table, and nothing is left to chance: the mixtures are drawn with a fixed seed, so
the same table gives the same corpus. Every machine has been through admission, with the driver named, before it is
rendered; what is handed to the converter is therefore what a launcher would be given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj, VirtualMachineInstance, VirtualMachineInstanceSpec
from polyvisor.api.reading import nested
from polyvisor.api.resources import VMIS
from polyvisor.api.volumes import shared
from polyvisor.domain import DiskSource, DomainContext, Share
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver, RootKind
from polyvisor.drivers.features import BY_ID, asked
from polyvisor.drivers.verdict import answer, unsupported
from polyvisor.testing.examples import (
    IDS,
    KERNEL,
    NO_ROOT,
    PLAIN,
    SOURCES,
    backing,
    example,
    has,
    needs_kernel,
    numbered,
    without_root,
)
from polyvisor.testing.merging import at, merged

LEAST = 60
MIXTURES = 20
EVIL = "<&\"'>]]>&amp;\u00e9"
"""Text that an XML writer must not take for XML."""
UID = "0f0e0d0c-0000-4000-8000-%012d"
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "s390x": "s390x"}
ENDINGS = {"raw": "img"}
SEEDS = {"cloudInitNoCloud", "cloudInitConfigDrive"}
"""Kinds of volumes that become files of a root filesystem."""
DISCS = SEEDS | {"configMap", "secret", "downwardAPI", "serviceAccount", "sysprep"}
"""Kinds of volumes that become a disc in a machine that has disks."""


@dataclass(frozen=True)
class Case:
    """One machine: as it was admitted, what it asks for, and what an agent would have made ready for it."""

    id: str
    obj: Obj
    context: DomainContext
    features: frozenset[str] = field(default_factory=frozenset)

    @property
    def vmi(self) -> VirtualMachineInstance:
        """The machine, typed."""
        return VirtualMachineInstance.model_validate(self.obj)


def askable(driver: Driver) -> list[str]:
    """Return the features that a machine for the driver can ask for: it has them, and what cannot but come along."""
    return [id_ for id_ in IDS if has(driver, id_, *example(id_, driver).companions)]


def unaskable(driver: Driver) -> dict[str, list[str]]:
    """Return features that the driver has but nobody can ask for, with the companions that are lacking."""
    found = {id_: sorted(c for c in example(id_, driver).companions if not has(driver, c)) for id_ in IDS}
    return {id_: lacking for id_, lacking in found.items() if lacking and has(driver, id_)}


def instance(driver: Driver, spec: Obj, name: str = "kit", namespace: str = "kit", number: int = 1) -> Obj:
    """Return a VirtualMachineInstance that names the driver."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": namespace, "uid": UID % number},
        "spec": merged(spec, {"hypervisor": {"driver": driver.name}}),
    }


def bootable(driver: Driver, spec: Obj) -> Obj:
    """Return the spec with something to boot from, as the driver needs it."""
    if needs_kernel(driver):
        spec = merged(KERNEL, spec)
    kernel = nested(spec["domain"], "firmware", "kernelBoot").get("container")
    if kernel and not needs_kernel(driver):
        return spec
    if without_root(spec) and (driver.root is RootKind.FILESYSTEM or has(driver, "boot.disk")):
        return merged({"volumes": [{"name": "boot", **numbered(SOURCES[backing(driver)], "boot")}]}, spec)
    return spec


def corpus(driver: Driver) -> list[Case]:
    """Return at least :data:`LEAST` machines that together ask for everything that the driver has."""
    found: dict[str, Case] = {}
    for id_ in ("plain", *askable(driver)):
        spec = example(id_, driver).spec if id_ in IDS else PLAIN
        _keep(found, driver, id_, spec if id_ == NO_ROOT else bootable(driver, spec))
    for id_, spec, metadata in _shapes(driver):
        _keep(found, driver, id_, spec, **metadata)
    old = [id_ for id_ in askable(driver) if not driver.features[id_].min_libvirt]  # the rest only alone
    _keep(found, driver, "everything", _mixture(driver, old))
    number = 0
    while number < MIXTURES or len(found) < LEAST:
        number += 1
        draw = Random(f"{driver.name} {number}")
        chosen = draw.sample(old, min(len(old), draw.randint(2, 8)))
        size = {"domain": {"memory": {"guest": f"{64 + 2 * number}Mi"}}}
        _keep(found, driver, f"mixture-{number}", merged(_mixture(driver, chosen), size), name=f"m{number}")
    return list(found.values())


def context_for(driver: Driver, obj: Obj, base: Path) -> DomainContext | None:
    """Return what an agent would make ready below ``base``; None if no virt type of the driver fits the machine."""
    spec = VirtualMachineInstanceSpec.model_validate(obj["spec"])
    virt_type = next((each for each in driver.virt_types if not unsupported(driver, spec, each)), None)
    if virt_type is None:
        return None
    disks, folders, shares, root = {}, {}, {}, None
    mounted = shared(obj["spec"])
    for number, volume in enumerate(obj["spec"].get("volumes") or []):
        name = volume["name"]
        if driver.root is RootKind.FILESYSTEM and root is None and _can_be_root(volume):
            root = name
        elif name in mounted:
            shares[name] = Share(base / name)
        elif driver.root is not RootKind.FILESYSTEM:
            disks[name] = _source(driver, obj["spec"], volume, base, number)
        elif not SEEDS & volume.keys():
            folders[name] = base / name
    firmware = obj["spec"]["domain"].get("firmware") or {}
    kernel: Obj = nested(firmware, "kernelBoot").get("container") or {}
    return DomainContext(
        virt_type,
        architecture=_architecture(driver, spec),
        disks=disks,
        folders=folders,
        shares=shares,
        root=base / "root" if root else None,
        root_volume=root or "",
        kernel=base / "vmlinuz" if kernel.get("kernelPath") else None,
        initrd=base / "initrd.img" if kernel.get("initrdPath") else None,
        graphics_socket=base / "vnc.sock" if has(driver, "graphics") else None,
        metrics_socket=base / "metrics.sock",
        usb_sockets=(base / "usb0.sock", base / "usb1.sock"),
    )


def _keep(found: dict[str, Case], driver: Driver, id_: str, spec: Obj, base: str = "/nowhere", **metadata: str) -> None:
    obj = instance(driver, spec, number=len(found) + 1, **metadata)
    outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, DriverRegistry([driver])))
    problems = [str(problem) for problem in outcome.problems]
    assert not problems, f"{driver.name}: a machine of the corpus, {id_}, is refused: {problems}"
    context = context_for(driver, outcome.obj, Path(base))
    assert context, f"{driver.name}: no virt type takes the machine {id_}"
    features = asked(VirtualMachineInstanceSpec.model_validate(outcome.obj["spec"]))
    found[id_] = Case(
        id_, outcome.obj, context, frozenset(feature.id for feature, _ in features if feature.id in BY_ID)
    )


def _mixture(driver: Driver, chosen: list[str]) -> Obj:
    """Put as many of the features as can stand beside each other into one machine."""
    whole = bootable(driver, PLAIN)
    known = DriverRegistry([driver])
    for number, id_ in enumerate(chosen):
        if BY_ID[id_].paths(VirtualMachineInstanceSpec.model_validate(whole)):
            continue  # it came along with another
        more = merged(whole, _renamed(example(id_, driver).spec, number))
        outcome = admit("CREATE", VMIS, instance(driver, more), None, AdmissionContext({}, known))
        if not outcome.problems and _fits(driver, outcome.obj):
            whole = more
    return whole


def _fits(driver: Driver, obj: Obj) -> bool:
    spec = VirtualMachineInstanceSpec.model_validate(obj["spec"])
    wanted = [set(found) for f, _ in asked(spec) if (found := answer(driver, f).architectures)]
    guest = {ARCHITECTURES[spec.architecture]} if spec.architecture else set(ARCHITECTURES.values())
    return bool(guest.intersection(*wanted)) and context_for(driver, obj, Path("/nowhere")) is not None


def _renamed(spec: Obj, number: int) -> Obj:
    """Give the example's disk a name and a source of its own, so that several stand side by side."""
    spec = copy.deepcopy(spec)
    devices: Mapping[str, Any] = spec["domain"]["devices"]
    for item in [*(devices.get("disks") or []), *(devices.get("filesystems") or []), *(spec.get("volumes") or [])]:
        if item["name"] == "boot":
            continue
        item["name"] += f"-{number}"
        for source, key in (("persistentVolumeClaim", "claimName"), ("hostDisk", "path"), ("dataVolume", "name")):
            if source in item:
                item[source][key] += f"-{number}"
        if "ephemeral" in item:
            item["ephemeral"]["persistentVolumeClaim"]["claimName"] += f"-{number}"
    return spec


def _shapes(driver: Driver) -> Iterator[tuple[str, Obj, dict[str, str]]]:
    """Yield odd but legal names, sizes and numbers: (id, spec, metadata)."""
    plain = bootable(driver, PLAIN)
    for number, name in enumerate(("a", "0", "a-b", "x" * 63, "0-0", "nan")):
        yield f"name-{number}", plain, {"name": name}
        yield f"namespace-{number}", plain, {"name": name, "namespace": name[::-1]}
    for size in ("1Mi", "1048577", "33554433", "96M", "100500Ki", "0.5Gi", "1e9", "1Ti"):
        yield f"memory-{size}", merged(plain, at("domain.memory.guest", size)), {}
    requested = merged(plain, at("domain.resources.requests", {"memory": "64Mi", "cpu": "1500m"}))
    del requested["domain"]["memory"]
    if has(driver, "cpu.count"):
        yield "requested", requested, {}
        limit = driver.limits.get("limit.cpus")
        for cores in (2, 3, min(16, limit.most if limit else 16)):
            yield f"cores-{cores}", merged(plain, at("domain.cpu.cores", cores)), {}
    if has(driver, "cpu.count", "cpu.topology"):
        yield "sockets", merged(plain, at("domain.cpu", {"sockets": 2, "cores": 3, "threads": 1})), {}
    source = backing(driver)
    if driver.root is RootKind.DISK and has(driver, source):
        for count in (2, 3, 5):
            volumes = [{"name": f"{'v' * 50}-{n}", **numbered(SOURCES[source], n)} for n in range(count)]
            yield f"disks-{count}", merged(plain, {"volumes": volumes}), {}
    yield "hostile-path", plain, {"base": f"/nowhere/{EVIL}"}
    if has(driver, "firmware.kernel-boot", "firmware.kernel-args"):
        boot = at("domain.firmware.kernelBoot.kernelArgs", EVIL)
        yield "hostile-arguments", merged(plain, KERNEL, boot), {"base": f"/nowhere/{EVIL}"}
        initrd = at("domain.firmware.kernelBoot.container.initrdPath", "/boot/initrd.img")
        yield "initrd", merged(plain, KERNEL, initrd), {}
    if has(driver, "firmware.chassis"):
        words = dict.fromkeys(("manufacturer", "version", "serial", "asset", "sku"), EVIL)
        yield "hostile-chassis", merged(plain, at("domain.chassis", words)), {}


def _can_be_root(volume: Obj) -> bool:
    return bool({"containerDisk", "persistentVolumeClaim", "dataVolume"} & volume.keys())


def _source(driver: Driver, spec: Obj, volume: Obj, base: Path, number: int) -> DiskSource:
    disks = spec["domain"]["devices"].get("disks") or []
    disk: Obj = next((disk for disk in disks if disk["name"] == volume["name"]), {})
    if disk.get("lun") is not None:
        return DiskSource(Path("/dev", volume["name"]), "raw", block=True)
    if disk.get("shareable"):
        return DiskSource(base / f"{volume['name']}.img", "raw")
    if disk.get("cdrom") is not None or DISCS & volume.keys() or not driver.disk_formats:
        return DiskSource(base / f"{volume['name']}.iso", "raw")
    format_ = driver.disk_formats[number % len(driver.disk_formats)]
    return DiskSource(base / f"{volume['name']}.{ENDINGS.get(format_, format_)}", format_)


def _architecture(driver: Driver, spec: VirtualMachineInstanceSpec) -> str:
    if spec.architecture:
        return ARCHITECTURES[spec.architecture]
    lists = [answer(driver, f).architectures for f, _ in asked(spec)]
    return next((each[0] for each in lists if each), "x86_64")
