"""Hyper-V enlightenments: what a hypervisor offers to Windows so that it runs as well as under Microsoft's own.

KubeVirt has them below ``features.hyperv``. Their rules and their XML stand here, for the drivers that have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from polyvisor.domain.xml import add, on_off

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import Obj, VirtualMachineInstanceSpec
    from polyvisor.api.kubevirt.firmware import FeatureHyperv

LEAST_RETRIES = 4095
NEEDS = (("synictimer", "synic"), ("synic", "vpindex"))
_VENDOR = re.compile(r"[ -+\--~]{1,12}")
PLAIN = ("relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies", "reenlightenment", "ipi", "evmcs")
"""Those with a switch and nothing more, by the name that both KubeVirt and libvirt give them."""
RETRIES = 8191
"""KubeVirt's default; libvirt takes 4095 at least."""


def add_enlightenments(domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
    """Write every enlightenment that is given, on or off, below the domain's ``<features>``."""
    wanted, features = spec.domain.features, domain.find("features")
    if wanted is None or features is None:
        return
    if wanted.hyperv_passthrough and wanted.hyperv_passthrough.enabled is not False:
        add(features, "hyperv", mode="passthrough")
    elif wanted.hyperv:
        _add_given(features, wanted.hyperv)


def _add_given(features: _Element, wanted: FeatureHyperv) -> None:
    hyperv = add(features, "hyperv", mode="custom")
    for name in PLAIN:
        given: Any = getattr(wanted, name)
        if given is not None:
            add(hyperv, name, state=on_off(given.enabled))
    if wanted.spinlocks:
        on = on_off(wanted.spinlocks.enabled)
        retries = wanted.spinlocks.spinlocks or RETRIES
        add(hyperv, "spinlocks", state=on, retries=retries if on == "on" else None)
    if wanted.vendorid:
        on = on_off(wanted.vendorid.enabled)
        add(hyperv, "vendor_id", state=on, value=wanted.vendorid.vendorid if on == "on" else None)
    if wanted.synictimer:
        timer = add(hyperv, "stimer", state=on_off(wanted.synictimer.enabled))
        if wanted.synictimer.direct:
            add(timer, "direct", state=on_off(wanted.synictimer.direct.enabled))
    if wanted.tlbflush:
        add(hyperv, "tlbflush", state=on_off(wanted.tlbflush.enabled))


def read_enlightenments(features: _Element) -> Obj:
    """Return the fields below ``features`` that a domain's ``<features>`` stand for; the way back of the writing."""
    given = features.find("hyperv")
    if given is None:
        return {}
    if given.get("mode") == "passthrough":
        return {"hypervPassthrough": {}}
    found: Obj = {}
    for name in (*PLAIN, "tlbflush"):
        if (element := given.find(name)) is not None:
            found[name] = _switched(element)
    if (element := given.find("spinlocks")) is not None:
        retries = element.get("retries", "")
        found["spinlocks"] = _switched(element) | ({"spinlocks": int(retries)} if retries.isdecimal() else {})
    if (element := given.find("vendor_id")) is not None:
        value = element.get("value")
        found["vendorid"] = _switched(element) | ({"vendorid": value} if value else {})
    if (element := given.find("stimer")) is not None:
        direct = element.find("direct")
        found["synictimer"] = _switched(element) | ({"direct": _switched(direct)} if direct is not None else {})
    return {"hyperv": found} if found else {}


def _switched(element: _Element) -> Obj:
    return {} if element.get("state", "on") == "on" else {"enabled": False}


def flaws(features: Obj) -> Iterator[tuple[str, str, bool]]:
    """Yield (field below ``features``, message, whether it is missing) for what is wrong with values given."""
    given = features.get("hyperv")
    if not isinstance(given, dict):
        return
    if features.get("hypervPassthrough"):
        yield "hypervPassthrough", "hyperv and hypervPassthrough exclude each other; give one", False
    retries = _inner(given, "spinlocks").get("spinlocks")
    if isinstance(retries, int) and retries < LEAST_RETRIES:
        yield "hyperv.spinlocks.spinlocks", f"found {retries}; {LEAST_RETRIES} or more are accepted", False
    if _on(given, "vendorid") and not _VENDOR.fullmatch(str(_inner(given, "vendorid").get("vendorid") or "")):
        yield "hyperv.vendorid.vendorid", "1 to 12 printable characters are wanted, no comma", False
    for needy, needed in NEEDS:
        if _on(given, needy) and not _on(given, needed):
            yield f"hyperv.{needed}", f"required by {needy}", True


def _inner(given: Obj, name: str) -> Obj:
    value = given.get(name)
    return value if isinstance(value, dict) else {}


def _on(given: Obj, name: str) -> bool:
    return given.get(name) is not None and _inner(given, name).get("enabled") is not False
