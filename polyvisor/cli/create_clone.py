"""``create clone``: the manifest of a VirtualMachineClone from flags, with virtctl's flags and results."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from polyvisor.api.metadata import dns_subdomain_error
from polyvisor.api.resources import CLONES, SNAPSHOTS, VMS
from polyvisor.cli.create_vm import ALPHABET, wrong

Obj = dict[str, Any]
WORDS = {
    **dict.fromkeys(("vm", VMS.kind, VMS.singular), VMS),
    **dict.fromkeys(("snapshot", "vmsnapshot", SNAPSHOTS.kind, SNAPSHOTS.singular), SNAPSHOTS),
}


def clone(
    *,
    name: str = "",
    namespace: str = "",
    source_name: str = "",
    source_type: str = "vm",
    target_name: str = "",
    target_type: str = "vm",
    filters: dict[str, Sequence[str]],
    template_filters: dict[str, Sequence[str]],
    mac_addresses: Sequence[str] = (),
    serial: str = "",
) -> Obj:
    """Return the clone; ``filters`` are by their field's name."""
    if not source_name:
        raise wrong("source-name", "the name of what is cloned must be given")
    if source_type not in WORDS:
        raise wrong("source-type", f"{source_type!r} is not valid; accepted: vm, snapshot")
    if WORDS.get(target_type) is not VMS:
        raise wrong("target-type", f"{target_type!r} is not valid; accepted: vm")
    source = WORDS[source_type]
    spec: Obj = {"source": {"apiGroup": source.group, "kind": source.kind, "name": source_name}}
    if target_name:
        spec["target"] = {"apiGroup": VMS.group, "kind": VMS.kind, "name": target_name}
    spec |= {field: list(given) for field, given in filters.items() if given}
    if template := {field: list(given) for field, given in template_filters.items() if given}:
        spec["template"] = template
    if mac_addresses:
        spec["newMacAddresses"] = dict(_mac(text) for text in mac_addresses)
    if serial:
        spec["newSMBiosSerial"] = serial
    given = name or "clone-" + "".join(secrets.choice(ALPHABET) for _ in range(5))
    if error := dns_subdomain_error(given):
        raise wrong("name", f"{given!r}: {error}")
    metadata = {"name": given, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": CLONES.api_version, "kind": CLONES.kind, "metadata": metadata, "spec": spec}


def _mac(text: str) -> tuple[str, str]:
    """Return interface and address of ``interface:address``."""
    card, colon, address = text.partition(":")
    if not card or not colon or not address:
        raise wrong("new-mac-address", f"{text!r} is not valid; INTERFACE:ADDRESS is wanted")
    return card, address
