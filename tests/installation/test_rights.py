"""Each right of each component is used by its code; one that is granted and not listed here fails, as does one gone.

A right is ``group/resource verb``; beside it stands where it is used, and the text by which that is seen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api import resources
from polyvisor.api.endpoint_names import CLIENT_SIGNER, ENDPOINT_ROLE, ENDPOINT_SECRET, SERVING_SIGNER
from polyvisor.api.resource import Resource
from polyvisor.installation.render import manifests

TOP = Path(__file__).parents[2] / "polyvisor"
SIZES = ("virtualmachineinstancetypes", "virtualmachineclusterinstancetypes")
PREFERENCES = ("virtualmachinepreferences", "virtualmachineclusterpreferences")
WATCHED = ("list", "watch")


def watched(place: str, text: str, *names: str) -> dict[str, tuple[str, str]]:
    return {f"{name} {verb}": (place, text) for name in names for verb in WATCHED}


SIZED = {
    f"instancetype.kubevirt.io/{name} get": ("admission/instancetypes/sources.py", "lookup(")
    for name in (*SIZES, *PREFERENCES)
}
EVENTS = {"/events create": ("kube/events.py", "create(EVENTS"), "/events patch": ("kube/events.py", "patch(EVENTS")}
READERS = {
    "authentication.k8s.io/tokenreviews create": ("process/metrics_readers.py", "create(TOKEN_REVIEWS"),
    "authorization.k8s.io/subjectaccessreviews create": (
        "process/metrics_readers.py",
        "create(SUBJECT_ACCESS_REVIEWS",
    ),
}
CSR = "certificates.k8s.io/certificatesigningrequests"
HOSTS = "agent/platform/endpoint"
AGENT = f"{HOSTS}/agent.py"
OWN_RUN = ("controllers/run.py", "Informer(client")
RIGHTS: dict[str, dict[str, tuple[str, str]]] = {
    "kubevirt-apiserver": {
        **SIZED,
        **READERS,
        "kubevirt.io/virtualmachines get": ("server/subresources_machines.py", "get(VMS"),
        "kubevirt.io/virtualmachines patch": ("server/subresources_volumes.py", "patch(resource"),
        "kubevirt.io/virtualmachines/status patch": ("server/subresources.py", 'subresource="status"'),
        "kubevirt.io/virtualmachineinstances get": ("server/subresources_machines.py", "get(VMIS"),
        "kubevirt.io/virtualmachineinstances patch": ("server/evictions.py", "patch(VMIS"),
        "kubevirt.io/virtualmachineinstances list": ("server/webhooks.py", "list(VMIS"),
        "kubevirt.io/virtualmachineinstancemigrations create": (
            "server/subresources_migrations.py",
            "create(MIGRATIONS",
        ),
        "snapshot.kubevirt.io/virtualmachinesnapshots get": ("admission/snapshots.py", "lookup(SNAPSHOTS"),
        "snapshot.kubevirt.io/virtualmachinesnapshotcontents get": (
            "admission/snapshots.py",
            "lookup(SNAPSHOT_CONTENTS",
        ),
        "apps/controllerrevisions get": ("admission/instancetypes/sources.py", "CONTROLLER_REVISIONS"),
        "/persistentvolumeclaims get": ("server/subresources_dumps.py", "get(PVCS"),
        "hypervisor.kubevirt.io/hypervisorendpoints get": ("admission/endpoint_choice.py", "lookup(ENDPOINTS"),
        "/namespaces get": ("admission/namespaces.py", "NAMESPACES"),
        "/pods get": ("server/evictions.py", "get(PODS"),
        "/pods list": ("server/subresources.py", "list(PODS"),
        "/pods delete": ("server/subresources.py", "client.delete("),
        "authorization.k8s.io/subjectaccessreviews create": ("server/rights.py", "create(SUBJECT_ACCESS_REVIEWS"),
    },
    "kubevirt-controller": {
        **SIZED,
        **READERS,
        **watched(*OWN_RUN, "kubevirt.io/virtualmachines", "kubevirt.io/virtualmachineinstances"),
        **watched(*OWN_RUN, "kubevirt.io/virtualmachineinstancereplicasets", "kubevirt.io/kubevirts"),
        **{
            f"snapshot.kubevirt.io/{plural} {verb}": (f"controllers/snapshots/{module}.py", call)
            for plural, module, kind, verbs in (
                ("virtualmachinesnapshots", "snapshots", "SNAPSHOTS", ("get", "update")),
                ("virtualmachinerestores", "restores", "RESTORES", ("get", "update")),
                (
                    "virtualmachinesnapshotcontents",
                    "snapshots",
                    "SNAPSHOT_CONTENTS",
                    ("get", "create", "update", "delete"),
                ),
            )
            for verb, call in (
                *((verb, f"{verb}({kind}" if verb != "get" else kind) for verb in verbs),
                *((verb, kind) for verb in WATCHED),
            )
        },
        **{
            f"snapshot.kubevirt.io/{plural}/{part} update": place
            for plural in ("virtualmachinesnapshots", "virtualmachinesnapshotcontents", "virtualmachinerestores")
            for part, place in (
                ("status", ("controllers/snapshots/snapshots.py", "update_status(")),
                ("finalizers", ("controllers/objects.py", "blockOwnerDeletion")),
            )
        },
        "snapshot.storage.k8s.io/volumesnapshots get": ("controllers/snapshots/volumes.py", "VOLUME_SNAPSHOTS"),
        "snapshot.storage.k8s.io/volumesnapshots create": (
            "controllers/snapshots/volumes.py",
            "create(VOLUME_SNAPSHOTS",
        ),
        "snapshot.storage.k8s.io/volumesnapshotclasses list": (
            "controllers/snapshots/classes.py",
            "_listed(VOLUME_SNAPSHOT_CLASSES",
        ),
        "storage.k8s.io/storageclasses get": ("controllers/snapshots/restores.py", "STORAGE_CLASSES"),
        "storage.k8s.io/storageclasses list": ("controllers/snapshots/classes.py", "_listed(STORAGE_CLASSES"),
        **{
            f"subresources.kubevirt.io/virtualmachineinstances/{name} update": (
                "controllers/snapshots/source.py",
                f'"{name}"',
            )
            for name in ("freeze", "unfreeze")
        },
        "/persistentvolumeclaims delete": ("controllers/snapshots/restores.py", "delete(PVCS"),
        "cdi.kubevirt.io/datavolumes delete": ("controllers/snapshots/restores.py", "delete(resource"),
        **{
            f"snapshot.kubevirt.io/{plural} {verb}": ("controllers/clones/controller.py", call)
            for plural in ("virtualmachinesnapshots", "virtualmachinerestores")
            for verb, call in (("create", "create(resource"), ("delete", "delete(resource"))
        },
        **watched(*OWN_RUN, "clone.kubevirt.io/virtualmachineclones"),
        "clone.kubevirt.io/virtualmachineclones delete": ("controllers/clones/controller.py", "delete(CLONES"),
        "clone.kubevirt.io/virtualmachineclones/status update": (
            "controllers/clones/controller.py",
            "update_status(CLONES",
        ),
        "clone.kubevirt.io/virtualmachineclones/finalizers update": ("controllers/objects.py", "blockOwnerDeletion"),
        **watched(*OWN_RUN, "pool.kubevirt.io/virtualmachinepools"),
        "pool.kubevirt.io/virtualmachinepools update": ("controllers/pools/controller.py", "update(POOLS"),
        "pool.kubevirt.io/virtualmachinepools/status update": (
            "controllers/pools/controller.py",
            "update_status(POOLS",
        ),
        "pool.kubevirt.io/virtualmachinepools/finalizers update": ("controllers/objects.py", "blockOwnerDeletion"),
        "kubevirt.io/virtualmachines create": ("controllers/pools/controller.py", "create(VMS"),
        "kubevirt.io/virtualmachines delete": ("controllers/pools/controller.py", "delete(VMS"),
        "cdi.kubevirt.io/datavolumes patch": ("controllers/pools/claims.py", "DATAVOLUMES"),
        **watched(*OWN_RUN, "kubevirt.io/virtualmachineinstancemigrations"),
        **watched(*OWN_RUN, "/pods", "/nodes", "/persistentvolumeclaims", "policy/poddisruptionbudgets"),
        "kubevirt.io/virtualmachines get": ("controllers/vm.py", "get(VMS"),
        "kubevirt.io/virtualmachines update": ("controllers/vm.py", "update(VMS"),
        "kubevirt.io/virtualmachineinstances get": ("controllers/vmi.py", "get(VMIS"),
        "kubevirt.io/virtualmachineinstances create": ("controllers/vm.py", "create(VMIS"),
        "kubevirt.io/virtualmachineinstances update": ("controllers/vmi.py", "update(VMIS"),
        "kubevirt.io/virtualmachineinstances delete": ("controllers/vm.py", "delete(VMIS"),
        "kubevirt.io/virtualmachineinstancereplicasets get": ("controllers/replica_set.py", "get(REPLICA_SETS"),
        "kubevirt.io/virtualmachines/status update": ("controllers/vm.py", "update_status(VMS"),
        "kubevirt.io/virtualmachineinstancereplicasets/status update": (
            "controllers/replica_set.py",
            "update_status(REPLICA_SETS",
        ),
        "kubevirt.io/virtualmachines/finalizers update": ("controllers/objects.py", "blockOwnerDeletion"),
        "kubevirt.io/virtualmachineinstances/finalizers update": ("controllers/objects.py", "blockOwnerDeletion"),
        "kubevirt.io/virtualmachineinstancereplicasets/finalizers update": (
            "controllers/objects.py",
            "blockOwnerDeletion",
        ),
        "kubevirt.io/virtualmachineinstancemigrations create": ("controllers/evacuation.py", "create(MIGRATIONS"),
        "kubevirt.io/virtualmachineinstancemigrations update": ("controllers/migration.py", "update(MIGRATIONS"),
        "kubevirt.io/virtualmachineinstancemigrations/status update": (
            "controllers/migration.py",
            "update_status(MIGRATIONS",
        ),
        "cdi.kubevirt.io/datavolumes get": ("controllers/data_volumes.py", "_found(client, DATAVOLUMES"),
        "cdi.kubevirt.io/datavolumes create": ("controllers/data_volumes.py", "create(DATAVOLUMES"),
        "authorization.k8s.io/subjectaccessreviews create": (
            "controllers/clone_rights.py",
            "create(SUBJECT_ACCESS_REVIEWS",
        ),
        "apps/controllerrevisions get": ("admission/instancetypes/sources.py", "CONTROLLER_REVISIONS"),
        "apps/controllerrevisions list": ("controllers/revisions.py", "list(CONTROLLER_REVISIONS"),
        "apps/controllerrevisions create": ("controllers/revisions.py", "create(CONTROLLER_REVISIONS"),
        "apps/controllerrevisions delete": ("controllers/revisions.py", "delete(CONTROLLER_REVISIONS"),
        "/pods get": ("controllers/vmi.py", "get(PODS"),
        "/pods create": ("controllers/vmi.py", "create(PODS"),
        "/pods patch": ("controllers/running_pod.py", "patch(PODS"),
        "/pods delete": ("controllers/attachments.py", "delete(PODS"),
        "/pods/status patch": ("controllers/running_pod.py", 'subresource="status"'),
        "/nodes patch": ("controllers/nodes.py", "patch(NODES"),
        "/namespaces get": ("controllers/cpu_limits.py", "get(NAMESPACES"),
        "/persistentvolumeclaims get": ("controllers/memory_dump.py", "get(PVCS"),
        "/persistentvolumeclaims create": ("controllers/state_claim.py", "create(PVCS"),
        "/persistentvolumeclaims patch": ("controllers/memory_dump.py", "patch(PVCS"),
        "policy/poddisruptionbudgets create": ("controllers/budgets.py", "create(DISRUPTION_BUDGETS"),
        "policy/poddisruptionbudgets delete": ("controllers/budgets.py", "delete(DISRUPTION_BUDGETS"),
        **EVENTS,
    },
    "kubevirt-operator": {
        **READERS,
        "apiextensions.k8s.io/customresourcedefinitions get": ("controllers/definitions.py", "get(CRDS"),
        **{
            f"admissionregistration.k8s.io/{kind} {verb} virt-api": ("controllers/certificates.py", text)
            for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
            for verb, text in (("get", "_found(resource, names.WEBHOOKS"), ("patch", "patch(resource, names.WEBHOOKS"))
        },
        **watched(
            "controllers/operator.py", "Informer(client, ENDPOINTS", "hypervisor.kubevirt.io/hypervisorendpoints"
        ),
        "hypervisor.kubevirt.io/hypervisorendpoints get": ("controllers/endpoint_identity.py", "_one(ENDPOINTS"),
        "hypervisor.kubevirt.io/hypervisorendpoints/status patch": ("controllers/endpoints.py", "patch(ENDPOINTS"),
        "/nodes get": ("controllers/endpoint_identity.py", "_one(NODES"),
        **watched("controllers/endpoint_identity.py", "Informer(client, CSRS", CSR),
        f"{CSR} get": ("controllers/endpoint_identity.py", "update(CSRS"),
        f"{CSR}/approval update": ("controllers/endpoint_identity.py", 'subresource="approval"'),
        f"certificates.k8s.io/signers approve {CLIENT_SIGNER}": ("api/endpoint_names.py", CLIENT_SIGNER),
        f"certificates.k8s.io/signers approve {SERVING_SIGNER}": ("api/endpoint_names.py", SERVING_SIGNER),
        **{
            f"rbac.authorization.k8s.io/{right} {ENDPOINT_ROLE}": (
                "controllers/endpoints.py",
                "(CLUSTER_ROLE_BINDINGS,",
            )
            for right in ("clusterrolebindings get", "clusterrolebindings patch", "clusterroles bind")
        },
        **{
            f"apiregistration.k8s.io/apiservices {verb} {version}.subresources.kubevirt.io": (
                "controllers/certificates.py",
                text,
            )
            for version in ("v1", "v1alpha3")
            for verb, text in (("get", "_found(API_SERVICES"), ("patch", "patch(API_SERVICES"))
        },
    },
    "kubevirt-handler": {
        **READERS,
        **watched("agent/agent.py", "Informer(", "kubevirt.io/virtualmachineinstances", "/pods"),
        "kubevirt.io/virtualmachineinstances get": ("agent/live/migration_target.py", "get(VMIS"),
        "kubevirt.io/virtualmachineinstances update": ("agent/vmi.py", "update_status(VMIS"),
        "/persistentvolumeclaims get": ("agent/storage/claims.py", "client, PVCS"),
        "/nodes get": ("agent/node/real_node.py", "get(NODES"),
        "/nodes patch": ("agent/node/real_node.py", "patch(NODES"),
        "/nodes/status patch": ("agent/node/registration.py", 'subresource="status"'),
        **EVENTS,
    },
    "kubevirt-endpoint": {
        **READERS,
        **EVENTS,
        **watched(AGENT, "Informer(client, ENDPOINTS", "hypervisor.kubevirt.io/hypervisorendpoints"),
        "hypervisor.kubevirt.io/hypervisorendpoints/status patch": (AGENT, "patch(ENDPOINTS"),
        **watched(AGENT, "Informer(client", "kubevirt.io/virtualmachineinstances", "kubevirt.io/virtualmachines"),
        "kubevirt.io/virtualmachineinstances update": (f"{HOSTS}/machines.py", "update_status(VMIS"),
        "kubevirt.io/virtualmachineinstances patch": (f"{HOSTS}/machines.py", "patch(VMIS"),
        **watched(AGENT, "Informer(client", "/persistentvolumeclaims", "/persistentvolumes"),
        "/persistentvolumes create": (f"{HOSTS}/provisioner.py", "create(PVS"),
        "/persistentvolumes delete": (f"{HOSTS}/provisioner.py", "delete(PVS"),
        "/nodes patch": (f"{HOSTS}/host_node.py", "_administrator.patch(NODES"),
        "/namespaces get": (AGENT, "get(NAMESPACES"),
        f"{CSR} create": (f"{HOSTS}/cluster/identity.py", "create(CSRS"),
        **watched(f"{HOSTS}/cluster/identity.py", "watch(CSRS", CSR),
    },
}


def followed(*secrets: str) -> dict[str, tuple[str, str]]:
    """A pair that lies in a Secret, which is followed by its name."""
    return {
        f"/secrets {verb} {name}": ("process/kept.py", "named(client, SECRETS") for name in secrets for verb in WATCHED
    }


def leads(name: str) -> dict[str, tuple[str, str]]:
    used = {"get": "get(LEASES", "watch": "LEASES,", "update": "client.update(LEASES"}
    found = {f"coordination.k8s.io/leases {verb} {name}": ("kube/leader.py", text) for verb, text in used.items()}
    return found | {"coordination.k8s.io/leases create": ("kube/leader.py", "create(LEASES")}


API_PAIR, CLIENT_PAIR = "kubevirt-virt-api-certs", "kubevirt-virt-api-client-certs"
HANDLER_PAIR, HANDLER_CLIENT_PAIR = "kubevirt-virt-handler-server-certs", "kubevirt-virt-handler-certs"
PAIRS = ("kubevirt-ca", API_PAIR, CLIENT_PAIR, HANDLER_PAIR, HANDLER_CLIENT_PAIR, ENDPOINT_SECRET)
OWN: dict[str, dict[str, tuple[str, str]]] = {
    "kubevirt-apiserver": {
        **watched("server/process.py", "Informer(client, KUBEVIRTS", "kubevirt.io/kubevirts"),
        **followed(API_PAIR, CLIENT_PAIR),
        f"/secrets get {API_PAIR}": ("process/webhook_paths.py", "get(SECRETS, names.API_SECRET"),
    },
    "kubevirt-controller": leads("virt-controller"),
    "kubevirt-operator": {
        **leads("virt-operator"),
        **watched("controllers/operator.py", "Informer(client, KUBEVIRTS", "kubevirt.io/kubevirts"),
        **watched("controllers/operator.py", "Informer(client, DEPLOYMENTS", "apps/deployments"),
        **watched("controllers/operator.py", "Informer(client, DAEMON_SETS", "apps/daemonsets"),
        "kubevirt.io/kubevirts/status update": ("controllers/kubevirt.py", "update_status(KUBEVIRTS"),
        **followed(*PAIRS),
        **{f"/secrets get {name}": ("controllers/certificates.py", "get(SECRETS") for name in PAIRS},
        **{f"/secrets update {name}": ("controllers/certificates.py", "update(SECRETS") for name in PAIRS},
        "/secrets create": ("controllers/certificates.py", "create(SECRETS"),
        "/secrets get": ("controllers/endpoints.py", "_found(SECRETS"),
        "apps/deployments get": ("controllers/endpoints.py", "_found(DEPLOYMENTS"),
        **{
            f"apps/deployments {verb}": ("controllers/endpoints.py", 'patch_type="apply"')
            for verb in ("create", "patch")
        },
        "/serviceaccounts create": ("controllers/endpoints.py", "create(SERVICE_ACCOUNTS"),
        "/pods get": ("controllers/endpoint_identity.py", "_one(PODS"),
        "/configmaps patch kubevirt-endpoint-nodes": ("controllers/endpoints.py", "patch(CONFIGMAPS, NODES_MAP"),
        **{
            f"rbac.authorization.k8s.io/{right} {ENDPOINT_ROLE}": ("controllers/endpoints.py", "(ROLE_BINDINGS,")
            for right in ("rolebindings get", "rolebindings patch", "roles bind")
        },
    },
    "kubevirt-handler": {
        **watched("agent/process.py", "Informer(client, KUBEVIRTS", "kubevirt.io/kubevirts"),
        **followed(HANDLER_PAIR, HANDLER_CLIENT_PAIR),
    },
    "kubevirt-endpoint": {
        **watched(f"{HOSTS}/cluster/process.py", "Informer(client, KUBEVIRTS", "kubevirt.io/kubevirts"),
        **followed(ENDPOINT_SECRET),
        **{right.removesuffix(" "): used for right, used in leads("").items()},
    },
}
EVERYWHERE = {"ClusterRole": RIGHTS, "Role": OWN}


def subjects(binding: dict[str, Any]) -> list[dict[str, Any]]:
    return list(binding.get("subjects") or [{"kind": "ServiceAccount", "name": binding["metadata"]["name"]}])


def granted(account: str, kind: str = "ClusterRole") -> set[str]:
    """Return the rights of a service account: in all namespaces, or with ``Role`` in the installation's own.

    The accounts of endpoints' agents are bound by virt-operator, to the roles of their name.
    """
    roles: dict[str, Any] = {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}
    bound = [
        one["roleRef"]["name"]
        for one in manifests()
        if one["kind"] == f"{kind}Binding" and any(s.get("name") == account for s in subjects(one))
    ]
    return {
        f"{group}/{resource} {verb} {name}".rstrip()
        for role in bound
        if role in roles
        for rule in roles[role]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [""]
    }


@pytest.mark.parametrize(("account", "kind"), [(account, kind) for kind in EVERYWHERE for account in EVERYWHERE[kind]])
def test_each_right_of_a_component_is_used(account: str, kind: str) -> None:
    known = EVERYWHERE[kind][account]
    assert granted(account, kind) - known.keys() == set(), "granted, and no code is known to use it"
    assert known.keys() - granted(account, kind) == set(), "used, and not granted"
    for right, (place, text) in known.items():
        assert text in (TOP / place).read_text(), f"{right}: {place} no longer has {text!r}"


def test_every_service_account_is_looked_at() -> None:
    """Whoever is bound to a role of the chart is listed above, and roles of others are none of ours."""
    bound = {
        (one["kind"].removesuffix("Binding"), subject["name"])
        for one in manifests()
        if one["kind"] in ("RoleBinding", "ClusterRoleBinding") and one["metadata"].get("namespace") != "kube-system"
        for subject in subjects(one)
        if subject["kind"] == "ServiceAccount"
    }
    assert bound == {(kind, account) for kind in EVERYWHERE for account in EVERYWHERE[kind]}


def test_no_component_and_no_role_of_users_has_everything_of_anything() -> None:
    for one in manifests():
        if one["kind"] in ("ClusterRole", "Role"):
            for rule in one["rules"]:
                assert "*" not in (*rule["verbs"], *rule["apiGroups"], *rule["resources"]), one["metadata"]["name"]


def test_virt_api_may_read_all_that_admission_looks_up() -> None:
    """What it may not read, it answers with an error: nobody could write what refers to it."""
    kinds = {name: one for name, one in vars(resources).items() if isinstance(one, Resource)}
    may = granted("kubevirt-apiserver")
    missing = set()
    for module in (TOP / "admission").rglob("*.py"):
        for name in re.findall(r"lookup\(([A-Z_]+),", module.read_text()):
            one = kinds[name]
            if f"{one.group}/{one.plural} get" not in may:
                missing.add(f"{one.group}/{one.plural}, which {module.name} looks up")
    assert not missing
