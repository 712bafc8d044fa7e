"""What is written to the launcher Pod of a machine that runs: its readiness gates, and the networks it is to join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.names import NETWORKS_ANNOTATION
from polyvisor.api.resources import PODS
from polyvisor.controllers import pod_networks, vmi_status

if TYPE_CHECKING:
    from datetime import datetime

    from polyvisor.api import Obj
    from polyvisor.kube import KubeClient


async def settle(client: KubeClient, vmi: Obj, pod: Obj, at: datetime) -> None:
    """Write what has changed, if anything has."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if gates := vmi_status.gate_conditions(vmi, pod, at):
        body: Obj = {"status": {"conditions": gates}}
        await client.patch(PODS, name, body, namespace, patch_type="strategic", subresource="status")
        return  # the Pod is another now, and brings us back
    if (networks := pod_networks.changed(vmi, pod)) is not None:
        metadata = {
            "resourceVersion": pod["metadata"]["resourceVersion"],
            "annotations": {NETWORKS_ANNOTATION: networks},
        }
        await client.patch(PODS, name, {"metadata": metadata}, namespace)
