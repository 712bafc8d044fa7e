"""A machine that names an endpoint: whether it may, and what its driver can do there.

The endpoint's URI decides the driver, so a machine may leave it open. Its namespaces are the administrator's choice:
without one nobody may use the endpoint. Where no other object can be looked up, as in ``explain`` without a cluster,
the name is not checked.
"""

from __future__ import annotations

from dataclasses import replace

from polyvisor.admission.context import AdmissionContext, nothing
from polyvisor.admission.values import Findings, mapping, text, texts
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import allows
from polyvisor.api.resources import ENDPOINTS, NAMESPACES
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.at_endpoint import NO_AGENT, all_at_endpoints, at_endpoint, by_agent
from polyvisor.drivers.base import Driver
from polyvisor.drivers.uris import driver_of, parse

POD_NETWORK = "pod"


def named(spec: Obj) -> str:
    """Return the endpoint that a machine names."""
    return text(mapping(spec, "hypervisor").get("endpoint"))


def at(spec: Obj, context: AdmissionContext) -> tuple[AdmissionContext, Obj | None]:
    """Return the context in which a machine is judged, and the endpoint that it names, if there is one."""
    name = named(spec)
    if not name:
        return context, None
    endpoint = context.lookup(ENDPOINTS, "", name)
    driver = _driver(endpoint, context.drivers) if endpoint is not None else None
    if driver is None:
        return replace(context, drivers=all_at_endpoints(context.drivers)), endpoint
    only = {**context.configuration, "hypervisors": [{"name": driver.name}]}
    return replace(context, drivers=DriverRegistry([at_endpoint(driver)]), config=only), endpoint


def validate(spec: Obj, path: str, namespace: str, context: AdmissionContext, found: Findings) -> None:
    """Check that the endpoint which a machine names is there, is for its namespace, and has a driver that it allows."""
    name, where = named(spec), f"{path}.hypervisor.endpoint"
    if not name or context.lookup is nothing:
        return
    endpoint = context.lookup(ENDPOINTS, "", name)
    if endpoint is None:
        message = f"there is no HypervisorEndpoint {name[:64]!r}; `polyvisor endpoint list` shows those that there are"
        found.add(where, message, "FieldValueNotFound")
        return
    if mapping(endpoint, "spec").get("management") == "Observe":
        message = f"endpoint {name} is only observed (spec.management is Observe); nothing is created there"
        found.add(where, message, "FieldValueForbidden")
    if not allows(endpoint, context.lookup(NAMESPACES, "", namespace) or {}):
        message = (
            f"namespace {namespace} may not use endpoint {name}; an administrator allows namespaces by their labels in "
            "spec.allowedNamespaces.selector of the endpoint"
        )
        found.add(where, message, "FieldValueForbidden")
    driver = _driver(endpoint, context.drivers)
    if driver is None:
        found.add(where, f"the driver of endpoint {name} is not installed", "FieldValueNotSupported")
        return
    if not (driver.keeps_metadata or driver.keeps_description):
        message = (
            f"libvirt keeps neither metadata nor description of a domain of {driver.title}, so none can be marked as "
            f"this installation's; machines cannot be created on endpoint {name}, its domains are listed alone"
        )
        found.add(where, message, "FieldValueNotSupported")
    for field in by_agent(spec):
        found.add(f"{path}.{field}", NO_AGENT, "FieldValueNotSupported")
    choice = mapping(spec, "hypervisor")
    wanted = [text(choice["driver"])] if text(choice.get("driver")) else texts(choice.get("anyOf"))
    if wanted and driver.name not in wanted:
        message = f"endpoint {name} runs {driver.name}, and the machine asks for {' or '.join(wanted[:8])}"
        found.add(where, message)


def maps_pod_network(endpoint: Obj | None) -> bool:
    """Whether machines on an endpoint have the Pod's network: if the endpoint says which network of the host it is."""
    networks = mapping(endpoint, "spec").get("networks")
    return any(one.get("name") == POD_NETWORK for one in networks if isinstance(one, dict)) if networks else False


def _driver(endpoint: Obj, drivers: DriverRegistry) -> Driver | None:
    uri, _ = parse(text(mapping(endpoint, "spec").get("uri")), drivers)
    pair = driver_of(uri.scheme, drivers) if uri else None
    return pair[0] if pair else None
