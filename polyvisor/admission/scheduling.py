"""Rules for where a machine may run and how it ends: selectors, affinity, tolerations, spread, grace period, names."""

from __future__ import annotations

from ipaddress import ip_address

from polyvisor.admission.values import Findings, items, mapping, number, text, texts
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_label_error, dns_subdomain_error, label_key_error, label_value_error

MAX_GRACE_PERIOD = 7 * 24 * 3600
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
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
    for key in ("hostname", "subdomain"):
        name = text(spec.get(key))
        if name and (error := dns_label_error(name)):
            found.add(f"{path}.{key}", error)
    _dns(spec, path, found)
    for key in ("priorityClassName", "schedulerName"):
        name = text(spec.get(key))
        if name and (error := dns_subdomain_error(name)):
            found.add(f"{path}.{key}", error)
    for where, toleration in items(spec.get("tolerations"), f"{path}.tolerations"):
        _toleration(toleration, where, found)
    _affinity(mapping(spec, "affinity"), f"{path}.affinity", found)
    _spread(spec, f"{path}.topologySpreadConstraints", found)


def _dns(spec: Obj, path: str, found: Findings) -> None:
    """Check what the launcher Pod's resolver is told, which is what a guest on the Pod's network asks."""
    config, where = mapping(spec, "dnsConfig"), f"{path}.dnsConfig"
    servers, searches = texts(config.get("nameservers")), texts(config.get("searches"))
    if spec.get("dnsPolicy") == "None" and not servers:
        found.required(f"{where}.nameservers", "at least one is wanted with dnsPolicy None")
    if len(servers) > MAX_NAMESERVERS:
        found.add(f"{where}.nameservers", f"found {len(servers)}; at most {MAX_NAMESERVERS} are accepted")
    for index, server in enumerate(servers):
        try:
            ip_address(server)
        except ValueError:
            found.add(f"{where}.nameservers[{index}]", f"{server[:80]!r} is no IP address")
    if len(searches) > MAX_SEARCHES:
        found.add(f"{where}.searches", f"found {len(searches)}; at most {MAX_SEARCHES} are accepted")
    for index, search in enumerate(searches):
        if search != "." and (error := dns_subdomain_error(search.rstrip("."))):
            found.add(f"{where}.searches[{index}]", error)
    for at, option in items(config.get("options"), f"{where}.options"):
        if not option.get("name"):
            found.required(f"{at}.name", "required; an option of a resolver such as ndots")


def _spread(spec: Obj, path: str, found: Findings) -> None:
    seen: set[tuple[str, str]] = set()
    for at, constraint in items(spec.get("topologySpreadConstraints"), path):
        skew, topology = number(constraint.get("maxSkew")), text(constraint.get("topologyKey"))
        if skew is not None and skew < 1:
            found.add(f"{at}.maxSkew", f"found {skew}; 1 or more is accepted")
        if constraint.get("topologyKey") == "":
            found.required(f"{at}.topologyKey", "required; a node label such as kubernetes.io/hostname")
        elif topology and (error := label_key_error(topology)):
            found.add(f"{at}.topologyKey", error)
        domains = number(constraint.get("minDomains"))
        if domains is not None and domains < 1:
            found.add(f"{at}.minDomains", f"found {domains}; 1 or more is accepted")
        elif domains is not None and constraint.get("whenUnsatisfiable") == "ScheduleAnyway":
            found.add(f"{at}.minDomains", "needs whenUnsatisfiable: DoNotSchedule")
        pair = (topology, text(constraint.get("whenUnsatisfiable")))
        if topology and pair in seen:
            found.duplicate(f"{at}.topologyKey", f"there is a constraint for {topology} and {pair[1]} already")
        seen.add(pair)
        labels = mapping(constraint, "labelSelector")
        for where, requirement in items(labels.get("matchExpressions"), f"{at}.labelSelector.matchExpressions"):
            _requirement(requirement, where, found)


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
