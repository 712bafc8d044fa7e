"""Making the machine fit its driver: what can be written in several ways, and what the driver has no feature for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from polyvisor.admission.hypervisor import lacks
from polyvisor.adoption.draft import Draft, number
from polyvisor.adoption.values import Outcome
from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.drivers.features import asked

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_OWN = 8
"""How many I/O threads of single disks are looked for."""
TARGET = r"(?:disk|cdrom|lun)\.(?:bus|readonly|tray|pciAddress)"
OF_DISKS = rf"{TARGET}|bootOrder|cache|io|errorPolicy|shareable|blockSize|serial|dedicatedIOThread"
OF_INTERFACES = "model|state|bootOrder|acpiIndex|pciAddress"
OF_DEVICES = (
    r"rng|sound|tpm|video|watchdog|blockMultiQueue|clientPassthrough|autoattach\w+|(?:inputs|panicDevices)\[\d+\]"
)
REMOVABLE = tuple(
    re.compile(rf"(spec\.domain\.(?:{pattern}))(?:[.\[].*)?")
    for pattern in (
        r"firmware\.(?:uuid|serial|bootloader)|chassis|machine|rebootPolicy|ioThreadsPolicy",
        r"cpu\.(?:model|features)|memory\.(?:hugepages|maxGuest)",
        r"features\.\w+(?:\.\w+)?|clock\.(?:timezone|utc|timer\.\w+)",
        rf"devices\.(?:{OF_DEVICES}|disks\[\d+\]\.(?:{OF_DISKS})|interfaces\[\d+\]\.(?:{OF_INTERFACES}))",
    )
)
"""Fields without which a machine is still the same machine; the group is what is left out."""
GROUPS = ("spec.domain.features.", "spec.domain.clock.")
"""What is left out altogether when nothing is left in it; elsewhere an empty object says that a device is there."""
UUID = "spec.domain.firmware.uuid"
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to write what XML leaves open: CPUs without a topology, and the policy behind numbered I/O threads."""

    as_cores: bool = False
    policy: str = ""
    own: frozenset[int] = frozenset()
    """Numbers of the I/O threads that serve one disk alone."""


def ways(domain: _Element) -> Iterator[Way]:
    """Yield the ways to try."""
    vcpu = domain.find("vcpu")
    several = vcpu is not None and (number(vcpu.text) or 1) > 1 and domain.find("cpu/topology") is None
    used = Counter(thread for driver in domain.iterfind("devices/disk/driver") if (thread := _thread(driver)))
    single = sorted((thread for thread, disks in used.items() if disks == 1), reverse=True)[:MAX_OWN]
    threads = [("", frozenset[int]())]
    if used:
        threads = [
            (policy, frozenset(single[:count]))
            for policy in ("", "shared", "auto")
            for count in range(len(single) + 1)
            if policy or count
        ]
    for as_cores in (False, True) if several else (False,):
        for policy, own in threads:
            yield Way(as_cores, policy, own)


def read_threads(draft: Draft, way: Way) -> None:
    """Write I/O threads and queues of disks in one way."""
    if way.policy:
        draft.board["ioThreadsPolicy"] = way.policy
    named = {str(disk["name"]): disk for disk in draft.devices.get("disks") or []}
    vcpu = draft.domain.find("vcpu")
    queues = vcpu.text.strip() if vcpu is not None and vcpu.text else "1"
    for name, element in draft.elements.items():
        driver = element.find("driver")
        if driver is None or name not in named:
            continue
        if _thread(driver) in way.own:
            named[name]["dedicatedIOThread"] = True
        if driver.get("queues") == queues:
            draft.devices["blockMultiQueue"] = True


def _thread(driver: _Element) -> int:
    return number(driver.get("iothread")) or 0


def take_out(draft: Draft) -> int:
    """Leave out fields that the driver has no feature for; return how many features are still lacking."""
    while True:
        try:
            parsed = VirtualMachineInstanceSpec.model_validate(draft.spec)
        except ValidationError:
            return 0
        lacking = lacks(draft.driver, asked(parsed), draft.virt_type)
        fields = {found[1] for lack in lacking for field in lack.fields if (found := _removable(field))}
        if not fields:
            return len(lacking)
        for field in sorted(fields, reverse=True):
            _remove(draft.spec, field)
            draft.unsettle(field)
            if field == UUID:
                why = "the hypervisor gives its machines UUIDs of its own"
                draft.settle(draft.domain.find("uuid"), "", Outcome.CHOSEN, why)


def _removable(field: str) -> re.Match[str] | None:
    return next((found for pattern in REMOVABLE if (found := pattern.fullmatch(field))), None)


def _remove(spec: Any, field: str) -> None:
    steps = [int(index) if index else name for name, index in _STEP.findall(field)][1:]
    above = [spec]
    for step in steps[:-1]:
        if isinstance(step, str) and step not in above[-1]:
            return  # it went with another field
        above.append(above[-1][step])
    if isinstance(steps[-1], str) and steps[-1] not in above[-1]:
        return
    del above[-1][steps[-1]]
    for step, outer, inner in zip(steps[-2::-1], above[-2::-1], above[:0:-1], strict=True):
        if inner != {} or not field.startswith(GROUPS):
            return
        del outer[step]
