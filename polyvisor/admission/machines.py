"""What admission does for machines: VirtualMachine and VirtualMachineInstance.

A VirtualMachine is stored nearly as it was written; its template is checked as the instance that it will become, with
that instance's defaults. A VirtualMachineInstance is stored with its defaults, and its spec never changes again. An
update that leaves the spec alone is not held to today's rules, so that an object admitted by an older release can
still be labelled, finished and deleted.
"""

from __future__ import annotations

import copy

from polyvisor.admission import (
    access,
    architecture,
    datavolumes,
    defaults,
    endpoint_choice,
    hardware,
    hotplug,
    hypervisor,
    in_progress,
    instancetypes,
    namespaces,
    network,
    platform,
    probes,
    scheduling,
    storage,
)
from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.updates import warn_of_restart
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj, VirtualMachine, VirtualMachineInstance, adopted, check
from polyvisor.api.metadata import check_metadata, dns_subdomain_error
from polyvisor.api.names import RunStrategy
from polyvisor.api.volumes import claim_of

UNREAD = {
    "hooks.kubevirt.io/hookSidecars": "hooks that change the domain are not implemented by Polyvisor",
    "kubevirt.io/ignitiondata": "Ignition is not implemented by Polyvisor; use cloud-init",
}
GRACE = "terminationGracePeriodSeconds"
MEMORY = "spec.template.spec.domain.memory.guest"
RUN_STRATEGIES = tuple(str(s) for s in RunStrategy if s is not RunStrategy.WAIT_AS_RECEIVER)


def admit_machine(vm: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Fill in and check a VirtualMachine."""
    if old is not None:
        _keep_identity(vm, old)
    if old is None:
        defaults.new_machine(vm)
    defaults.machine(vm)
    _deletion_policy(vm, found)
    if old is not None and vm.get("spec") == old.get("spec"):
        found.problems += check_metadata(vm.get("metadata"))
        return
    found.problems += check(VirtualMachine, vm)
    if old is not None:
        in_progress.validate(vm, old, found)
    spec = mapping(vm, "spec")
    _run_strategy(spec, found)
    _data_volumes(spec, found)
    template = spec.get("template")
    if not isinstance(template, dict):
        return
    inferred = instancetypes.infer(vm, context.lookup, found)
    expansion = instancetypes.expand(vm, mapping(old, "status"), context.lookup, found) if inferred else None
    if expansion and (preference := expansion.sources.get("preference")):
        instancetypes.fill_templates(preference.spec, vm)
    expanded = Findings(warnings=found.warnings)
    validate_template(vm, context, expanded, expansion)
    _leave_to_instance(expanded)
    found.problems += [expansion.explained(one) for one in expanded.problems] if expansion else expanded.problems
    if old is not None:
        warn_of_restart(vm, old, context.configuration, context.drivers, found)


def _deletion_policy(vm: Obj, found: Findings) -> None:
    """Refuse a policy that has no effect: on a node a domain ends with its Pod."""
    annotations, name = mapping(vm, "metadata", "annotations"), adopted.DELETION_POLICY_ANNOTATION
    if name not in annotations:
        return
    path = f"metadata.annotations[{name}]"
    if annotations[name] != adopted.RETAIN:
        message = f"found {text(annotations[name])[:64]!r}; accepted: {adopted.RETAIN}, or no such annotation"
        found.add(path, message, "FieldValueNotSupported")
    elif not endpoint_choice.named(mapping(vm, "spec", "template", "spec")):
        message = "only a machine on an endpoint (spec.template.spec.hypervisor.endpoint) can be outlived by its domain"
        found.add(path, message, "FieldValueForbidden")


def _leave_to_instance(found: Findings) -> None:
    """Warn alone of a machine without a memory size: as with KubeVirt it is its instance that is refused."""
    missing = [one for one in found.problems if (one.field, one.reason) == (MEMORY, "FieldValueRequired")]
    for problem in missing:
        found.problems.remove(problem)
        found.warnings.append(f"{problem}; without it no instance can be made")


def validate_template(
    owner: Obj, context: AdmissionContext, found: Findings, expansion: instancetypes.Expansion | None
) -> None:
    """Check the ``spec.template`` of an object as the instance that will be made from it, with its defaults.

    Without an expansion what it refers to is not known, and the instance cannot be judged.
    """
    template = mapping(owner, "spec", "template")
    found.problems += check_metadata(template.get("metadata"), "spec.template.metadata")
    _annotations(template, "spec.template.metadata", found)
    if template.get("spec") is None:
        found.required("spec.template.spec", "required; the machine's hardware")
    if isinstance(template.get("spec"), dict) and expansion is not None:
        instance, path, namespace = copy.deepcopy(expansion.spec), "spec.template.spec", _namespace(owner)
        given = namespaces.give(instance, namespace, context)
        _complete(instance, path, context, found)
        _validate(instance, path, context, found, given, namespace)


def admit_instance(vmi: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Fill in and check a VirtualMachineInstance."""
    spec = vmi.get("spec")
    if old is not None and spec == old.get("spec"):
        found.problems += check_metadata(vmi.get("metadata"))
        return
    strict = check(VirtualMachineInstance, vmi)
    findings = Findings()
    if old is None:
        defaults.instance(vmi)
    given, namespace = "", _namespace(vmi)
    if isinstance(spec, dict):
        given = namespaces.give(spec, namespace, context)
        _complete(spec, "spec", context, findings)
        if old is None or mapping(old, "spec", "domain", "resources", "requests").get("memory"):
            defaults.memory_request(spec)  # an instance of before that has none gets none
    if old is not None and isinstance(spec, dict) and hotplug.may_change(spec, mapping(old, "spec")):
        found.problems += strict
        running = context.drivers.get(text(mapping(old, "status", "hypervisor").get("driver")))
        hotplug.validate(spec, mapping(old, "spec"), running, "spec", found, context.drivers)
        _validate(spec, "spec", context, found, given, namespace)
        return
    if old is not None:
        if _without_grace(spec) != _without_grace(old.get("spec")):
            message = (
                "an instance cannot be changed; change the VirtualMachine and restart it, or create a new instance"
            )
            found.add("spec", message, "FieldValueForbidden")
        elif isinstance(spec, dict) and spec != old.get("spec"):
            found.problems += strict
            scheduling.validate(spec, "spec", found)
        return
    found.problems += strict
    _annotations(vmi, "metadata", found)
    found.warnings += findings.warnings
    if isinstance(spec, dict):
        _validate(spec, "spec", context, found, given, namespace)


def _without_grace(spec: object) -> object:
    """Return the spec without the one field that may be changed: a stop can be asked for with a time of its own."""
    return {key: value for key, value in spec.items() if key != GRACE} if isinstance(spec, dict) else spec


def _namespace(obj: Obj) -> str:
    return text(mapping(obj, "metadata").get("namespace"))


def _validate(spec: Obj, path: str, context: AdmissionContext, found: Findings, given: str, namespace: str) -> None:
    """Apply all rules; ``given`` is where the hypervisor comes from, if from the namespace."""
    own = Findings(warnings=found.warnings)
    if given:
        own.warnings.append(namespaces.told(spec, given, path, namespace))
    endpoint_choice.validate(spec, path, namespace, context, own)
    validate_spec(spec, path, context, own)
    found.problems += [namespaces.explained(problem, given, path, namespace) for problem in own.problems]


def _annotations(obj: Obj, path: str, found: Findings) -> None:
    """Refuse KubeVirt's annotations that would change the machine and that nothing here reads."""
    for name in mapping(obj, "metadata", "annotations"):
        if name in UNREAD:
            found.add(f"{path}.annotations[{name}]", UNREAD[name], "FieldValueNotSupported")


def validate_spec(spec: Obj, path: str, context: AdmissionContext, found: Findings) -> None:
    """Apply all rules to the spec of an instance that stands at ``path``."""
    hardware.validate(spec, path, found)
    platform.validate(spec, path, found)
    architecture.validate(spec, path, context.configuration, found)
    storage.validate(spec, path, found)
    network.validate(spec, path, found)
    scheduling.validate(spec, path, found)
    probes.validate(spec, path, found)
    access.validate(spec, path, found)
    there, endpoint = endpoint_choice.at(spec, context)
    if endpoint is not None:  # what else the machine's choice may say is settled: the endpoint has one driver
        hypervisor.validate_choice(mapping(spec, "hypervisor"), f"{path}.hypervisor", context.drivers, found)
        spec = {**spec, "hypervisor": {"virtType": mapping(spec, "hypervisor").get("virtType")}}
    hypervisor.validate(spec, path, there.configuration, there.drivers, found)


def _complete(spec: Obj, path: str, context: AdmissionContext, found: Findings) -> None:
    """Fill in the spec of an instance; join the Pod's network where a driver that may run the machine can."""
    there, endpoint = endpoint_choice.at(spec, context)
    configuration, drivers = there.configuration, there.drivers
    architecture.fill(spec, configuration, drivers)
    defaults.instance_spec(spec, configuration)
    joined = copy.deepcopy(spec)
    if not defaults.pod_network(joined):
        return
    if endpoint is not None and not endpoint_choice.maps_pod_network(endpoint):
        found.warnings.append(
            f"{path}.networks: the endpoint maps no network {endpoint_choice.POD_NETWORK!r}; the machine has none"
        )
        return
    if hypervisor.usable(joined, configuration, drivers, "network.pod"):
        defaults.pod_network(spec)
    elif hypervisor.usable(joined, configuration, drivers):
        message = "the machine has no network, because its driver has one on some nodes only; name it here to have it"
        found.warnings.append(f"{path}.networks: {message}")
    elif hypervisor.usable(spec, configuration, drivers):
        found.warnings.append(f"{path}.networks: no allowed driver can join the Pod's network; the machine has none")


def _run_strategy(spec: Obj, found: Findings) -> None:
    running, strategy = spec.get("running"), text(spec.get("runStrategy"))
    accepted = ", ".join(RUN_STRATEGIES)
    if running is not None and strategy:
        message = "running and runStrategy exclude each other; keep runStrategy"
        found.add("spec.running", message, "FieldValueForbidden")
    elif running is None and not spec.get("runStrategy"):
        found.required("spec.runStrategy", f"required; one of {accepted}")
    elif running is not None:
        found.warnings.append("spec.running is deprecated; use spec.runStrategy")
    if strategy == RunStrategy.WAIT_AS_RECEIVER:
        message = f"KubeVirt's {strategy} is not implemented by Polyvisor yet; accepted: {accepted}"
        found.add("spec.runStrategy", message, "FieldValueNotSupported")


def _data_volumes(spec: Obj, found: Findings) -> None:
    """Check the templates of DataVolumes, each of which one of the machine's volumes has to use."""
    used = {claim_of(volume) for _, volume in items(mapping(spec, "template", "spec").get("volumes"), "")}
    seen: set[str] = set()
    for path, template in items(spec.get("dataVolumeTemplates"), "spec.dataVolumeTemplates"):
        name = text(mapping(template, "metadata").get("name"))
        where = f"{path}.metadata.name"
        if error := dns_subdomain_error(name) if name else "required; the name of the DataVolume":
            found.add(where, error)
        elif name in seen:
            found.duplicate(where, f"{name!r} is the name of another template already")
        elif name not in used:
            found.add(where, f"no volume of spec.template.spec.volumes uses the DataVolume {name!r}")
        seen.add(name)
        datavolumes.validate_spec(mapping(template, "spec"), f"{path}.spec", found)


def _keep_identity(vm: Obj, old: Obj) -> None:
    """Carry the generated firmware UUID over to an update that was written without it."""
    kept = mapping(old, "spec", "template", "spec", "domain", "firmware").get("uuid")
    domain = mapping(vm, "spec", "template", "spec", "domain")
    if not kept or not domain:
        return
    if domain.get("firmware") is None:
        domain["firmware"] = {}
    if isinstance(domain["firmware"], dict) and not domain["firmware"].get("uuid"):
        domain["firmware"]["uuid"] = kept
