"""Which of VMware's desktop products is here, and whether libvirt can speak to it."""

from __future__ import annotations

import shutil
from pathlib import Path

from polyvisor.drivers.base import ProbeResult

PROGRAMS = {"ws": "vmware", "player": "vmplayer"}
"""libvirt's word in the URI -> the program that libvirt asks for the version; best first."""
PAUSE = "lifecycle.pause"


def found_product(scratch: Path) -> str:
    """Return the product that a probe with this scratch folder found; Workstation if there was none."""
    note = scratch / "product"
    return note.read_text() if note.exists() else "ws"


def probe(scratch: Path, virt_types: tuple[str, ...]) -> ProbeResult:
    """Open a connection to each product whose program is here, until one answers."""
    from polyvisor.drivers.ask import versions

    refusal = f"neither {' nor '.join(PROGRAMS.values())} found beside vmrun; install VMware Workstation or Player"
    for product, program in PROGRAMS.items():
        if shutil.which(program) is None:
            continue
        result = versions(f"vmware{product}:///session", virt_types)
        if result.available:
            (scratch / "product").write_text(product)
            facts = frozenset({PAUSE}) if product == "ws" else frozenset()
            return ProbeResult(True, "", result.version, result.libvirt_version, virt_types, facts)
        refusal = result.reason
    return ProbeResult(False, refusal)
