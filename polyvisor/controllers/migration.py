"""The migration controller: one VirtualMachineInstanceMigration from its making to the guest's going on elsewhere.

It makes the target's Pod, tells both nodes' agents by ``status.migrationState`` of the instance, and follows what the
source's agent writes there. What isn't obvious: it may declare a migration failed at any moment, because the source's
agent writes "completed" on the same object and the API server lets only one of the two writes through.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.api.migrations import (
    FINALIZER,
    JOB_LABEL,
    PENDING_SECONDS_ANNOTATION,
    UNSCHEDULABLE_SECONDS_ANNOTATION,
    MigrationPhase,
    awaits_hand_over,
    is_evacuation,
    is_moving,
    is_over,
    job_of,
    migration_phase,
    runs_in,
    state_of,
    vmi_name,
)
from polyvisor.api.names import FINAL_PHASES, EventType, Phase, PodPhase, Reason, VmiCondition
from polyvisor.api.reading import annotations_of, chosen_hypervisor, read_status
from polyvisor.api.resources import MIGRATIONS, PODS, VMIS
from polyvisor.api.volumes import claims_of
from polyvisor.controllers import migration_limits as limits
from polyvisor.controllers import migration_status as status_of
from polyvisor.controllers import vmi_status
from polyvisor.controllers.attachments import OWNER_INDEX
from polyvisor.controllers.cpu_limits import limits_cpus
from polyvisor.controllers.launcher_pod import build_pod, is_launcher
from polyvisor.controllers.migration_pod import same_hypervisor, target_pod
from polyvisor.controllers.objects import condition, deleting, has_finalizer, moment, now, remove_finalizer, uid
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, about, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.controllers.vmi import VmiController

Key = tuple[str, str]
VMI_INDEX = "vmi"
OF_VMI = "vmi/"
"""Before an instance's name in a key: a move without a migration."""
LOOK_SECONDS = 5.0
"""After how long a migration that waits for others, or for room, is looked at again."""


class MigrationController:
    """Reconciles migrations; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        placer: VmiController,
        *,
        migrations: Informer,
        vmis: Informer,
        pods: Informer,
        nodes: Informer,
        claims: Informer,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._placer = placer
        self._migrations, self._vmis, self._pods = migrations, vmis, pods
        self._nodes, self._claims = nodes, claims
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-migration", self.queue, self.reconcile, 4)
        migrations.add_index(VMI_INDEX, lambda one: [f"{one['metadata']['namespace']}/{vmi_name(one)}"])
        migrations.on_change(self._migration_changed)
        vmis.on_change(lambda old, new: self._look_at(new or old or {}))
        pods.on_change(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one migration a step further; return the seconds after which to look again."""
        migration = self._migrations.get(*key)
        if migration is None:
            await self._orphaned(key)
            return None
        about.work_on(self._controller.name, key)
        vmi = self._vmis.get(key[0], vmi_name(migration))
        if is_over(migration):
            return await self._clear_up(migration, vmi)
        changed = copy.deepcopy(migration)
        again = await self._step(changed, vmi)
        await self._write(migration, changed)
        return again

    async def _step(self, migration: Obj, vmi: Obj | None) -> float | None:
        at = self._clock()
        if not migration_phase(migration):
            status_of.enter(migration, MigrationPhase.PENDING, at)
            return None
        if vmi is None or read_status(vmi).get("phase") in FINAL_PHASES:
            self._fail(migration, "the instance has ended" if vmi else "there is no such instance")
            return None
        ours = state_of(vmi).get("migrationUid") == uid(migration)
        if ours:
            return await self._watch(migration, vmi)
        if deleting(migration):
            self._fail(migration, "the migration was given up before its target was ready")
            return None
        if migration_phase(migration) == MigrationPhase.PENDING:
            return await self._begin(migration, vmi)
        return await self._schedule(migration, vmi)

    async def _begin(self, migration: Obj, vmi: Obj) -> float | None:
        """Make the target's Pod once the instance can move and nobody else is before it."""
        movable = condition(vmi, VmiCondition.LIVE_MIGRATABLE)
        if movable is not None and movable.get("status") == "False":
            self._fail(migration, f"VMI is not migratable: {movable.get('message')}")
            return None
        if read_status(vmi).get("phase") != Phase.RUNNING or movable is None:
            return LOOK_SECONDS
        if self._waits(migration, vmi):
            return LOOK_SECONDS
        if left := self._back_off(migration, vmi):
            what = "Not creating the target Pod yet: the last evacuation failed"
            self._recorder.event(migration, EventType.WARNING, "MigrationBackoff", what)
            return left
        pod = await self._pod_for(migration, vmi)
        if pod is None:
            return LOOK_SECONDS
        try:
            made = await self._client.create(PODS, pod)
        except ApiError as error:
            if error.already_exists:
                status_of.enter(migration, MigrationPhase.SCHEDULING, self._clock())
                return None
            self._recorder.event(migration, EventType.WARNING, Reason.FAILED_CREATE, f"Error creating pod: {error}")
            if error.code != 403 or "quota" not in error.message:
                raise
            status_of.rejected(
                migration, f"the namespace's quota has no room for the target Pod: {error}", self._clock()
            )
            return LOOK_SECONDS
        status_of.rejected(migration, "", self._clock())
        status_of.enter(migration, MigrationPhase.SCHEDULING, self._clock())
        what = f"Created migration target pod {made['metadata']['name']}"
        self._recorder.event(migration, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, what)
        return None

    async def _pod_for(self, migration: Obj, vmi: Obj) -> Obj | None:
        """Return the target's Pod, None while no node can have it; the migration's status says why then."""
        given = self._placer.settings()
        config: Obj = given.get("configuration") or {}
        spec = same_hypervisor(vmi, VirtualMachineInstanceSpec.model_validate(vmi["spec"]))
        placement = self._placer.place(vmi, spec, config, {})
        if placement.driver is None:
            self._recorder.event(migration, EventType.WARNING, Reason.NO_DRIVER, placement.explain())
            return None
        named = {name: self._claims.get(vmi["metadata"]["namespace"], name) for name in claims_of(vmi["spec"])}
        claims = {name: claim for name, claim in named.items() if claim is not None}
        limit = await limits_cpus(self._client, vmi, config)
        plain = VirtualMachineInstanceSpec.model_validate(vmi["spec"])
        pod = build_pod(vmi, plain, placement, given, claims, cpu_limit=limit)
        source = self._nodes.get(None, str(read_status(vmi).get("nodeName") or ""))
        chosen = chosen_hypervisor(vmi).get("virtType")
        return target_pod(pod, vmi, migration, source, emulated=chosen in placement.driver.emulated_virt_types)

    def _waits(self, migration: Obj, vmi: Obj) -> bool:
        """Whether another migration is before this one: of the same instance, or too many of the node or cluster."""
        given = status_of.settings(self._placer.settings().get("configuration") or {})
        return limits.waits(migration, vmi, self._migrations.items(), self._node_of, given)

    def _back_off(self, migration: Obj, vmi: Obj) -> float:
        """Return for how many seconds an evacuation waits because those before it failed."""
        if not is_evacuation(migration):
            return 0.0
        return limits.back_off(vmi, self._migrations.items(vmi["metadata"]["namespace"]), self._clock())

    async def _schedule(self, migration: Obj, vmi: Obj) -> float | None:
        """Wait until the target's Pod is at work; tell both nodes then."""
        at = self._clock()
        pod = self._target(migration, vmi)
        if pod is None:
            if not await self._exists(migration, vmi):
                self._fail(migration, "the target Pod is gone")
            return LOOK_SECONDS
        if vmi_status.pod_is_final(pod) or deleting(pod):
            self._fail(migration, f"the target Pod ended: {vmi_status.pod_failure(pod)}")
            return None
        if not vmi_status.pod_at_work(pod):
            return self._pending(migration, pod, at)
        source = next((p for p in self._launchers(vmi) if runs_in(p, vmi)), None)
        if is_moving(vmi) or awaits_hand_over(vmi) or source is None:
            return LOOK_SECONDS
        status_of.enter(migration, MigrationPhase.SCHEDULED, at)
        changed = copy.deepcopy(vmi)
        name = source["metadata"]["name"]
        config = self._placer.settings().get("configuration") or {}
        status_of.hand_to_nodes(changed, pod, migration, name, config)
        self._vmis.learn(await self._client.update_status(VMIS, changed))
        status_of.follow(migration, changed, at)
        what = f"Migration Target is connected to node {pod['spec']['nodeName']}"
        self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_HAND_OVER, what)
        return None

    def _pending(self, migration: Obj, pod: Obj, at: datetime) -> float | None:
        """Return when to look again at a target's Pod that does not run yet; one that takes too long has failed."""
        made = moment(pod["metadata"].get("creationTimestamp")) or at
        waited = (at - made).total_seconds()
        refused = condition(pod, "PodScheduled") or {}
        nowhere = refused.get("status") == "False" and refused.get("reason") == Reason.UNSCHEDULABLE
        given = annotations_of(migration)
        limit = _seconds(given.get(PENDING_SECONDS_ANNOTATION), status_of.PENDING_SECONDS)
        if nowhere:
            limit = min(limit, _seconds(given.get(UNSCHEDULABLE_SECONDS_ANNOTATION), status_of.UNSCHEDULABLE_SECONDS))
        if waited < limit:
            return min(limit - waited, LOOK_SECONDS)
        if nowhere:
            self._fail(migration, f"the target Pod found no node in {limit:.0f} s: {refused.get('message')}")
        else:
            trouble = vmi_status.container_trouble(pod)
            why = f": {trouble[1]}" if trouble else ""
            self._fail(migration, f"the target Pod did not run in {limit:.0f} s{why}")
        return None

    async def _watch(self, migration: Obj, vmi: Obj) -> float | None:
        """Follow what the source's agent writes; give the migration up if it is to be, or if its target is lost."""
        at = self._clock()
        before = migration_phase(migration)
        if not is_moving(vmi):
            status_of.follow(migration, vmi, at)
            self._told(migration, vmi, before)
            return None
        pod = self._target(migration, vmi)
        changed = copy.deepcopy(vmi)
        if pod is None or vmi_status.pod_is_final(pod) or deleting(pod):
            why = "the target Pod is gone" if pod is None else f"the target Pod ended: {vmi_status.pod_failure(pod)}"
            status_of.give_up(changed, why, at)
        elif deleting(migration):
            status_of.aborting(migration, at)
            changed["status"]["migrationState"]["abortRequested"] = True
            if not state_of(vmi).get("startTimestamp"):  # else the source's agent stops what it has begun
                status_of.give_up(changed, "the migration was given up before it began", at)
        if changed != vmi:
            self._vmis.learn(await self._client.update_status(VMIS, changed))
        status_of.follow(migration, changed, at)
        self._told(migration, changed, before)
        return LOOK_SECONDS

    def _told(self, migration: Obj, vmi: Obj, before: str) -> None:
        """Make the Event of a migration that has just ended."""
        phase = migration_phase(migration)
        if phase == before:
            return
        if phase == MigrationPhase.SUCCEEDED:
            what = "Source node reported migration succeeded"
            self._recorder.event(migration, EventType.NORMAL, "SuccessfulMigration", what)
        elif phase == MigrationPhase.FAILED:
            why = state_of(vmi).get("failureReason")
            self._recorder.event(migration, EventType.WARNING, "FailedMigration", f"source node reported {why}")

    async def _clear_up(self, migration: Obj, vmi: Obj | None) -> float | None:
        """Take away what a migration leaves that is over: a target's Pod without a guest, its hold on the object."""
        if vmi is not None:
            doomed = [p for p in self._launchers(vmi) if job_of(p) == uid(migration) and not runs_in(p, vmi)]
            moving = state_of(vmi).get("migrationUid") == uid(migration)
            if moving and state_of(vmi).get("completed") and not state_of(vmi).get("failed"):
                doomed = []  # the instance is about to be handed over
            elif read_status(vmi).get("phase") not in FINAL_PHASES:
                changed = copy.deepcopy(vmi)
                held = {uid(pod) for pod in doomed}
                stale = [one for one in read_status(vmi).get("activePods") or {} if one in held]
                if stale:
                    status_of.let_go(changed, stale)
                    self._vmis.learn(await self._client.update_status(VMIS, changed))
            for pod in doomed:
                if not deleting(pod):
                    await self._delete(pod)
        if deleting(migration) and has_finalizer(migration, FINALIZER):
            released = copy.deepcopy(migration)
            remove_finalizer(released, FINALIZER)
            await self._client.update(MIGRATIONS, released)
        return None

    async def _delete(self, pod: Obj) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        try:
            await self._client.delete(
                PODS, name, namespace, grace_period_seconds=0 if not _ran(pod) else None, uid=uid(pod)
            )
        except ApiError as error:
            if not error.not_found:
                raise

    def _fail(self, migration: Obj, why: str) -> None:
        status_of.enter(migration, MigrationPhase.FAILED, self._clock())
        migration["status"].setdefault("migrationState", {})["failureReason"] = why
        self._recorder.event(migration, EventType.WARNING, "FailedMigration", why[:1].upper() + why[1:])

    def _launchers(self, vmi: Obj) -> list[Obj]:
        return [p for p in self._pods.by_index(OWNER_INDEX, uid(vmi)) if is_launcher(p, vmi)]

    def _target(self, migration: Obj, vmi: Obj) -> Obj | None:
        return next((p for p in self._launchers(vmi) if job_of(p) == uid(migration)), None)

    async def _exists(self, migration: Obj, vmi: Obj) -> bool:
        selector = f"{JOB_LABEL}={uid(migration)}"
        return bool(await self._client.list(PODS, vmi["metadata"]["namespace"], label_selector=selector))

    def _node_of(self, migration: Obj) -> str:
        """Return the node from which a migration's instance moves."""
        vmi = self._vmi_of(migration)
        return str(read_status(vmi).get("nodeName") or "") if vmi is not None else ""

    def _vmi_of(self, migration: Obj) -> Obj | None:
        return self._vmis.get(migration["metadata"]["namespace"], vmi_name(migration))

    async def _write(self, before: Obj, after: Obj) -> None:
        if after.get("status") != before.get("status"):
            self._migrations.learn(await self._client.update_status(MIGRATIONS, after))

    async def _orphaned(self, key: Key) -> None:
        """Give up the move of an instance whose migration was taken away by force; ``key`` has the instance's name."""
        vmi = self._vmis.get(key[0], key[1].removeprefix(OF_VMI)) if key[1].startswith(OF_VMI) else None
        if vmi is None or not is_moving(vmi):
            return
        job, selector = state_of(vmi)["migrationUid"], f"{JOB_LABEL}={state_of(vmi)['migrationUid']}"
        if any(uid(one) == job for one in await self._client.list(MIGRATIONS, key[0])):
            return
        changed = copy.deepcopy(vmi)
        status_of.give_up(changed, "the migration was deleted", self._clock())
        pods = await self._client.list(PODS, key[0], label_selector=selector)
        status_of.let_go(changed, map(uid, pods))
        self._vmis.learn(await self._client.update_status(VMIS, changed))
        for pod in pods:
            await self._delete(pod)

    def _look_at(self, vmi: Obj) -> None:
        key = key_of(vmi)
        for migration in (found := self._migrations.by_index(VMI_INDEX, "/".join(key))):
            self.queue.add(key_of(migration))
        if is_moving(vmi) and all(uid(one) != state_of(vmi)["migrationUid"] for one in found):
            self.queue.add((key[0], OF_VMI + key[1]))

    def _migration_changed(self, old: Obj | None, new: Obj | None) -> None:
        self.queue.add(key_of(new or old or {}))
        if new is None and (vmi := self._vmi_of(old or {})) is not None:
            self._look_at(vmi)
        if new is None or is_over(new):
            for one in self._migrations.items():
                if migration_phase(one) == MigrationPhase.PENDING:
                    self.queue.add(key_of(one))

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old or {"metadata": {}}
        if job_of(pod):
            for migration in self._migrations.items(pod["metadata"]["namespace"]):
                if uid(migration) == job_of(pod):
                    self.queue.add(key_of(migration))


def _ran(pod: Obj) -> bool:
    return read_status(pod).get("phase") not in ("", PodPhase.PENDING)


def _seconds(given: str | None, default: float) -> float:
    try:
        return float(given) if given else default
    except ValueError:
        return default
