"""The launcher Pod of a VirtualMachineInstance, as an object. Pure.

Its shape is KubeVirt's, because tools find machines by it. Its name follows from the machine's uid and the driver, so
that a second Pod for the same purpose is refused by the API server whatever a controller believes. The Pod also
carries the decision (driver and virt type), so that the status can be written again from it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from base64 import b32encode
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor import __version__
from polyvisor.api import names, node_names
from polyvisor.api.consoles import is_logged
from polyvisor.api.host_names import host_name
from polyvisor.api.launcher_pods import DRIVER_ANNOTATION, made_for
from polyvisor.api.migrations import job_of
from polyvisor.api.reading import annotations_of, nested
from polyvisor.api.resources import VMIS
from polyvisor.api.volumes import service_account
from polyvisor.controllers import console_log, pod_networks
from polyvisor.controllers.launcher_resources import guaranteed, resources_of
from polyvisor.controllers.objects import owned_by, owner_reference, uid
from polyvisor.controllers.pod_volumes import RESTRICTED, UNPRIVILEGED, PodStorage, named_storage, pod_storage
from polyvisor.controllers.support_containers import Support, support_resources
from polyvisor.domain.kept import state_claim
from polyvisor.machine import Vcpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyvisor.api import Obj, VirtualMachineInstanceSpec
    from polyvisor.drivers.base import LauncherPlan
    from polyvisor.placement import Placement

VIRT_TYPE_ANNOTATION = f"{names.HYPERVISOR_PREFIX}virt-type"
OFFERED_ANNOTATION = f"{names.HYPERVISOR_PREFIX}chosen-endpoint"
"""The endpoint that was chosen for a machine which names none."""
FOLDER = Path(names.LAUNCHER_FOLDER)
COPIED_FIELDS = (
    "schedulerName",
    "priorityClassName",
    "subdomain",
    "dnsPolicy",
    "dnsConfig",
    "topologySpreadConstraints",
)
FOR_CARDS = ("/dev/net/tun", "/dev/vhost-net")
FOR_VSOCK = "/dev/vhost-vsock"
LAUNCHER_IMAGES = os.environ.get("LAUNCHER_IMAGES", f"localhost/polyvisor/launcher-DRIVER:v{__version__}")
"""Where launchers' images are unless the KubeVirt object says otherwise; an installation gives its own registry."""
PULL_POLICY = os.environ.get("LAUNCHER_PULL_POLICY", "IfNotPresent")
PULL_SECRETS: list[Obj] = json.loads(os.environ.get("LAUNCHER_PULL_SECRETS", "[]"))
"""How launchers' images are pulled unless the KubeVirt object says otherwise."""
FAIL_FAST_ANNOTATION = "kubevirt.io/func-test-virt-launcher-fail-fast"
"""KubeVirt's way to have a launcher end at once, by which its users try what becomes of a machine that never starts."""
FAILING = ["python3", "-c", "raise SystemExit('this launcher was told to fail by an annotation')"]
STAYING: Sequence[Obj] = tuple(
    {"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": "NoExecute"}
    for word in ("not-ready", "unreachable")
)
"""What the Pod of a machine on an endpoint tolerates for ever: its guest runs on, whatever is heard of its agent."""
MAX_NAME = 253
MAX_LABEL = 63
LOOSENING = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "io.kubernetes.cri-o.",
    "cdi.k8s.io/",
)
"""What Pods' annotations of these names may do: take away a container's confinement, or give it devices of its node."""
UNCOPIED_ANNOTATIONS = (
    *("kubectl.kubernetes.io/", "kubevirt.io/latest-observed", "kubevirt.io/storage-observed"),
    *LOOSENING,
)


def pod_name(vmi: Obj, driver: str, job: str = "") -> str:
    """Return the one name that this machine's Pod for this driver can have, or that of a migration by its uid."""
    digest = hashlib.sha256("/".join((uid(vmi), driver, *([job] if job else []))).encode()).digest()
    suffix = b32encode(digest).decode().lower()[:8]
    prefix = names.LAUNCHER_POD_PREFIX + vmi["metadata"]["name"]
    return f"{prefix[: MAX_NAME - len(suffix) - 1].rstrip('.-')}-{suffix}"


def is_launcher(pod: Obj, vmi: Obj) -> bool:
    """Whether a Pod is one that :func:`build_pod` makes for a machine, by all of its marks: an owner alone is not.

    It may be one that the machine is to move into (:mod:`.migration_pod`).
    """
    metadata = pod["metadata"]
    mark = nested(metadata, "labels").get(names.CREATED_BY_LABEL)
    named = metadata["name"] == pod_name(vmi, driver_of(pod)[0], job_of(pod))
    return owned_by(pod, vmi) and mark == uid(vmi) and named


def driver_of(pod: Obj) -> tuple[str, str]:
    """Return the driver and virt type that a launcher Pod was made for."""
    annotations = pod["metadata"].get("annotations") or {}
    return made_for(pod), annotations.get(VIRT_TYPE_ANNOTATION, "")


def tried_with(pod: Obj) -> str:
    """Return the driver that a Pod tries, as ``DRIVER@ENDPOINT`` where the endpoint was chosen for the machine."""
    endpoint = annotations_of(pod).get(OFFERED_ANNOTATION)
    return f"{made_for(pod)}@{endpoint}" if endpoint else made_for(pod)


def build_pod(
    vmi: Obj,
    spec: VirtualMachineInstanceSpec,
    placement: Placement,
    settings: Obj,
    claims: Mapping[str, Obj],
    *,
    cpu_limit: bool = False,
) -> Obj:
    """Return the Pod for a machine as placement decided.

    ``settings`` is the KubeVirt object's spec, ``claims`` are those of the machine's namespace, by name; ``cpu_limit``
    as in :func:`~polyvisor.controllers.launcher_resources.resources_of`.
    """
    config = settings.get("configuration") or {}
    driver = placement.driver
    if driver is None:
        raise ValueError("a Pod needs a driver")
    image = launcher_image(driver.name, placement.launcher_image)
    plan = driver.launcher(FOLDER)
    privileged = plan.privileged and not placement.endpoint
    asked = resources_of(driver, spec, config, cpu_limit=cpu_limit, overhead=not placement.endpoint)
    support = partial(support_resources, config=config, guaranteed=guaranteed(asked))
    # nothing runs in a Pod that stands for a machine on an endpoint, but it names what the machine has
    storage = (
        named_storage(vmi["spec"], claims, state=state_claim(vmi))
        if placement.endpoint
        else pod_storage(
            vmi["spec"],
            claims,
            launcher_image=image,
            privileged=privileged,
            share=plan.share,
            state=state_claim(vmi),
            resources=support,
        )
    )
    metadata = vmi["metadata"]
    wanted = vmi["spec"]
    hostname = host_name(vmi)
    labels = dict(metadata.get("labels") or {}) | {
        names.APP_LABEL: names.LAUNCHER_APP,
        names.CREATED_BY_LABEL: uid(vmi),
        names.VM_NAME_LABEL: hostname,
        names.VMI_ID_LABEL: _label_value(metadata["name"]),
    }
    annotations = {
        k: v for k, v in (metadata.get("annotations") or {}).items() if not k.startswith(UNCOPIED_ANNOTATIONS)
    } | {
        names.DOMAIN_ANNOTATION: metadata["name"],
        DRIVER_ANNOTATION: driver.name,
        VIRT_TYPE_ANNOTATION: placement.virt_type,
        **({OFFERED_ANNOTATION: placement.endpoint} if placement.offered else {}),
        "kubectl.kubernetes.io/default-container": names.COMPUTE_CONTAINER,
    }
    if further := pod_networks.wanted(vmi):
        annotations[names.NETWORKS_ANNOTATION] = pod_networks.written(further)
    compute = _compute(plan, spec, image, asked, storage, placement)
    if FAIL_FAST_ANNOTATION in annotations:
        compute["command"] = FAILING
    others = storage.containers
    if is_logged(wanted):
        others = [*others, console_log.console_log(image, support(Support.CONSOLE), privileged=privileged)]
    policy = config.get("imagePullPolicy") or settings.get("imagePullPolicy") or PULL_POLICY
    for container in (compute, *others, *storage.init_containers):
        if container["image"] == image:
            container["imagePullPolicy"] = policy
    pod_spec: Obj = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": hostname,
        "terminationGracePeriodSeconds": grace_period(vmi),
        "readinessGates": [{"conditionType": gate} for gate in _gates(wanted)],
        "nodeSelector": _node_selector(spec),
        "affinity": _affinity(wanted.get("affinity"), placement.node_affinity),
        "tolerations": [
            *(wanted.get("tolerations") or []),
            {"key": names.VIRTUAL_NODE_TAINT, "operator": "Exists"},
            *(STAYING if placement.endpoint else ()),
        ],
        "containers": [compute, *others],
        "volumes": [{"name": names.LAUNCHER_VOLUME, "emptyDir": {}}, *storage.volumes],
    }
    if account := service_account(wanted):
        pod_spec["serviceAccountName"] = account
    if storage.init_containers:
        pod_spec["initContainers"] = storage.init_containers
    ours = PULL_SECRETS if settings.get("imagePullSecrets") is None else settings["imagePullSecrets"]
    if secrets := storage.pull_secrets + [one for one in ours if one not in storage.pull_secrets]:
        pod_spec["imagePullSecrets"] = secrets
    if not privileged:
        pod_spec["securityContext"] = UNPRIVILEGED
    if kind := config.get("selinuxLauncherType"):
        pod_spec["securityContext"] = {**pod_spec.get("securityContext", {}), "seLinuxOptions": {"type": kind}}
    if runtime_class := config.get("defaultRuntimeClass"):
        pod_spec["runtimeClassName"] = runtime_class
    for field in COPIED_FIELDS:
        if wanted.get(field):
            pod_spec[field] = copy.deepcopy(wanted[field])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(vmi, driver.name),
            "generateName": f"{names.LAUNCHER_POD_PREFIX}{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(vmi, VMIS)],
        },
        "spec": pod_spec,
    }


def launcher_image(driver: str, configured: str = "") -> str:
    """Return the image of a driver's launcher; ``configured`` is what the KubeVirt object says."""
    return configured or LAUNCHER_IMAGES.replace("DRIVER", driver)


def _node_selector(spec: VirtualMachineInstanceSpec) -> dict[str, str]:
    wanted = {names.NODE_SCHEDULABLE_LABEL: "true"}
    if Vcpus.of(spec.domain).dedicated:
        wanted[node_names.CPU_MANAGER_LABEL] = "true"
    return wanted | (spec.node_selector or {})


def _gates(spec: Obj) -> list[str]:
    return [names.UNPAUSED_GATE, *([names.READY_GATE] if spec.get("readinessProbe") else [])]


def grace_period(vmi: Obj) -> int:
    """Return the seconds that the guest has to shut down."""
    given = vmi["spec"].get("terminationGracePeriodSeconds")
    return names.DEFAULT_GRACE_PERIOD_SECONDS if given is None else int(given)


def _compute(
    plan: LauncherPlan,
    spec: VirtualMachineInstanceSpec,
    image: str,
    resources: Obj,
    storage: PodStorage,
    placement: Placement,
) -> Obj:
    if not placement.endpoint and (devices := _devices(placement, plan, spec)):
        resources["requests"] |= devices
        resources["limits"] = resources.get("limits", {}) | devices
    security: Obj = {"privileged": True}
    if not plan.privileged or placement.endpoint:
        security = {**RESTRICTED, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", *plan.capabilities]}}
    container: Obj = {
        "name": names.COMPUTE_CONTAINER,
        "image": image,
        "command": ["python3", "-m", "polyvisor.launcher", "--pod", str(FOLDER)],
        "volumeMounts": [{"name": names.LAUNCHER_VOLUME, "mountPath": str(FOLDER)}, *storage.mounts],
        "resources": resources,
        "securityContext": security,
    }
    if storage.devices:
        container["volumeDevices"] = storage.devices
    if storage.after_start:
        container["lifecycle"] = {"postStart": {"exec": {"command": storage.after_start}}}
    return container


def _devices(placement: Placement, plan: LauncherPlan, spec: VirtualMachineInstanceSpec) -> Obj:
    """Return what the container asks a node's device plugins for; nothing hastens what is emulated in software."""
    accelerators = placement.driver.accelerators if placement.driver and placement.emulated else ()
    needless = {*accelerators, *(() if spec.domain.devices.interfaces else FOR_CARDS)}
    if spec.domain.devices.autoattach_vsock is not True:
        needless.add(FOR_VSOCK)
    return {
        f"{node_names.DEVICE_PREFIX}{name}": "1"
        for name, path in node_names.DEVICES.items()
        if path in plan.devices and path not in needless
    }


def _affinity(given: Obj | None, expressions: list[Obj]) -> Obj:
    affinity: Obj = copy.deepcopy(given or {})
    required = affinity.setdefault("nodeAffinity", {}).setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [
        term | {"matchExpressions": [*(term.get("matchExpressions") or []), *expressions]} for term in terms
    ]
    return affinity


def _label_value(name: str) -> str:
    if len(name) <= MAX_LABEL:
        return name
    return f"{name[:52].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
