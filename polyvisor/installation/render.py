"""The chart as a list of objects, in the order in which they can be applied."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable
from importlib import resources
from typing import Any

import yaml

from polyvisor.api import Obj, names
from polyvisor.api import cluster_resources as cluster
from polyvisor.api.resources import CONFIGMAPS, CRDS, NAMESPACES, RESOURCES, SECRETS, Resource
from polyvisor.api.schema import crd
from polyvisor.installation.template import render as render_template

CHART = resources.files(__package__) / "chart"
CLUSTER = tuple(one for one in vars(cluster).values() if isinstance(one, Resource))
KINDS = {(one.api_version, one.kind): one for one in (*RESOURCES, *CLUSTER)}
ORDER = (
    NAMESPACES.kind,
    CRDS.kind,
    cluster.PRIORITY_CLASSES.kind,
    cluster.CSI_DRIVERS.kind,
    cluster.SERVICE_ACCOUNTS.kind,
    cluster.CLUSTER_ROLES.kind,
    cluster.CLUSTER_ROLE_BINDINGS.kind,
    cluster.ROLES.kind,
    cluster.ROLE_BINDINGS.kind,
    cluster.ADMISSION_POLICIES.kind,
    cluster.ADMISSION_POLICY_BINDINGS.kind,
    cluster.NETWORK_POLICIES.kind,
    cluster.SERVICES.kind,
    SECRETS.kind,
    cluster.DISRUPTION_BUDGETS.kind,
    cluster.DEPLOYMENTS.kind,
    cluster.DAEMON_SETS.kind,
    cluster.MUTATING_WEBHOOKS.kind,
    cluster.VALIDATING_WEBHOOKS.kind,
    cluster.API_SERVICES.kind,
    CONFIGMAPS.kind,
    "KubeVirt",
    cluster.SERVICE_MONITORS.kind,
    cluster.PROMETHEUS_RULES.kind,
)
OWN_NAMESPACE = f"{names.HYPERVISOR_PREFIX}made-by-install"
"""On a namespace: the installation made it, so it goes with the installation."""


class ValuesError(Exception):
    """A value that was given is none of the chart's."""


def resource_of(obj: Obj) -> Resource:
    """Return how an object of the chart is addressed."""
    return KINDS[(obj["apiVersion"], obj["kind"])]


def defaults() -> Obj:
    """Return the chart's values."""
    found: Obj = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def merged(values: Obj, given: Obj, at: str = "") -> Obj:
    """Return values with some of them given; raise :class:`ValuesError` for a name that the chart does not have."""
    result = copy.deepcopy(values)
    for key, value in given.items():
        path = f"{at}.{key}" if at else key
        if key not in values:
            raise ValuesError(f"{path}: the chart has no such value; there are {', '.join(sorted(values))}")
        known = values[key]
        if isinstance(known, dict) and known and isinstance(value, dict) and not _free(path):
            result[key] = merged(known, value, path)
        elif known is not None and value is not None and type(known) is not type(value):
            raise ValuesError(f"{path}: {value!r} is given, of the kind of {known!r} is wanted")
        else:
            result[key] = value
    return result


def _free(path: str) -> bool:
    """Whether a value is handed on as it is, so that it may have any keys."""
    return path == "configuration" or path.rpartition(".")[2] in ("resources", "nodeSelector")


def assignment(text: str) -> Obj:
    """Read ``name.of.value=yaml``."""
    name, found, value = text.partition("=")
    if not found or not all(name.split(".")):
        raise ValuesError(f"{text!r} is not name=value")
    try:
        result: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValuesError(f"{name}: {value!r} is not YAML") from error
    for part in reversed(name.split(".")):
        result = {part: result}
    assert isinstance(result, dict)
    return result


def manifests(namespace: str = names.KUBEVIRT_NAMESPACE, given: Iterable[Obj] = ()) -> list[Obj]:
    """Return all objects of an installation."""
    values = defaults()
    for one in given:
        values = merged(values, one)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    scope = {
        "Values": values,
        "Release": {"Namespace": namespace, "Name": "polyvisor"},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
    }
    found = [_namespace(namespace), *(crd(resource) for resource in RESOURCES if resource.custom)]
    for template in sorted((CHART / "templates").iterdir(), key=lambda one: one.name):
        for obj in yaml.safe_load_all(io.StringIO(render_template(template.read_text(), scope))):
            if obj:
                found.append(obj)
    return sorted(found, key=lambda obj: ORDER.index(obj["kind"]))


def _namespace(name: str) -> Obj:
    labels = {names.PART_OF_LABEL: names.MANAGER, "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out."""
        return True


def to_yaml(objects: Iterable[Obj]) -> str:
    """Return manifests as one YAML stream."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True)
