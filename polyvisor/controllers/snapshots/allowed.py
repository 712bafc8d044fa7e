"""Whether a virtual machine can be snapshotted where it runs: the drivers' table, asked before anything is begun.

What is stopped can be snapshotted whatever its driver, and so can what a CSI driver makes snapshots of. Where the node
itself copies the claims, a guest that runs has to stand still meanwhile, with everything written that it wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.reading import chosen_hypervisor, nested
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import ProbeResult
from polyvisor.drivers.verdict import answer_of, may_support, supports_on

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.drivers import DriverRegistry

FEATURE = "lifecycle.snapshot"
AT_ENDPOINT = (
    "a virtual machine on an endpoint cannot be snapshotted in this release; its disks are volumes of the host, whose "
    "own tools can"
)


def why_not(vm: Obj, vmi: Obj | None, drivers: DriverRegistry, *, by_node: bool) -> str:
    """Return why a machine cannot be snapshotted now, empty if it can; ``by_node``: its node copies the claims."""
    if nested(vm, "spec", "template", "spec", "hypervisor").get("endpoint"):
        return AT_ENDPOINT
    chosen = chosen_hypervisor(vmi or {})
    driver = drivers.get(str(chosen.get("driver")))
    if vmi is None or driver is None or not by_node:
        return ""
    if chosen.get("endpoint"):
        driver = at_endpoint(driver)
    versions = ProbeResult(
        True, version=str(chosen.get("version") or ""), libvirt_version=str(chosen.get("libvirtVersion") or "")
    )
    if supports_on(driver, FEATURE, versions, str(chosen.get("virtType"))):
        return ""
    others = [f"{one.title} ({one.name})" for one in drivers if one.name != driver.name and may_support(one, FEATURE)]
    able = f"drivers that can: {', '.join(others)}" if others else "no driver can in this release"
    reason = answer_of(driver, FEATURE).reason
    return f"{driver.title} cannot be snapshotted while it runs: {reason}; stop the virtual machine; {able}"
