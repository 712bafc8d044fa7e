"""The launcher Pods bound to an endpoint's Node: the agent plays their kubelet, though nothing runs in them.

A Pod is Running as long as its machine may be on the host, and is over when the machine is. Pods that are nobody's
launcher fail with a reason, since no container can run there.
"""

from __future__ import annotations

from collections.abc import Callable

from polyvisor.agent.live.status import pod_ended, pod_refused, pod_status
from polyvisor.agent.node.registration import now
from polyvisor.api import Obj
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.resources import PODS
from polyvisor.kube import ApiError, Informer, KubeClient

IDLE = "this Node stands for a hypervisor host and runs launcher Pods of virtual machines only"


class HostPods:
    """Writes the Pods' statuses; ``address`` is what they show as theirs."""

    def __init__(self, client: KubeClient, pods: Informer, address: Callable[[], str]) -> None:
        self._client = client
        self._pods = pods
        self._address = address

    async def running(self, pod: Obj, address: str = "") -> None:
        """Show that a machine is taken care of; ``address`` is the guest's, where it is known."""
        started = (pod.get("status") or {}).get("startTime") or now()
        state = {"running": {"startedAt": started}}
        status = pod_status(pod, phase="Running", address=self._address(), container_state=state, started_at=started)
        if address:
            status["podIP"], status["podIPs"] = address, [{"ip": address}]
        await self._write(pod, status)

    async def waiting(self, pod: Obj, reason: str, message: str) -> None:
        """Show why a machine cannot be begun now."""
        waiting = {"waiting": {"reason": reason, "message": message[:1000]}}
        await self._write(pod, pod_status(pod, phase="Pending", address=self._address(), container_state=waiting))

    async def over(self, pod: Obj, phase: str) -> None:
        """Show how a machine ended."""
        if (pod.get("status") or {}).get("phase") in FINAL_PHASES:
            return
        await self._write(pod, pod_ended(pod, phase, self._address()))

    async def refuse(self, pod: Obj) -> None:
        """Fail a Pod that does not belong here."""
        if (pod.get("status") or {}).get("phase") in FINAL_PHASES:
            return
        await self._write(pod, pod_refused(pod, IDLE, self._address()))

    async def remove(self, pod: Obj) -> None:
        """Let a Pod go whose deletion was asked for: nothing of it is left."""
        metadata = pod["metadata"]
        try:
            await self._client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period_seconds=0, uid=metadata["uid"]
            )
        except ApiError as error:
            if not error.not_found and not error.conflict:
                raise

    async def _write(self, pod: Obj, status: Obj) -> None:
        if status != (pod.get("status") or {}):
            self._pods.learn(await self._client.update_status(PODS, {**pod, "status": status}))
