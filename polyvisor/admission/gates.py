"""What an administrator has to switch on, as KubeVirt's feature gates do, before users of a cluster may ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.values import Findings, items, mapping, texts
from polyvisor.api import Obj

HOST_DISK = "HostDisk"
MAX_GATE = 64
"""Characters of a gate's name in a warning."""
WHERE = "spec.configuration.developerConfiguration.featureGates of the KubeVirt object"


def validate(obj: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Refuse what is switched off; what a stored object has already stays."""
    if not context.cluster:
        return
    for gate, asked in GATES.items():
        if _on(context.configuration, gate):
            continue
        before = set(asked(old).values()) if old is not None else set()
        for path, name in asked(obj).items():
            if name not in before:
                message = f"feature gate {gate} is not enabled; an administrator enables it in {WHERE}"
                found.add(path, message, "FieldValueForbidden")


def idle(kubevirt: Obj) -> list[str]:
    """Return the feature gates of a KubeVirt object that switch nothing here, by path and name."""
    settings = mapping(kubevirt, "spec", "configuration", "developerConfiguration")
    path = "spec.configuration.developerConfiguration.featureGates"
    return [f"{path} {gate[:MAX_GATE]}" for gate in texts(settings.get("featureGates")) if gate not in GATES]


def _on(configuration: Obj, gate: str) -> bool:
    return gate in texts(mapping(configuration, "developerConfiguration").get("featureGates"))


def _spec(obj: Obj) -> tuple[Obj, str]:
    spec = mapping(obj, "spec")
    return (mapping(spec, "template", "spec"), "spec.template.spec") if "template" in spec else (spec, "spec")


def _host_disks(obj: Obj) -> dict[str, str]:
    """Return which volumes are files of the node: their fields, and what they are."""
    spec, path = _spec(obj)
    volumes = items(spec.get("volumes"), f"{path}.volumes")
    return {f"{where}.hostDisk": str(one["hostDisk"]) for where, one in volumes if one.get("hostDisk") is not None}


def _metrics(obj: Obj) -> dict[str, str]:
    """Return by which fields a guest asks for metrics of its node."""
    spec, path = _spec(obj)
    volumes = items(spec.get("volumes"), f"{path}.volumes")
    found = {f"{where}.downwardMetrics": "disk" for where, one in volumes if one.get("downwardMetrics") is not None}
    if mapping(spec, "domain", "devices").get("downwardMetrics") is not None:
        found[f"{path}.domain.devices.downwardMetrics"] = "channel"
    return found


GATES: Mapping[str, Callable[[Obj], dict[str, str]]] = {HOST_DISK: _host_disks, "DownwardMetrics": _metrics}
"""Gates that switch something here, and the fields that each opens, with what is asked for."""
