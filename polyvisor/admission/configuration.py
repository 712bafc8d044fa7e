"""Rules for the KubeVirt object: which drivers the cluster enables."""

from __future__ import annotations

from polyvisor.admission.hypervisor import by_name_or_alias
from polyvisor.admission.paths import image_error
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj, nearest
from polyvisor.drivers import DriverRegistry


def effective(configuration: Obj, drivers: DriverRegistry) -> Obj:
    """Return a cluster's configuration with the drivers that hold where the administrator lists none."""
    if configuration.get("hypervisors"):
        return configuration
    return {**configuration, "hypervisors": [{"name": one.name} for one in drivers if one.enabled_by_default]}


def validate(kubevirt: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Check the configuration of the cluster."""
    path = "spec.configuration.hypervisors"
    listed = mapping(kubevirt, "spec", "configuration").get("hypervisors")
    known = [*drivers.names(), *(alias for driver in drivers for alias in driver.aliases)]
    seen: dict[str, str] = {}
    for where, item in items(listed, path):
        name = text(item.get("name"))
        if not name:
            found.required(f"{where}.name", f"required; known: {', '.join(known)}")
        elif by_name_or_alias(name, drivers) is None:
            near = nearest(name, known) if len(name) < 64 else ""
            hint = f"; did you mean {near}?" if near else ""
            message = f"no driver has the name {name[:64]!r}; known: {', '.join(known)}{hint}"
            found.add(f"{where}.name", message, "FieldValueNotSupported")
        elif seen.setdefault(name, where) != where:
            found.duplicate(f"{where}.name", f"{name} is {seen[name]} already")
        image = text(item.get("launcherImage"))
        if image and (error := image_error(image)):
            found.add(f"{where}.launcherImage", error)
