"""The webhook that is asked before a Pod is evicted, as a drain of its node does: may this machine be ended?

What isn't obvious: a refusal is not the last word but "ask again later", which is how ``kubectl drain`` takes 429. So a
machine whose strategy is to move, and that cannot, holds up the drain with the reason; one whose strategy is
``External`` is marked, and whoever looks after it moves or ends it. On the host of an endpoint, which nobody drains by
chance, a machine without a strategy stays. All others are let go, and the deletion of their Pod shuts the guest down.
The Pod that has a running machine's hotplugged claims goes after the machine's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyvisor.api.launcher_pods import is_attachment
from polyvisor.api.names import APP_LABEL, FINAL_PHASES, LAUNCHER_APP, EvictionStrategy, VmiCondition
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PODS, VMIS
from polyvisor.kube import ApiError, KubeClient
from polyvisor.process.webhook_paths import EVICT
from polyvisor.server.webhooks import API_VERSION, BadReview, read_review

Obj = dict[str, Any]
LISTED = 10
"""How many machines a refusal names."""
NO_REASON = "nothing has said that it can be moved"


class Evictions:
    """The route. ``configuration`` gives the KubeVirt object's configuration at the time of the call."""

    def __init__(
        self,
        client: KubeClient,
        configuration: Callable[[], Obj],
        told: Callable[[str, bool], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._configuration = configuration
        self._told = told

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(EVICT, self._evict, methods=["POST"])]

    async def _evict(self, request: Request) -> Response:
        try:
            asked = read_review(await request.body())
        except BadReview as error:
            return JSONResponse({"message": str(error)}, status_code=400)
        if asked.get("operation") != "CREATE" or asked.get("subResource") != "eviction":
            return JSONResponse({"message": "a review of the creation of a Pod's eviction is wanted"}, status_code=400)
        why_not = await self.review(asked)
        answer: Obj = {"uid": asked["uid"], "allowed": not why_not}
        if why_not:
            answer["status"] = {"code": 429, "reason": "TooManyRequests", "message": why_not}
        self._told(EVICT, not why_not)
        return JSONResponse({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": answer})

    async def review(self, request: Obj) -> str:
        """Return why the Pod of a review's ``request`` may not be evicted now; empty if it may."""
        name, namespace = str(request.get("name")), str(request.get("namespace"))
        try:
            pod = await self._client.get(PODS, name, namespace)
        except ApiError:
            return ""  # gone, or not to be seen now: not known to be one of ours
        try:
            return await self._judge(pod, dry=_is_dry(request))
        except ApiError as error:
            return f"the machine of Pod {namespace}/{name} cannot be looked at: {error}"

    async def _judge(self, pod: Obj, *, dry: bool) -> str:
        if is_attachment(pod):
            return await self._goes_after(pod)
        vmi = await self._machine(pod)
        if vmi is None:
            return ""
        strategy = nested(vmi, "spec").get("evictionStrategy") or self._configuration().get("evictionStrategy")
        name, namespace = vmi["metadata"]["name"], vmi["metadata"]["namespace"]
        movable, reason = _movable(vmi)
        if strategy == EvictionStrategy.LIVE_MIGRATE and not movable:
            return f"VMI {name} is configured with an eviction strategy but is not live-migratable: {reason}"
        endpoint = str(nested(vmi, "spec", "hypervisor").get("endpoint") or "")
        if endpoint and not strategy and not movable:
            return await self._stays(endpoint, pod)
        waits = strategy == EvictionStrategy.EXTERNAL
        moves = movable and strategy in (EvictionStrategy.LIVE_MIGRATE, EvictionStrategy.LIVE_MIGRATE_IF_POSSIBLE)
        if not (waits or moves):
            return ""
        told = f'Eviction triggered evacuation of VMI "{namespace}/{name}"'  # the descheduler goes by these words
        if read_status(vmi).get("evacuationNodeName"):
            return f"Evacuation in progress: {told}"
        if not dry:
            await self._mark(vmi, pod)
        return told

    async def _stays(self, endpoint: str, pod: Obj) -> str:
        """Return why the machines of a host are not shut down by a drain that nobody said should do that."""
        fields = f"spec.nodeName={nested(pod, 'spec').get('nodeName')}"
        labels = f"{APP_LABEL}={LAUNCHER_APP}"
        pods = await self._client.list(PODS, label_selector=labels, field_selector=fields)
        owned = [(one["metadata"]["namespace"], controller_of(one) or {}) for one in pods if _lives(one)]
        machines = sorted(
            f"{namespace}/{owner['name']}" for namespace, owner in owned if owner.get("kind") == VMIS.kind
        )
        more = f" and {len(machines) - LISTED} more" if len(machines) > LISTED else ""
        return (
            f"these run on the host of endpoint {endpoint} and cannot be moved: {', '.join(machines[:LISTED])}{more}; "
            "stop them, or set evictionStrategy: None for those that a drain may shut down"
        )

    async def _goes_after(self, pod: Obj) -> str:
        """Return why a Pod with claims that a guest writes to has to stay: while the Pod of its machine is there."""
        metadata = pod["metadata"]
        owner = controller_of(pod) or {}
        try:
            launcher = await self._client.get(PODS, str(owner.get("name")), metadata["namespace"])
        except ApiError as error:
            if not error.not_found:
                raise
            return ""
        over = read_status(launcher).get("phase") in FINAL_PHASES
        if over or launcher["metadata"].get("uid") != owner.get("uid"):
            return ""
        return f"it has disks of the machine in Pod {owner['name']}, and goes when that has gone"

    async def _machine(self, pod: Obj) -> Obj | None:
        """Return the machine that still runs in a Pod."""
        metadata = pod["metadata"]
        owner = controller_of(pod) or {}
        phase = read_status(pod).get("phase")
        if owner.get("kind") != VMIS.kind or metadata.get("deletionTimestamp") or phase in FINAL_PHASES:
            return None
        try:
            vmi = await self._client.get(VMIS, owner["name"], metadata["namespace"])
        except ApiError as error:
            if not error.not_found:
                raise
            return None
        if vmi["metadata"].get("uid") != owner.get("uid"):
            return None
        return None if read_status(vmi).get("phase") in FINAL_PHASES else vmi

    async def _mark(self, vmi: Obj, pod: Obj) -> None:
        """Have the machine leave its node, if the Pod is its launcher there.

        Whatever a review says, what is true is read here: the Pod was, and the machine's status names its launchers.
        """
        status, node = vmi.get("status") or {}, nested(pod, "spec").get("nodeName")
        launchers = status.get("activePods") or {}
        if not node or status.get("nodeName") != node or launchers.get(pod["metadata"]["uid"]) != node:
            return
        seen = {key: vmi["metadata"][key] for key in ("uid", "resourceVersion")}
        body = {"metadata": seen, "status": {"evacuationNodeName": node}}
        await self._client.patch(VMIS, vmi["metadata"]["name"], body, vmi["metadata"]["namespace"])


def _lives(pod: Obj) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and read_status(pod).get("phase") not in FINAL_PHASES


def _movable(vmi: Obj) -> tuple[bool, str]:
    """Return whether a machine can be moved while it runs, and why not."""
    for condition in read_status(vmi).get("conditions") or []:
        if condition.get("type") == VmiCondition.LIVE_MIGRATABLE:
            return condition.get("status") == "True", str(condition.get("message") or NO_REASON)
    return False, NO_REASON


def _is_dry(request: Obj) -> bool:
    options = nested(request, "object").get("deleteOptions") or {}
    return bool(request.get("dryRun") or options.get("dryRun"))
