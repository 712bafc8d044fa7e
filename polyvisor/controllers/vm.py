"""The VM controller: keeps a VirtualMachine's one instance as its run strategy asks, and tells how it stands.

The instance has the machine's name, so the API server itself rules out a second one; and before one is made, the
machine is read afresh, so that a start request that was already fulfilled is not fulfilled again from a stale copy.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from polyvisor.api import names
from polyvisor.api.names import EventType, Phase, PrintableStatus, Reason, RunStrategy, StateChangeAction
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import chosen_hypervisor, nested, read_status
from polyvisor.api.resources import VMIS, VMS
from polyvisor.controllers import live_cards, live_cpus, live_media, memory_dump, moved
from polyvisor.controllers import template as template_of
from polyvisor.controllers.adopted import annotations_of_start, let_go
from polyvisor.controllers.data_volumes import make_templates
from polyvisor.controllers.instancetypes import Unusable, capture, expanded, upgrade
from polyvisor.controllers.objects import (
    add_finalizer,
    deleting,
    has_finalizer,
    now,
    owned_by,
    owner_reference,
    phase_of,
    remove_finalizer,
    uid,
)
from polyvisor.controllers.refusals import Refusals
from polyvisor.controllers.revisions import drop_starts, keep_start, start_name
from polyvisor.controllers.vm_decide import Decision, Step, decide, first_request
from polyvisor.controllers.vm_status import compute, instance_failure
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, about, key_of
from polyvisor.placement import permission

if TYPE_CHECKING:
    from polyvisor.admission.instancetypes import Expansion
    from polyvisor.api import Obj
    from polyvisor.controllers.snapshots.classes import SnapshotSupport
    from polyvisor.drivers import DriverRegistry

Key = tuple[str, str]
FIRMWARE_NAMESPACE = UUID("6a1a24a1-4061-4607-8bf4-a3963d0c5895")
"""KubeVirt's namespace for the identity that a machine's firmware shows."""
COPY_LAG_SECONDS = 10.0
"""How long an instance that was just made counts as there although the local copy does not show it."""
TEMPLATE_SECONDS = 15.0
"""How soon to try again to make a machine's DataVolumes."""
REFUSALS = frozenset({400, 403, 422})
"""Answers of the API server that the same request will get again."""


class VmController:
    """Reconciles VirtualMachines; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        drivers: DriverRegistry,
        *,
        vms: Informer,
        vmis: Informer,
        clock: Callable[[], datetime] = now,
        authorize: bool = False,
        snapshots: SnapshotSupport | None = None,
        workers: int = 4,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._drivers = drivers
        self._vms, self._vmis = vms, vmis
        self._authorize = authorize
        self._snapshots = snapshots
        self._clock = clock
        self._made: dict[Key, tuple[Obj, float]] = {}
        self._refusals = Refusals()
        self._templated: dict[Key, tuple[str, Any]] = {}
        self._current_revisions: dict[Key, set[str]] = {}
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-vm", self.queue, self.reconcile, workers)
        vms.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        vmis.on_change(self._instance_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one machine a step further; return the seconds after which to look again."""
        vm = self._vms.get(*key)
        if vm is None:
            self._refusals.forget(key)
            self._templated.pop(key, None)
            self._current_revisions.pop(key, None)
            return None
        about.work_with(vm)
        vmi = self._vmis.get(*key) or self._expected_instance(key)
        if deleting(vm):
            await self._delete(vm, vmi)
            return None
        if not has_finalizer(vm, names.VM_FINALIZER):
            held = copy.deepcopy(vm)
            add_finalizer(held, names.VM_FINALIZER)
            vm = await self._client.update(VMS, held)
            self._vms.learn(vm)
        if vmi is not None and not owned_by(vmi, vm):
            adopted = await self._adopt(vm, vmi)
            if adopted is None:
                return None
            vmi = adopted
        unusable: Unusable | None = None
        try:
            vm = await capture(self._client, vm)
            vm = await upgrade(self._client, vm, self._current_revisions.setdefault(key, set()))
        except Unusable as error:
            unusable = error
        if vmi is not None and unusable is None:
            vmi = await self._change(vm, vmi, "network cards", self._cards)
            vmi = await self._change(vm, vmi, "discs", self._media)
            vmi = await self._change(vm, vmi, "CPUs", self._cpus)
        trouble = await self._templates(vm, key)
        decision = decide(vm, vmi, self._clock())
        generation = int(vm["metadata"].get("generation") or 0)
        starting = decision.step is Step.START
        if trouble and starting:
            await self._write_status(vm, vmi, (Reason.FAILED_DATA_VOLUME_CREATE, trouble))
            return TEMPLATE_SECONDS
        if starting and (standing := self._refusals.standing(key, generation)) is not None:
            wait, words = standing
            await self._write_status(vm, vmi, (unusable.reason if unusable else Reason.FAILED_CREATE, words))
            return wait
        failure: tuple[str, str] | None = None
        problem: ApiError | None = None
        again = decision.again
        ended = self._tell_of_failure(vm, vmi, decision)
        try:
            if starting and unusable is not None:
                raise unusable
            vm, vmi = await self._take(decision, vm, vmi)
        except Unusable as error:
            failure, again = (error.reason, str(error)), self._refusals.note(key, generation, str(error))
            self._recorder.event(vm, EventType.WARNING, error.reason, str(error))
        except ApiError as error:
            if error.conflict:
                raise
            failure = (Reason.FAILED_CREATE if starting else Reason.FAILED_DELETE, str(error))
            if starting and error.code in REFUSALS:
                again = self._refusals.note(key, generation, str(error))
            else:
                problem = error
        if vm is None:
            return None
        if not starting:
            vm, vmi = await memory_dump.carry_out(self._client, vm, vmi)
            if not self._authorize:  # in a cluster a machine's writer may not be allowed to delete claims
                vm = await moved.settle(self._client, self._recorder, vm, vmi) or vm
        await self._write_status(vm, vmi, failure, settled=failure is None and again is None, ended=ended)
        if problem is not None:
            raise problem
        return again

    async def _templates(self, vm: Obj, key: Key) -> str:
        """Make the DataVolumes that the machine has templates for, once for each of its generations and starts."""
        stamp = (uid(vm), vm["metadata"].get("generation"))
        starts = decide(vm, self._vmis.get(*key), self._clock()).step is Step.START
        if not vm["spec"].get("dataVolumeTemplates") or (self._templated.get(key) == stamp and not starts):
            return ""
        trouble = await make_templates(self._client, self._recorder, vm, authorize=self._authorize)
        if not trouble:
            self._templated[key] = stamp
        return trouble

    async def _take(self, decision: Decision, vm: Obj, vmi: Obj | None) -> tuple[Any, Obj | None]:
        """Take the step; return the machine and the instance after it (None for a machine that is out of date)."""
        match decision.step:
            case Step.START:
                return await self._start(vm)
            case Step.STOP if vmi is not None:
                return vm, await self._stop(vm, vmi)
            case Step.STOP_THEN_START if vmi is not None:
                changed = copy.deepcopy(vm)
                changed["status"] = compute(changed, vmi, None, self._clock())
                changed["status"].setdefault("stateChangeRequests", []).append({"action": str(StateChangeAction.START)})
                vm = await self._client.update_status(VMS, changed)
                return vm, await self._stop(vm, vmi)
            case Step.SWITCH_ON:
                changed = copy.deepcopy(vm)
                if changed["spec"].pop("running", None) is None:
                    changed["spec"]["runStrategy"] = str(RunStrategy.ALWAYS)
                else:
                    changed["spec"]["running"] = True
                await self._client.update(VMS, changed)
                return None, None
        return vm, vmi

    async def _start(self, vm: Obj) -> tuple[Obj | None, Obj | None]:
        fresh = await self._client.get(VMS, vm["metadata"]["name"], vm["metadata"]["namespace"])
        if fresh["metadata"].get("resourceVersion") != vm["metadata"].get("resourceVersion"):
            return None, None
        vm, expansion = await expanded(self._client, vm)
        await keep_start(self._client, vm)
        try:
            made = await self._client.create(VMIS, instance_of(vm, expansion))
        except ApiError as error:
            if error.already_exists:
                return None, None
            self._recorder.event(
                vm, EventType.WARNING, Reason.FAILED_CREATE, f"Error creating virtual machine instance: {error}"
            )
            raise
        key = key_of(made)
        self._refusals.forget(key)
        if self._vmis.get(*key) is None:
            self._made[key] = (made, time.monotonic())
        what = f"Started the virtual machine by creating the new virtual machine instance {made['metadata']['name']}"
        self._recorder.event(vm, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, what)
        await drop_starts(self._client, vm)
        return vm, made

    async def _change(self, vm: Obj, vmi: Obj, what: str, step: Callable[[Obj, Obj], Awaitable[Obj | None]]) -> Obj:
        """Change a running instance as ``step`` has it; return it as it is after that. A refusal is told."""
        if phase_of(vmi) != Phase.RUNNING or deleting(vmi):
            return vmi
        try:
            new = await step(vm, vmi)
            if new is None:
                return vmi
            changed = await self._client.update(VMIS, new)
        except (Unusable, ApiError) as error:
            if isinstance(error, ApiError) and (error.conflict or error.code not in REFUSALS):
                raise
            told = f"{what} cannot be changed while the machine runs: {error}"
            self._recorder.event(vm, EventType.WARNING, Reason.FAILED_UPDATE, told)
            return vmi
        self._vmis.learn(changed)
        return changed

    async def _cards(self, vm: Obj, vmi: Obj) -> Obj | None:
        """Return the instance with its network cards as the template has them now, None if there is nothing to do."""
        driver = self._drivers.get(str(chosen_hypervisor(vmi).get("driver")))
        if driver is None or not live_cards.due(vm, vmi):
            return None
        _, expansion = await expanded(self._client, vm)
        return live_cards.step(vm, expansion.spec, vmi, driver)

    async def _cpus(self, vm: Obj, vmi: Obj) -> Obj | None:
        """Return the instance with as many CPU sockets as the template has now, None if there is nothing to do."""
        driver = self._drivers.get(str(chosen_hypervisor(vmi).get("driver")))
        return live_cpus.step(vm, vmi, driver) if driver is not None and live_cpus.due(vm, vmi) else None

    @staticmethod
    async def _media(vm: Obj, vmi: Obj) -> Obj | None:
        """Return the instance with the discs in its drives as the template has them now."""
        return live_media.step(vm, vmi)

    async def _stop(self, vm: Obj, vmi: Obj) -> Obj | None:
        if deleting(vmi):
            return vmi
        name = vmi["metadata"]["name"]
        try:
            await self._client.delete(VMIS, name, vmi["metadata"]["namespace"], uid=uid(vmi))
        except ApiError as error:
            if error.not_found:
                return None
            self._recorder.event(
                vm, EventType.WARNING, Reason.FAILED_DELETE, f"Error deleting virtual machine instance {name}: {error}"
            )
            raise
        what = f"Stopped the virtual machine by deleting the virtual machine instance {name}"
        self._recorder.event(vm, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, what)
        gone = copy.deepcopy(vmi)
        gone["metadata"]["deletionTimestamp"] = self._clock().isoformat()
        return gone

    async def _delete(self, vm: Obj, vmi: Obj | None) -> None:
        if not has_finalizer(vm, names.VM_FINALIZER):
            return
        if not has_finalizer(vm, names.ORPHAN_FINALIZER):
            vmi = vmi or await self._live_instance(vm)
            if vmi is not None and owned_by(vmi, vm):
                if not deleting(vmi) and (kept := let_go(vm, vmi)) is not None:
                    vmi = await self._client.update(VMIS, kept)
                vmi = await self._stop(vm, vmi)
                if read_status(vm).get("printableStatus") != PrintableStatus.TERMINATING:
                    await self._write_status(vm, vmi, None)
                return
        released = copy.deepcopy(vm)
        remove_finalizer(released, names.VM_FINALIZER)
        try:
            await self._client.update(VMS, released)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _live_instance(self, vm: Obj) -> Obj | None:
        try:
            return await self._client.get(VMIS, vm["metadata"]["name"], vm["metadata"]["namespace"])
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _adopt(self, vm: Obj, vmi: Obj) -> Obj | None:
        if deleting(vmi):
            return None
        if controller_of(vmi) is not None:
            what = f"VirtualMachineInstance {vmi['metadata']['name']} exists and belongs to another object"
            await self._write_status(vm, None, (Reason.FAILED_CREATE, what))
            return None
        taken = copy.deepcopy(vmi)
        taken["metadata"].setdefault("ownerReferences", []).append(owner_reference(vm, VMS))
        return await self._client.update(VMIS, taken)

    def _tell_of_failure(self, vm: Obj, vmi: Obj | None, decision: Decision) -> tuple[str, str] | None:
        """Return why the instance failed; tell it of the machine, for the instance and its Events are soon gone."""
        ended = instance_failure(vmi)
        if ended is not None and decision.step in (Step.STOP, Step.STOP_THEN_START):
            self._recorder.event(vm, EventType.WARNING, *ended)
        return ended

    async def _write_status(
        self,
        vm: Obj,
        vmi: Obj | None,
        failure: tuple[str, str] | None,
        *,
        settled: bool = False,
        ended: tuple[str, str] | None = None,
    ) -> None:
        snapshots = await self._snapshots.statuses(vm) if self._snapshots is not None else None
        status = compute(vm, vmi, failure, self._clock(), settled=settled, ended=ended, snapshots=snapshots)
        if status != vm.get("status"):
            self._vms.learn(await self._client.update_status(VMS, vm | {"status": status}))

    def _expected_instance(self, key: Key) -> Obj | None:
        """Return an instance that was made a moment ago and is not in the local copy yet."""
        made, at = self._made.get(key, (None, 0.0))
        if made is None or time.monotonic() - at > COPY_LAG_SECONDS:
            self._made.pop(key, None)
            return None
        return made

    def _instance_changed(self, old: Obj | None, new: Obj | None) -> None:
        key = key_of(new or old or {})
        self._made.pop(key, None)
        self.queue.add(key)


def instance_of(vm: Obj, expansion: Expansion) -> Obj:
    """Return the instance that a machine's template describes, with its instance type and preference."""
    metadata = vm["spec"]["template"].get("metadata") or {}
    spec: Obj = copy.deepcopy(expansion.spec)
    memory_dump.of_new_instance(vm, spec)
    firmware = spec.setdefault("domain", {}).setdefault("firmware", {})
    firmware.setdefault("uuid", str(uuid5(FIRMWARE_NAMESPACE, uid(vm))))
    request = first_request(vm) or {}
    if nested(request, "data").get("paused") == "true":
        spec["startStrategy"] = "Paused"
    annotations = annotations_of_start(vm, dict(expansion.annotations))
    annotations |= {names.INSTANCETYPE_ANNOTATIONS[s.resource.kind]: s.name for s in expansion.sources.values()}
    annotations[names.VM_GENERATION_ANNOTATION] = str(vm["metadata"].get("generation") or 1)
    annotations[names.TEMPLATE_ANNOTATION] = template_of.digest(vm)
    made: Obj = {
        "apiVersion": VMIS.api_version,
        "kind": VMIS.kind,
        "metadata": {
            "name": vm["metadata"]["name"],
            "namespace": vm["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": annotations,
            "finalizers": [names.VMI_FINALIZER],
            "ownerReferences": [owner_reference(vm, VMS)],
        },
        "spec": spec,
        "status": {"virtualMachineRevisionName": start_name(vm)},
    }
    permission.hand_on(vm, made)
    return made
