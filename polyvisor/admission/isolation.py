"""Who may have machines run by drivers that isolate guests less than a hypervisor does.

In a cluster the writer of a machine needs the right to ``use`` such a driver: ``hypervisors`` of group
``hypervisor.kubevirt.io``, by its name, in the machine's namespace. What the writer may use is recorded on the object
for placement (:mod:`polyvisor.placement.permission`). A change of what the machine is asks again, of whoever makes it.
"""

from __future__ import annotations

from polyvisor.admission.context import Access, AdmissionContext
from polyvisor.admission.hypervisor import enabled
from polyvisor.admission.rights import machine_of
from polyvisor.admission.values import Findings, mapping, text, texts
from polyvisor.api import Obj
from polyvisor.drivers.isolation import isolated, told
from polyvisor.placement.permission import record, recorded

GROUP, RESOURCE, VERB = "hypervisor.kubevirt.io", "hypervisors", "use"


def admit(obj: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Record, in place, which weaker drivers the writer may use; refuse a machine that names no other."""
    requester = context.requester
    if not context.cluster or requester.ours:
        return
    if old is not None and machine_of(obj) == machine_of(old):
        record(obj, recorded(old))
        return
    namespace = text(mapping(obj, "metadata").get("namespace"))
    weak = [driver for driver in enabled(context.configuration, context.drivers) if not isolated(driver)]
    granted = [one.name for one in weak if requester.may(Access(VERB, GROUP, RESOURCE, namespace, one.name))]
    record(obj, granted)
    spec, path = mapping(obj, "spec"), "spec"
    if "template" in spec:
        spec, path = mapping(spec, "template", "spec"), "spec.template.spec"
    choice = mapping(spec, "hypervisor")
    named = [text(choice["driver"])] if text(choice.get("driver")) else texts(choice.get("anyOf"))
    refused = [driver for driver in weak if driver.name in named and driver.name not in granted]
    if named and len(refused) == len(set(named)):
        field = f"{path}.hypervisor.{'driver' if text(choice.get('driver')) else 'anyOf'}"
        why = "; ".join(f"{driver.title}: {told(driver)}" for driver in refused)
        message = (
            f"user {requester.name[:100]!r} may not {VERB} {RESOURCE}.{GROUP}/{refused[0].name} in namespace "
            f"{namespace}, which it takes because guests are isolated less ({why})"
        )
        found.add(field, message, "FieldValueForbidden")
