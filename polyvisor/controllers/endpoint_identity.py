"""Whether an endpoint's agent gets the certificates that it asks for: those of the Node of its endpoint, and no others.

Who asks is known from the request, where the API server wrote it. A Node of that name that is not this endpoint's would
be somebody's real node, and nobody signs in as that. The certificate of the kubelet's port names the address of the Pod
that asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from polyvisor.api.cluster_resources import CSRS
from polyvisor.api.endpoint_names import (
    CLIENT_SIGNER,
    ENDPOINT_ACCOUNT_PREFIX,
    NODE_GROUP,
    PROVIDER,
    USAGES,
    node_of_endpoint,
    node_user,
)
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import ENDPOINTS, NODES, PODS
from polyvisor.api.times import stamp
from polyvisor.kube import ApiError, Controller, Informer, KubeClient, WorkQueue

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

POD_NAME = "authentication.kubernetes.io/pod-name"


class IdentityController:
    """Approves or denies one request at a time. ``namespace`` is Polyvisor's own."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._prefix = f"system:serviceaccount:{namespace}:{ENDPOINT_ACCOUNT_PREFIX}"
        self.requests = Informer(client, CSRS)
        self.queue: WorkQueue[str] = WorkQueue()
        self._controller = Controller("endpoint-identity", self.queue, self.reconcile, 1)
        self.requests.on_change(self._changed)

    async def run(self) -> None:
        """Work until cancelled; the informer is run by the owner."""
        await self._controller.run()

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and self._waits(new):
            self.queue.add(new["metadata"]["name"])

    def _waits(self, request: Obj) -> bool:
        spec = request["spec"]
        ours = str(spec.get("username")).startswith(self._prefix) and spec.get("signerName") in USAGES
        return ours and not read_status(request).get("conditions")

    async def reconcile(self, name: str) -> None:
        """Decide on one request."""
        request = self.requests.get(None, name)
        if request is None or not self._waits(request):
            return
        endpoint = str(request["spec"]["username"]).removeprefix(self._prefix)
        why = await self._why_not(request, endpoint)
        condition = {
            "type": "Denied" if why else "Approved",
            "status": "True",
            "reason": "NotOfThisEndpoint" if why else "AgentOfEndpoint",
            "message": why or f"the agent of endpoint {endpoint}",
            "lastUpdateTime": stamp(),
        }
        decided = {**request, "status": {**read_status(request), "conditions": [condition]}}
        await self._client.update(CSRS, decided, subresource="approval")

    async def _why_not(self, request: Obj, name: str) -> str:
        endpoint, node = await self._one(ENDPOINTS, name), await self._one(NODES, node_of_endpoint(name))
        if endpoint is None:
            return f"there is no HypervisorEndpoint {name}"
        if node is not None and nested(node, "spec").get("providerID") != f"{PROVIDER}{endpoint['metadata']['uid']}":
            return f"there is a Node {node_of_endpoint(name)} that is not this endpoint's"
        pods = [str(one) for one in nested(request, "spec", "extra").get(POD_NAME) or []]
        addresses: list[str] = []
        for pod_name in pods:
            pod = await self._one(PODS, pod_name, self._namespace)
            addresses += [str(one.get("ip")) for one in read_status(pod or {}).get("podIPs") or []]
        return why_not(request["spec"], node_of_endpoint(name), addresses)

    async def _one(self, resource: Resource, name: str, namespace: str | None = None) -> Obj | None:
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            return None


def why_not(spec: Obj, node: str, addresses: Sequence[str]) -> str:
    """Return what a request asks for beyond the identity of a Node whose agent has these addresses; else nothing."""
    signer = spec.get("signerName")
    if sorted(spec.get("usages") or []) != sorted(USAGES.get(str(signer), ())):
        return f"usages are {', '.join(map(str, spec.get('usages') or []))}"
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "", validate=True))
    except (ValueError, binascii.Error):
        return "the request cannot be read"
    if not request.is_signature_valid:
        return "the request is not signed by its key"
    subject = [(part.oid, part.value) for part in request.subject]
    wanted = [(NameOID.ORGANIZATION_NAME, NODE_GROUP), (NameOID.COMMON_NAME, node_user(node))]
    if sorted(subject, key=str) != sorted(wanted, key=str):
        return f"the subject is {request.subject.rfc4514_string()[:200]}, and not {node_user(node)}"
    try:
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    except ValueError:
        return "the request's extensions cannot be read"
    allowed = {f"DNS:{node}", *(f"IP:{address}" for address in addresses)} if signer != CLIENT_SIGNER else set()
    beyond = sorted({_written(name) for name in names} - allowed)
    return f"it names {', '.join(beyond)[:200]}" if beyond else ""


def _written(name: x509.GeneralName) -> str:
    kind = {x509.DNSName: "DNS", x509.IPAddress: "IP"}.get(type(name), type(name).__name__)
    return f"{kind}:{name.value}"
