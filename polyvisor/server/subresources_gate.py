"""What may be done to a machine by the driver that it runs on: the drivers' table, asked when a user acts.

Admission asks the table for what a manifest wants; what is done to a running machine is no field of it, so it is asked
here. A refusal says why, in the table's own words, and which drivers could.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polyvisor.api.reading import read_status
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import Driver, ProbeResult
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.verdict import answer_of, may_support, supports_on
from polyvisor.server.errors import GROUP, Refusal

Obj = dict[str, Any]

FEATURES = {
    "pause": "lifecycle.pause",
    "unpause": "lifecycle.pause",
    "softreboot": "lifecycle.reboot",
    "reset": "lifecycle.reset",
    "freeze": "lifecycle.guest-agent",
    "unfreeze": "lifecycle.guest-agent",
    "guestosinfo": "lifecycle.guest-agent",
    "userlist": "lifecycle.guest-agent",
    "filesystemlist": "lifecycle.guest-agent",
    "addvolume": "lifecycle.hotplug.disk",
    "removevolume": "lifecycle.hotplug.disk",
    "memorydump": "lifecycle.memory-dump",
    "console": "lifecycle.console",
    "vnc": "lifecycle.vnc",
    "vnc/screenshot": "lifecycle.screenshot",
    "usbredir": "usb-redirection",
}
"""Subresource of a VirtualMachineInstance -> the feature that its driver has to have."""


def check(drivers: DriverRegistry, vmi: Obj, action: str) -> None:
    """Refuse an action that the machine's driver lacks; a machine that has no driver yet is let through."""
    feature = FEATURES.get(action)
    chosen = read_status(vmi).get("hypervisor") or {}
    driver = drivers.get(str(chosen.get("driver")))
    if feature is None or driver is None:
        return
    if chosen.get("endpoint"):
        driver = at_endpoint(driver)
    versions = ProbeResult(
        True, version=str(chosen.get("version") or ""), libvirt_version=str(chosen.get("libvirtVersion") or "")
    )
    if supports_on(driver, feature, versions, str(chosen.get("virtType"))):
        return
    support = answer_of(driver, feature)
    name = vmi["metadata"]["name"]
    others = [f"{other.title} ({other.name})" for other in having(drivers, feature) if other.name != driver.name]
    able = f"drivers that can: {', '.join(others)}" if others else "no driver can in this release"
    needs = f" (it needs {' and '.join(support.needs)})" if support.needs else ""
    message = f"{action} is not possible on {driver.title}: {support.reason}{needs}; {able}"
    cause = {"reason": "FieldValueNotSupported", "message": message, "field": "spec.hypervisor.driver"}
    details = {"name": name, "group": GROUP, "kind": "virtualmachineinstances", "causes": [cause]}
    raise Refusal(400, f'virtualmachineinstances.{GROUP} "{name}": {message}', details)


def having(drivers: Iterable[Driver], feature: str) -> list[Driver]:
    """Return the drivers that have a feature, if only under conditions."""
    assert feature in BY_ID
    return [driver for driver in drivers if may_support(driver, feature)]
