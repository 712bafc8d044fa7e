"""Evacuation: an instance whose Pod was to be evicted, and whose strategy is to move, gets a migration.

The eviction webhook writes ``status.evacuationNodeName`` and refuses the eviction for the moment, so that a drain asks
again until the Pod's guest has gone elsewhere. One migration at a time is made for an instance; how long to wait after
a failure, and how many run at once, is the migration controller's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.api.migrations import EVACUATION_ANNOTATION, EVACUATION_PREFIX, is_over, may_move, vmi_name
from polyvisor.api.names import EventType, EvictionStrategy, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.api.resources import MIGRATIONS
from polyvisor.controllers.migration import VMI_INDEX
from polyvisor.controllers.objects import condition_is, deleting
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
LOOK_SECONDS = 5.0
MOVES = (EvictionStrategy.LIVE_MIGRATE, EvictionStrategy.LIVE_MIGRATE_IF_POSSIBLE)


class EvacuationController:
    """Reconciles one instance at a time; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        vmis: Informer,
        migrations: Informer,
        settings: Callable[[], Obj],
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._vmis, self._migrations = vmis, migrations
        self._settings = settings
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-evacuation", self.queue, self.reconcile, 1)
        vmis.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Have an instance moved that is to leave its node; return the seconds after which to look again."""
        vmi = self._vmis.get(*key)
        if vmi is None or not leaves(vmi, str(self._settings().get("evictionStrategy") or "")):
            return None
        at_it = self._migrations.by_index(VMI_INDEX, "/".join(key))
        if any(not is_over(one) for one in at_it):
            return LOOK_SECONDS
        for one in await self._client.list(MIGRATIONS, key[0]):
            if vmi_name(one) == key[1] and not is_over(one):
                return LOOK_SECONDS  # the local copy is behind
        try:
            made = await self._client.create(MIGRATIONS, evacuation_of(vmi))
        except ApiError as error:
            self._recorder.event(vmi, EventType.WARNING, "FailedCreate", f"Error creating a Migration: {error}")
            raise
        self._migrations.learn(made)
        what = f"Created Migration {made['metadata']['name']}"
        self._recorder.event(vmi, EventType.NORMAL, "SuccessfulCreate", what)
        return LOOK_SECONDS


def leaves(vmi: Obj, configured: str) -> bool:
    """Whether an instance is to leave its node, and by a migration; ``configured`` is the cluster's strategy."""
    status = read_status(vmi)
    node = status.get("evacuationNodeName")
    strategy = vmi["spec"].get("evictionStrategy") or configured
    movable = condition_is(vmi, VmiCondition.LIVE_MIGRATABLE)
    wanted = bool(node) and node == status.get("nodeName") and strategy in MOVES
    return wanted and movable and may_move(vmi) and not deleting(vmi)


def evacuation_of(vmi: Obj) -> Obj:
    """Return the migration that takes an instance from the node that it is to leave."""
    metadata = vmi["metadata"]
    return {
        "apiVersion": MIGRATIONS.api_version,
        "kind": MIGRATIONS.kind,
        "metadata": {
            "generateName": EVACUATION_PREFIX,
            "namespace": metadata["namespace"],
            "annotations": {EVACUATION_ANNOTATION: str(read_status(vmi).get("evacuationNodeName"))},
        },
        "spec": {"vmiName": metadata["name"]},
    }
