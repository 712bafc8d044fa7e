"""The agents of HypervisorEndpoints in a cluster: for each endpoint a Deployment with a service account of its own.

The endpoint's Secret is mounted there and nowhere else, and only if its label says that it is for this endpoint. What
an agent may do is in two roles of the chart, which are bound to the accounts of all endpoints; admission policies of
the chart hold each account to its own Node, Pods and machines. All objects belong to the endpoint and go with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyvisor import __version__
from polyvisor.api import names
from polyvisor.api.cluster_resources import CLUSTER_ROLE_BINDINGS, DEPLOYMENTS, ROLE_BINDINGS, SERVICE_ACCOUNTS
from polyvisor.api.endpoint_names import (
    CREDENTIALS_FOLDER,
    ENDPOINT_APP,
    ENDPOINT_ROLE,
    PROVIDER,
    account_of_endpoint,
    deployment_of_endpoint,
    node_of_endpoint,
)
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.api.reading import annotations_of, labels_of, nested, read_status
from polyvisor.api.resources import CONFIGMAPS, ENDPOINTS, NODES, SECRETS
from polyvisor.api.times import stamp
from polyvisor.kube import ApiError, Controller, Informer, KubeClient, WorkQueue

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

MADE_FROM = f"{names.HYPERVISOR_PREFIX}made-from"
"""On a Deployment: the digest of what it was made as, so that it is written only when that changes."""
FIELD_MANAGER = "virt-operator"
RECHECK_SECONDS = 30.0
"""How often the label of a Secret is looked at, of whose change nobody tells."""
NODES_MAP = "kubevirt-endpoint-nodes"
"""The ConfigMap whose keys are the Nodes that stand for hosts; an admission policy keeps other Pods away from them."""
FOREIGN_NODE = "ForeignNode"
USER = 1001
ACCESS = ""
"""The key of the work on the roles' bindings, which all endpoints share."""


@dataclass(frozen=True)
class AgentSettings:
    """How the chart wants agents' Pods: image, scheduling, resources, registries that are not verified."""

    image: str = f"localhost/polyvisor/virt-endpoint:v{__version__}"
    pull_policy: str = "IfNotPresent"
    pull_secrets: list[Obj] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Obj] = field(default_factory=list)
    resources: Obj = field(default_factory=dict)
    insecure_registries: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> AgentSettings:
        """Read what virt-operator's Deployment says in ``ENDPOINT_...``; what it does not say has its default."""
        found: Obj = {}
        for name in cls.__dataclass_fields__:
            text = environment.get(f"ENDPOINT_{name.upper()}")
            if text:
                found[name] = text if name in ("image", "pull_policy") else json.loads(text)
        return cls(**found)


class EndpointController:
    """Reconciles one endpoint's agent at a time. ``namespace`` is Polyvisor's own."""

    def __init__(
        self, client: KubeClient, endpoints: Informer, namespace: str, settings: AgentSettings | None = None
    ) -> None:
        self._client = client
        self._endpoints = endpoints
        self._namespace = namespace
        self._settings = settings or AgentSettings.read()
        self._accounts: list[Obj] | None = None
        self.queue: WorkQueue[str] = WorkQueue()
        self._controller = Controller("endpoints", self.queue, self.reconcile, 1)
        endpoints.on_change(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        self.queue.add(ACCESS)
        await self._controller.run()

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old["metadata"]["uid"] != new["metadata"]["uid"]:
            self.queue.add(ACCESS)
        if new is not None:
            self.queue.add(new["metadata"]["name"])

    async def reconcile(self, name: str) -> float | None:
        """Bring the agent of one endpoint in line, or who has the agents' rights."""
        if name == ACCESS:
            await self._bind()
            return None
        endpoint = self._endpoints.get(None, name)
        if endpoint is None or endpoint["metadata"].get("deletionTimestamp"):
            return None
        if await self._foreign_node(endpoint):
            return RECHECK_SECONDS
        await self._account(endpoint)
        wanted = deployment(endpoint, self._namespace, self._settings, labelled=await self._labelled(endpoint))
        there = await self._found(DEPLOYMENTS, wanted["metadata"]["name"], self._namespace)
        if there is None or annotations_of(there).get(MADE_FROM) != annotations_of(wanted)[MADE_FROM]:
            metadata = wanted["metadata"]
            await self._client.patch(
                DEPLOYMENTS,
                metadata["name"],
                wanted,
                self._namespace,
                patch_type="apply",
                field_manager=FIELD_MANAGER,
                force=True,
            )
        return RECHECK_SECONDS

    async def _foreign_node(self, endpoint: Obj) -> bool:
        """Whether somebody else has a Node of the endpoint's name; that is said, and nothing is made."""
        name = node_of_endpoint(endpoint["metadata"]["name"])
        node = await self._found(NODES, name)
        if node is None or nested(node, "spec").get("providerID") == f"{PROVIDER}{endpoint['metadata']['uid']}":
            return False
        ready: Obj = next(
            (one for one in read_status(endpoint).get("conditions") or [] if one.get("type") == "Ready"), {}
        )
        if ready.get("reason") != FOREIGN_NODE:
            condition = {
                "type": "Ready",
                "status": "False",
                "reason": FOREIGN_NODE,
                "message": f"there is a Node {name} that is not this endpoint's; it is left alone",
                "suggestion": "Remove that Node, or give the endpoint another name.",
                "lastTransitionTime": stamp(),
            }
            status = {"status": {"conditions": [condition]}}
            await self._client.patch(ENDPOINTS, endpoint["metadata"]["name"], status, subresource="status")
        return True

    async def _account(self, endpoint: Obj) -> None:
        metadata = _metadata(endpoint, account_of_endpoint(endpoint["metadata"]["name"]), self._namespace)
        account = {"apiVersion": "v1", "kind": SERVICE_ACCOUNTS.kind, "metadata": metadata}
        try:
            await self._client.create(SERVICE_ACCOUNTS, {**account, "automountServiceAccountToken": False})
        except ApiError as error:
            if not error.already_exists:
                raise

    async def _bind(self) -> None:
        """Give the agents' rights to the accounts of the endpoints that there are, and to nobody else."""
        there = [one["metadata"]["name"] for one in self._endpoints.items()]
        subjects = [
            {"kind": SERVICE_ACCOUNTS.kind, "name": account_of_endpoint(name), "namespace": self._namespace}
            for name in sorted(there)
        ]
        if subjects == self._accounts:
            return
        nodes = [{"op": "add", "path": "/data", "value": {node_of_endpoint(name): "" for name in there}}]
        await self._client.patch(CONFIGMAPS, NODES_MAP, nodes, self._namespace, patch_type="json")
        await self._client.patch(CLUSTER_ROLE_BINDINGS, ENDPOINT_ROLE, {"subjects": subjects})
        await self._client.patch(ROLE_BINDINGS, ENDPOINT_ROLE, {"subjects": subjects}, self._namespace)
        self._accounts = subjects

    async def _labelled(self, endpoint: Obj) -> bool:
        """Whether the Secret that an endpoint names is meant for it, or is not there yet."""
        name = _secret(endpoint)
        if not name:
            return True
        secret = await self._found(SECRETS, name, self._namespace)
        return secret is None or bool(labels_of(secret).get(ENDPOINT_LABEL) == endpoint["metadata"]["name"])

    async def _found(self, resource: Resource, name: str, namespace: str | None = None) -> Obj | None:
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            return None


def deployment(endpoint: Obj, namespace: str, settings: AgentSettings, *, labelled: bool = True) -> Obj:
    """Return the Deployment of an endpoint's agent. A Secret that is not ``labelled`` is not mounted."""
    name = endpoint["metadata"]["name"]
    labels = {names.APP_LABEL: ENDPOINT_APP, ENDPOINT_LABEL: name}
    secret = _secret(endpoint) if labelled else ""
    volumes: list[Obj] = [{"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    mounts: list[Obj] = [{"name": "state", "mountPath": "/var/lib/polyvisor"}, {"name": "tmp", "mountPath": "/tmp"}]
    if secret:
        source = {"secretName": secret, "optional": True, "defaultMode": 0o440}
        volumes.append({"name": "credentials", "secret": source})
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS_FOLDER, "readOnly": True})
    arguments = [f"--endpoint={name}", *([] if labelled else ["--not-labelled"])]
    arguments += [f"--insecure-registry={one}" for one in settings.insecure_registries]
    container: Obj = {
        "name": ENDPOINT_APP,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["python3", "-m", "polyvisor.agent.platform.endpoint.cluster", *arguments],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [
            {"name": "https", "containerPort": 8186},
            {"name": "kubelet", "containerPort": 10250},
            {"name": "metrics", "containerPort": 8443},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics", "scheme": "HTTPS"}, "periodSeconds": 10},
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": "metrics", "scheme": "HTTPS"},
            "initialDelaySeconds": 15,
            "periodSeconds": 20,
        },
        "resources": settings.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            # Images are decoded in namespaces of a user's own, which the common filter of system calls forbids.
            "seccompProfile": {"type": "Unconfined"},
        },
        "volumeMounts": mounts,
    }
    pod: Obj = {
        "serviceAccountName": account_of_endpoint(name),
        "automountServiceAccountToken": True,
        "priorityClassName": "kubevirt-cluster-critical",
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "nodeSelector": settings.node_selector,
        "tolerations": settings.tolerations,
        "imagePullSecrets": settings.pull_secrets,
        "containers": [container],
        "volumes": volumes,
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": {**labels, "prometheus.kubevirt.io": "true"}}, "spec": pod},
    }
    metadata = _metadata(endpoint, deployment_of_endpoint(name), namespace)
    digest = hashlib.sha256(json.dumps([metadata, spec], sort_keys=True).encode()).hexdigest()[:16]
    metadata["annotations"] = {MADE_FROM: digest}
    return {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, "metadata": metadata, "spec": spec}


def _metadata(endpoint: Obj, name: str, namespace: str) -> Obj:
    owned = {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "name": endpoint["metadata"]["name"],
        "uid": endpoint["metadata"]["uid"],
        "controller": True,
    }
    labels = {
        names.APP_LABEL: ENDPOINT_APP,
        ENDPOINT_LABEL: endpoint["metadata"]["name"],
        names.MANAGED_BY_LABEL: names.MANAGER,
    }
    return {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owned]}


def _secret(endpoint: Obj) -> str:
    return str(nested(endpoint, "spec", "credentials", "secretRef").get("name") or "")
