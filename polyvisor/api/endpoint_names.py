"""What things are called on and around endpoints: the Node of a host, what binds a machine to its domain there."""

from __future__ import annotations

from polyvisor.api import selectors
from polyvisor.api.base import Obj
from polyvisor.api.reading import nested, read_status

NODE_PREFIX = "endpoint-"
ENDPOINT_FINALIZER = "hypervisor.kubevirt.io/endpoint"
"""On a VirtualMachineInstance: its domain may be on the host. It goes when the domain is gone, or is fenced."""
ADOPT_ANNOTATION = "hypervisor.kubevirt.io/adopt"
"""On a VirtualMachineInstance: the UUID of a domain on the host that is to be taken over as it is."""
UNMANAGE_ANNOTATION = "hypervisor.kubevirt.io/unmanage"
"""On a VirtualMachineInstance: "true" if its domain is to be let go of, and left running, when the instance goes."""
FENCED_ANNOTATION = "hypervisor.kubevirt.io/fenced"
"""On a VirtualMachineInstance: the administrator's word that its guest does not run, whatever is on the host."""
UNREACHABLE = "EndpointUnreachable"
"""Reason of conditions: nobody can tell how a guest is, because its host cannot be reached."""

PROVIDER = "polyvisor://"
"""What the providerID of such a Node begins with; the uid of its endpoint follows."""
ENDPOINT_APP = "virt-endpoint"
"""The agent of one endpoint in a cluster: its Pods' label, and what the name of its Deployment begins with."""
ENDPOINT_ACCOUNT_PREFIX = "kubevirt-endpoint-"
"""What the names of these agents' service accounts begin with."""
ENDPOINT_ROLE = "kubevirt-endpoint"
"""The roles of these agents, and their bindings, whose subjects virt-operator keeps."""
ENDPOINT_SECRET = "kubevirt-virt-endpoint-server-certs"
"""The Secret with the pair that these agents show to virt-api."""
CREDENTIALS_FOLDER = "/etc/polyvisor/credentials"
"""Where an agent's Pod has its endpoint's Secret."""

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
"""Kubernetes' signers of the two certificates that a kubelet has."""
USAGES = {
    CLIENT_SIGNER: ["digital signature", "client auth"],
    SERVING_SIGNER: ["digital signature", "server auth"],
}
NODE_GROUP = "system:nodes"


def node_user(node: str) -> str:
    """Return the user that a Node's agent signs in as."""
    return f"system:node:{node}"


def node_of_endpoint(name: str) -> str:
    """Return the name of the Node that stands for an endpoint's host."""
    return f"{NODE_PREFIX}{name}"


def endpoint_of_node(name: str) -> str:
    """Return the name of the endpoint that a Node of that name stands for, empty if its name is no such Node's."""
    return name.removeprefix(NODE_PREFIX) if name.startswith(NODE_PREFIX) else ""


def deployment_of_endpoint(name: str) -> str:
    """Return the name of the Deployment of an endpoint's agent, which is also that of its Lease."""
    return f"{ENDPOINT_APP}-{name}"


def account_of_endpoint(name: str) -> str:
    """Return the name of the service account of an endpoint's agent."""
    return f"{ENDPOINT_ACCOUNT_PREFIX}{name}"


def on_endpoint(vmi: Obj) -> str:
    """Return the endpoint on whose host a machine may have a domain, empty if it has none there."""
    if ENDPOINT_FINALIZER not in (vmi["metadata"].get("finalizers") or []):
        return ""
    return endpoint_of_node(str(read_status(vmi).get("nodeName") or ""))


def allows(endpoint: Obj, namespace: Obj) -> bool:
    """Whether an endpoint is for a namespace, by the namespace's labels; without a selector it is for none."""
    selector = nested(endpoint, "spec", "allowedNamespaces").get("selector")
    return selectors.matches(selector, nested(namespace, "metadata", "labels"))
