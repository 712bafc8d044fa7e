"""What becomes of a change to a machine that runs: at once where its driver can, else with its next restart, and why.

A change is never refused for that reason, as KubeVirt has it: it is stored, the machine shows ``RestartRequired``, and
the writer is warned here, with the driver's own reason for each part of the machine that was changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from polyvisor.admission.cards import RESTART, cards, changes
from polyvisor.admission.hypervisor import allowed
from polyvisor.admission.values import Findings, mapping, number
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver, Verdict
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.verdict import answer_of

TEMPLATE = ("spec", "template", "spec")
CPU = "domain.cpu"
LIVE = {
    CPU: "lifecycle.hotplug.cpu",
    "domain.memory": "lifecycle.hotplug.memory",
    "domain.devices.disks": "lifecycle.hotplug.disk",
    "volumes": "lifecycle.hotplug.disk",
}
"""Parts of a machine that some hypervisor changes while it runs, and the feature that this is."""
CHOICE = "hypervisor"
ONLY_SOCKETS = "more sockets alone, up to maxSockets, are added while the machine runs"
CARDS = "domain.devices.interfaces"
FIXED = "of a card that is there its state alone can change while the machine runs, and `state: absent` takes it out"


def warn_of_restart(vm: Obj, old: Obj, configuration: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Say of each changed part of a running machine when the change takes effect."""
    if not mapping(old, "status").get("created"):
        return
    new, stored = mapping(vm, *TEMPLATE), mapping(old, *TEMPLATE)
    running = allowed(stored, configuration, drivers)
    found.warnings += _of_cards(new, stored, running)
    for path in _changed(new, stored):
        field = ".".join((*TEMPLATE, path))
        if path == CHOICE:
            found.warnings.append(f"{field}: the hypervisor is chosen again when the machine is restarted")
            continue
        if told := _lacking(LIVE[path], running) or (path == CPU and not _adds_sockets(new, stored) and ONLY_SOCKETS):
            found.warnings.append(f"{field}: takes effect when the machine is restarted ({told})")


def _adds_sockets(new: Obj, old: Obj) -> bool:
    """Whether a change of CPUs is one that a machine takes while it runs."""
    (now, had), most = (mapping(one, "domain", "cpu") for one in (new, old)), mapping(old, "domain", "cpu")
    rest = [{key: value for key, value in one.items() if key != "sockets"} for one in (now, had)]
    before, after = (number(one.get("sockets")) or 1 for one in (had, now))
    return rest[0] == rest[1] and before <= after <= (number(most.get("maxSockets")) or before)


def _lacking(feature: str, running: list[Driver]) -> str:
    """Return why a change waits for a restart, empty if every driver makes it at once."""
    reasons = {
        f"{driver.title}: {support.reason}"
        for driver in running
        if (support := answer_of(driver, feature)).verdict is not Verdict.SUPPORTED
    }
    told = "; ".join(sorted(reasons)) if len(reasons) == 1 else f"see `polyvisor features --feature {feature}`"
    return f"{BY_ID[feature].title}: {told}" if reasons else ""


def _of_cards(new: Obj, old: Obj, running: list[Driver]) -> Iterator[str]:
    field = ".".join((*TEMPLATE, CARDS))
    for feature in sorted(set(changes(cards(old), cards(new)).values())):
        if told := FIXED if feature == RESTART else _lacking(feature, running):
            yield f"{field}: takes effect when the machine is restarted ({told})"


def _changed(new: Obj, old: Obj) -> Iterator[str]:
    for path in (*LIVE, CHOICE):
        *parents, last = path.split(".")
        if mapping(new, *parents).get(last) != mapping(old, *parents).get(last):
            yield path
