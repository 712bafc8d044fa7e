"""Admission inside the embedded API server: the same functions as a webhook's, over the stored configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polyvisor.admission import AdmissionContext, admit, guards
from polyvisor.admission.endpoints import still_there
from polyvisor.api import Obj, Problem, names
from polyvisor.api.endpoint_names import on_endpoint
from polyvisor.api.reading import nested
from polyvisor.api.resources import ENDPOINTS, KUBEVIRTS, PODS, VMIS, Resource
from polyvisor.drivers import DriverRegistry
from polyvisor.standalone.apiserver.auth import CURRENT_USER
from polyvisor.standalone.apiserver.registry import key_of, kind_of
from polyvisor.standalone.apiserver.store import Store

COMPONENTS = "polyvisor:components"
"""The user that this process's own parts are; its token is in memory alone."""
Admit = Callable[[str, Resource, Obj, Obj | None], tuple[Obj, Sequence[Problem], Sequence[str]]]


def admitter(store: Store, drivers: DriverRegistry) -> Admit:
    """Return what the API server calls for each write. The configuration is read each time, as it may change."""

    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        return store.get(*key_of(resource, namespace, name))

    def decide(
        operation: str, resource: Resource, obj: Obj, old: Obj | None
    ) -> tuple[Obj, Sequence[Problem], Sequence[str]]:
        kubevirt = store.get(*key_of(KUBEVIRTS, names.KUBEVIRT_NAMESPACE, names.KUBEVIRT_NAME)) or {}
        context = AdmissionContext(nested(kubevirt, "spec").get("configuration") or {}, drivers, lookup)
        guarded: list[Problem] = []
        if operation != "DELETE" and not _ours(CURRENT_USER.get()):
            if resource == VMIS:
                obj = guards.with_old_status(obj, old)
            elif resource == PODS:
                guarded = guards.pod_problems(obj, old)
        if operation == "DELETE" and resource == ENDPOINTS and old is not None:
            name = old["metadata"]["name"]
            guarded = still_there(name, [one for one in store.select(kind_of(VMIS)) if on_endpoint(one) == name])
        found = admit(operation, resource, obj, old, context)  # type: ignore[arg-type]
        return found.obj, [*guarded, *found.problems, *_accounts(found.obj)], found.warnings

    return decide


def may_write_status(user: str, resource: Resource) -> bool:
    """Whether a user may write the status of a kind by its subresource."""
    return _ours(user) or guards.may_write_status(resource)


def _ours(user: str) -> bool:
    return user in ("", COMPONENTS)


def _accounts(obj: Obj) -> list[Problem]:
    """Refuse service accounts, of which there are none without a cluster."""
    spec, path = obj.get("spec") or {}, "spec"
    if "template" in spec:
        spec, path = (spec["template"] or {}).get("spec") or {}, "spec.template.spec"
    message = "there are no service accounts in standalone mode, only in a cluster; use a secret volume"
    return [
        Problem(f"{path}.volumes[{number}].serviceAccount", message, "FieldValueNotSupported")
        for number, volume in enumerate(spec.get("volumes") or [])
        if isinstance(volume, dict) and "serviceAccount" in volume
    ]
