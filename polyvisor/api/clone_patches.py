"""What makes a copied virtual machine another one than its source, as JSON patches in strings. Pure.

The copy gets addresses, serial and UUID of its own: those that are named, else none, so that new ones are generated.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from polyvisor.api.clones import left_out
from polyvisor.api.reading import nested

if TYPE_CHECKING:
    from polyvisor.api.base import Obj

KEPT = frozenset({"restore.kubevirt.io/lastRestoreUID"})
DOMAIN = "/spec/template/spec/domain"


def patches_of(clone_spec: Obj, source: Obj) -> list[str]:
    """Return the patches of a clone of this machine, the clone's own last."""
    found: list[Obj] = []
    new = clone_spec.get("newMacAddresses") or {}
    domain = nested(source, "spec", "template", "spec", "domain")
    for index, card in enumerate(nested(domain, "devices").get("interfaces") or []):
        found += _put(f"{DOMAIN}/devices/interfaces/{index}/macAddress", card, "macAddress", new.get(card.get("name")))
    firmware, serial = domain.get("firmware"), clone_spec.get("newSMBiosSerial")
    if firmware is None and serial:
        found.append({"op": "add", "path": f"{DOMAIN}/firmware", "value": {"serial": serial}})
    elif firmware is not None:
        found += _put(f"{DOMAIN}/firmware/serial", firmware, "serial", serial)
        found += _put(f"{DOMAIN}/firmware/uuid", firmware, "uuid", None)
    for path, holder, filters in (
        ("/metadata", source, clone_spec),
        ("/spec/template/metadata", nested(source, "spec", "template"), clone_spec.get("template") or {}),
    ):
        for kind, field in (("labels", "labelFilters"), ("annotations", "annotationFilters")):
            keys = [key for key in nested(holder, "metadata", kind) if key not in KEPT]
            found += [
                {"op": "remove", "path": f"{path}/{kind}/{_escaped(key)}"} for key in left_out(keys, filters.get(field))
            ]
    return [*(json.dumps(one) for one in found), *(clone_spec.get("patches") or [])]


def _put(path: str, holder: Obj, field: str, value: Any) -> list[Obj]:
    if value:
        return [{"op": "add", "path": path, "value": value}]
    return [{"op": "remove", "path": path}] if field in holder else []


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
