"""What of a machine's own state outlives an instance: its TPM's, its firmware's variables; and the claim it lies in.

The claim is made by the controller and belongs to the VirtualMachine (or to an instance that has none), so that it goes
when that goes. Its name follows from the machine's, and a restarted machine finds its state again.
"""

from __future__ import annotations

import hashlib

from polyvisor.api import Obj
from polyvisor.api.reading import nested

TPM = "tpm"
FIRMWARE = "firmware"
PREFIX = "persistent-state-for-"
MAX_NAME = 253


def kept_state(spec: Obj) -> list[str]:
    """Return which parts of a machine's state shall be kept."""
    domain = spec.get("domain") or {}
    tpm = nested(domain, "devices").get("tpm") or {}
    efi = nested(domain, "firmware", "bootloader").get("efi") or {}
    kept = [TPM] if tpm.get("persistent") and tpm.get("enabled") is not False else []
    return [*kept, FIRMWARE] if efi.get("persistent") else kept


def state_claim(vmi: Obj) -> str:
    """Return the name of the claim that holds a machine's state, empty if nothing is kept."""
    if not kept_state(vmi["spec"]):
        return ""
    name = PREFIX + str(vmi["metadata"]["name"])
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 11].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
