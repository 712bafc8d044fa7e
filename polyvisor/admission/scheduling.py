"""Rules for where a machine may run and how it ends: selectors, affinity, tolerations, grace period, host name."""

from __future__ import annotations

from polyvisor.admission.values import Findings, items, mapping, number, text, texts
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_label_error, dns_subdomain_error, label_key_error, label_value_error

MAX_GRACE_PERIOD = 7 * 24 * 3600
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check the scheduling part of an instance's spec."""
    for key, value in mapping(spec, "nodeSelector").items():
        where = f"{path}.nodeSelector[{str(key)[:80]}]"
        if error := label_key_error(str(key)) or label_value_error(text(value)):
            found.add(where, error)
    grace = number(spec.get("terminationGracePeriodSeconds"))
    if grace is not None and not 0 <= grace <= MAX_GRACE_PERIOD:
        message = f"found {grace}; 0 to {MAX_GRACE_PERIOD} seconds are accepted"
        found.add(f"{path}.terminationGracePeriodSeconds", message)
    strategy = text(spec.get("evictionStrategy"))
    if strategy in ("LiveMigrate", "External"):
        message = f"KubeVirt's {strategy} is not implemented by Polyvisor yet; accepted: None, LiveMigrateIfPossible"
        found.add(f"{path}.evictionStrategy", message, "FieldValueNotSupported")
    hostname = text(spec.get("hostname"))
    if hostname and (error := dns_label_error(hostname)):
        found.add(f"{path}.hostname", error)
    for key in ("priorityClassName", "schedulerName"):
        name = text(spec.get(key))
        if name and (error := dns_subdomain_error(name)):
            found.add(f"{path}.{key}", error)
    for where, toleration in items(spec.get("tolerations"), f"{path}.tolerations"):
        _toleration(toleration, where, found)
    _affinity(mapping(spec, "affinity"), f"{path}.affinity", found)


def _toleration(toleration: Obj, path: str, found: Findings) -> None:
    key, operator = text(toleration.get("key")), text(toleration.get("operator")) or "Equal"
    if key and (error := label_key_error(key)):
        found.add(f"{path}.key", error)
    if not key and operator != "Exists":
        found.required(f"{path}.key", "required unless the operator is Exists")
    if operator == "Exists" and toleration.get("value"):
        found.add(f"{path}.value", "has no meaning with the operator Exists; leave it out")
    elif operator == "Equal" and (error := label_value_error(text(toleration.get("value")))):
        found.add(f"{path}.value", error)
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        found.add(f"{path}.tolerationSeconds", "needs effect: NoExecute")


def _affinity(affinity: Obj, path: str, found: Findings) -> None:
    node, where = mapping(affinity, "nodeAffinity"), f"{path}.nodeAffinity"
    required = node.get(_REQUIRED)
    if isinstance(required, dict):
        if required.get("nodeSelectorTerms") == []:
            found.required(f"{where}.{_REQUIRED}.nodeSelectorTerms", "at least one term is wanted")
        for at, term in items(required.get("nodeSelectorTerms"), f"{where}.{_REQUIRED}.nodeSelectorTerms"):
            _term(term, at, found)
    for at, preferred in items(node.get(_PREFERRED), f"{where}.{_PREFERRED}"):
        _weight(preferred, at, found)
        _term(mapping(preferred, "preference"), f"{at}.preference", found)
    for kind in ("podAffinity", "podAntiAffinity"):
        pod, where = mapping(affinity, kind), f"{path}.{kind}"
        for at, term in items(pod.get(_REQUIRED), f"{where}.{_REQUIRED}"):
            _pod_term(term, at, found)
        for at, preferred in items(pod.get(_PREFERRED), f"{where}.{_PREFERRED}"):
            _weight(preferred, at, found)
            _pod_term(mapping(preferred, "podAffinityTerm"), f"{at}.podAffinityTerm", found)


def _weight(preferred: Obj, path: str, found: Findings) -> None:
    weight = number(preferred.get("weight"))
    if weight is not None and not 1 <= weight <= 100:
        found.add(f"{path}.weight", f"found {weight}; 1 to 100 are accepted")


def _term(term: Obj, path: str, found: Findings) -> None:
    for kind in ("matchExpressions", "matchFields"):
        for at, requirement in items(term.get(kind), f"{path}.{kind}"):
            _requirement(requirement, at, found)


def _pod_term(term: Obj, path: str, found: Findings) -> None:
    topology = text(term.get("topologyKey"))
    if term.get("topologyKey") == "":
        found.required(f"{path}.topologyKey", "required; a node label such as kubernetes.io/hostname")
    elif topology and (error := label_key_error(topology)):
        found.add(f"{path}.topologyKey", error)
    for selector in ("labelSelector", "namespaceSelector"):
        labels = mapping(term, selector)
        for at, requirement in items(labels.get("matchExpressions"), f"{path}.{selector}.matchExpressions"):
            _requirement(requirement, at, found)


def _requirement(requirement: Obj, path: str, found: Findings) -> None:
    key, operator = text(requirement.get("key")), text(requirement.get("operator"))
    values = texts(requirement.get("values"))
    if key and (error := label_key_error(key)):
        found.add(f"{path}.key", error)
    if operator in ("In", "NotIn") and not values:
        found.required(f"{path}.values", f"at least one value is wanted with the operator {operator}")
    elif operator in ("Exists", "DoesNotExist") and values:
        found.add(f"{path}.values", f"have no meaning with the operator {operator}; leave them out")
    elif operator in ("Gt", "Lt") and (len(values) != 1 or not values[0].lstrip("-").isdecimal()):
        found.add(f"{path}.values", f"one integer, in quotes, is wanted with the operator {operator}")
