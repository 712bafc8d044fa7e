"""What a machine refers to that its writer has to have a right on, because others act on it with rights of their own.

A service account's token is put into the guest, and its rights decide what may be copied: whoever names one, or changes
a machine that has one, has to be able to use it otherwise, by a Pod or by asking for a token. A network of another
namespace and a ControllerRevision that is named have to be readable for who names them. Our own components are not
asked.

What isn't obvious: networks of namespace ``default`` are everybody's, as they are to Multus.
"""

from __future__ import annotations

from collections.abc import Iterator

from polyvisor.admission import endpoint_rights, pod_networks
from polyvisor.admission.context import Access, Requester
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj
from polyvisor.api.names import CREATED_BY_LABEL, NODE_NAME_LABEL, NODE_SCHEDULABLE_LABEL
from polyvisor.api.resources import NETWORK_ATTACHMENTS

SHARED_NAMESPACE = "default"
RESERVED_LABELS = (
    CREATED_BY_LABEL,
    NODE_NAME_LABEL,
    NODE_SCHEDULABLE_LABEL,
    "kubevirt.io/migrationJobUID",
    "kubevirt.io/migrationTargetNodeName",
    "kubevirt.io/install-strategy",
)
Need = tuple[tuple[Access, ...], str]
"""Rights of which one is enough, and what to say where the writer has none of them."""


def validate(obj: Obj, old: Obj | None, requester: Requester, found: Findings) -> None:
    """Refuse references that the writer adds and has no right on."""
    if requester.ours:
        return
    _labels(obj, old, found)
    _unreadable(obj, found)
    before = {need for _, need in _needs(old)} if old is not None else set()
    if old is not None and machine_of(obj) != machine_of(old):
        before = {need for need in before if need[0][0].resource != "pods"}
    for path, (accesses, message) in _needs(obj):
        if (accesses, message) not in before and not any(requester.may(access) for access in accesses):
            found.add(path, f"{message}; user {requester.name[:100]!r} may not", "FieldValueForbidden")


def _labels(obj: Obj, old: Obj | None, found: Findings) -> None:
    """Refuse labels that say of a machine where it is and whose; they are the components' to set, as in KubeVirt."""
    place = ("spec", "template", "metadata") if "template" in mapping(obj, "spec") else ("metadata",)
    new, before = mapping(obj, *place, "labels"), mapping(old, *place, "labels")
    for name in RESERVED_LABELS:
        if new.get(name) != before.get(name):
            message = f"reserved for Polyvisor's components; leave it as it is, {before.get(name, 'absent')!r}"
            found.add(f"{'.'.join(place)}.labels[{name}]", message, "FieldValueNotSupported")


def _unreadable(obj: Obj, found: Findings) -> None:
    """Refuse networks that cannot be looked at, since Multus may read them otherwise."""
    for where, _, name in pod_networks.asked(obj, ""):
        if not name:
            message = f"expected at most {pod_networks.MAX_NETWORKS} networks as Multus reads them: NAMESPACE/NAME, "
            found.add(where, f"{message}separated by commas, or a JSON list of objects with name and namespace")


def machine_of(obj: Obj) -> Obj:
    """Return what a machine is, without whether it shall run."""
    return {key: value for key, value in mapping(obj, "spec").items() if key not in ("running", "runStrategy")}


def _needs(obj: Obj) -> Iterator[tuple[str, Need]]:
    namespace = text(mapping(obj, "metadata").get("namespace"))
    spec, path = mapping(obj, "spec"), "spec"
    for kind in ("instancetype", "preference"):
        if name := text(mapping(spec, kind).get("revisionName")):
            access = Access("get", "apps", "controllerrevisions", namespace, name)
            yield f"spec.{kind}.revisionName", ((access,), f"ControllerRevision {name} has to be readable")
    if "template" in spec:
        spec, path = mapping(spec, "template", "spec"), "spec.template.spec"
    for where, volume in items(spec.get("volumes"), f"{path}.volumes"):
        if name := text(mapping(volume, "serviceAccount").get("serviceAccountName")):
            token = Access("create", "", "serviceaccounts", namespace, name, "token")
            accesses = (Access("create", "", "pods", namespace), token)
            message = (
                f"service account {name} may be given to a machine by who may use it in a Pod or ask for its token"
            )
            yield f"{where}.serviceAccount.serviceAccountName", (accesses, message)
    for where, network in items(spec.get("networks"), f"{path}.networks"):
        space, slash, name = text(mapping(network, "multus").get("networkName")).rpartition("/")
        if slash and space not in (namespace, SHARED_NAMESPACE):
            yield f"{where}.multus.networkName", _network(space, name)
    for where, space, name in pod_networks.asked(obj, namespace):
        if name and space not in (namespace, SHARED_NAMESPACE):
            yield where, _network(space, name)
    yield from endpoint_rights.needs(obj)


def _network(space: str, name: str) -> Need:
    access = Access("get", NETWORK_ATTACHMENTS.group, NETWORK_ATTACHMENTS.plural, space, name)
    return (access,), f"NetworkAttachmentDefinition {space}/{name} of another namespace has to be readable"
