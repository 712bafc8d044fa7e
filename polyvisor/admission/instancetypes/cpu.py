"""As which sockets, cores and threads the CPUs of an instance type are shown, as a preference would have it.

Where it names nothing they are the cores of one socket: every hypervisor can show those, and few can show several
sockets. KubeVirt, which has one hypervisor, takes sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyvisor.admission.values import mapping, number, text
from polyvisor.api import Obj

SOCKETS, CORES, THREADS, SPREAD = "sockets", "cores", "threads", "spread"
OLDER = {"preferSockets": SOCKETS, "preferCores": CORES, "preferThreads": THREADS, "preferSpread": SPREAD}
"""KubeVirt's earlier words; ``any`` and ``preferAny`` are as good as no word."""
RATIO = 2
THREADS_A_CORE = 2


@dataclass(frozen=True, slots=True)
class Topology:
    """How many of each there are; their product is the number of CPUs."""

    sockets: int = 1
    cores: int = 1
    threads: int = 1


def preferred(preference: Obj) -> str:
    """Return the topology that a preference names: cores unless it says otherwise."""
    word = text(mapping(preference, "cpu").get("preferredCPUTopology"))
    word = OLDER.get(word, word)
    return word if word in (SOCKETS, THREADS, SPREAD) else CORES


def ratio_of(preference: Obj) -> int:
    """Return the number that CPUs are spread by."""
    options = mapping(preference, "cpu", "spreadOptions")
    return number(options.get("ratio")) or number(preference.get("preferSpreadSocketToCoreRatio")) or RATIO


def topology(guest: int, preference: Obj) -> Topology:
    """Return the topology of so many CPUs."""
    match preferred(preference):
        case "sockets":
            return Topology(sockets=guest)
        case "threads":
            return Topology(threads=guest)
        case "spread":
            return _spread(guest, preference)
    return Topology(cores=guest)


def _spread(guest: int, preference: Obj) -> Topology:
    ratio = ratio_of(preference)
    match text(mapping(preference, "cpu", "spreadOptions").get("across")):
        case "CoresThreads":
            return Topology(cores=guest // ratio, threads=ratio)
        case "SocketsCoresThreads":
            return Topology(guest // (ratio * THREADS_A_CORE), ratio, THREADS_A_CORE)
    return Topology(sockets=guest // ratio, cores=ratio)


def spread_error(guest: int, preference: Obj) -> str:
    """Say why so many CPUs cannot be spread as the preference would have it, or nothing."""
    if preferred(preference) != SPREAD:
        return ""
    found = _spread(guest, preference)
    if found.sockets * found.cores * found.threads == guest:
        return ""
    threads = text(mapping(preference, "cpu", "spreadOptions").get("across")) == "SocketsCoresThreads"
    by = ratio_of(preference) * (THREADS_A_CORE if threads else 1)
    return f"{guest} vCPUs provided by the instance type cannot be spread by the preference, which divides them by {by}"
