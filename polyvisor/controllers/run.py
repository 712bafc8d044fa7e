"""Starting all controllers over one set of informers, as one task that can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Protocol

from polyvisor.api import names
from polyvisor.api.cluster_resources import DISRUPTION_BUDGETS
from polyvisor.api.launcher_pods import ATTACHMENT_APP
from polyvisor.api.resources import (
    CLONES,
    KUBEVIRTS,
    MIGRATIONS,
    NODES,
    PODS,
    POOLS,
    PVCS,
    REPLICA_SETS,
    RESTORES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    VMIS,
    VMS,
)
from polyvisor.controllers.budgets import BudgetController
from polyvisor.controllers.clones import CloneController
from polyvisor.controllers.evacuation import EvacuationController
from polyvisor.controllers.kubevirt import KubeVirtController
from polyvisor.controllers.migration import MigrationController
from polyvisor.controllers.nodes import NodeController
from polyvisor.controllers.offers import Offers
from polyvisor.controllers.pools import PoolController
from polyvisor.controllers.replica_set import ReplicaSetController
from polyvisor.controllers.snapshots import RestoreController, SnapshotClasses, SnapshotController
from polyvisor.controllers.snapshots.classes import SnapshotSupport
from polyvisor.controllers.vm import VmController
from polyvisor.controllers.vmi import GIVE_WAY_SECONDS, VmiController
from polyvisor.kube import EventRecorder, Informer, KubeClient

if TYPE_CHECKING:
    from polyvisor.drivers import DriverRegistry

RESYNC_SECONDS = 600.0


class Runs(Protocol):
    """A controller, as far as this module is concerned."""

    async def run(self) -> None:
        """Work until cancelled."""


async def run_controllers(
    client: KubeClient,
    registry: DriverRegistry,
    *,
    many_nodes: bool = False,
    give_way_seconds: float = GIVE_WAY_SECONDS,
    ready: asyncio.Event | None = None,
    measure: Callable[..., AbstractContextManager[object]] | None = None,
) -> None:
    """Run all controllers until cancelled; set ``ready`` when they have seen the cluster.

    With ``many_nodes`` those for what only a cluster has: nodes that fail and nodes that are drained; the KubeVirt
    object's status is virt-operator's then. ``measure``
    is given the informers and drivers as :class:`~polyvisor.controllers.metrics.MachineMetrics` takes them, and lives
    as long as the controllers.
    """
    ours = f"{names.APP_LABEL} in ({names.LAUNCHER_APP},{ATTACHMENT_APP})"
    vms = Informer(client, VMS, resync_seconds=RESYNC_SECONDS)
    vmis = Informer(client, VMIS, resync_seconds=RESYNC_SECONDS)
    pods = Informer(client, PODS, label_selector=ours)
    nodes, claims, kubevirts = Informer(client, NODES), Informer(client, PVCS), Informer(client, KUBEVIRTS)
    replica_sets = Informer(client, REPLICA_SETS, resync_seconds=RESYNC_SECONDS)
    pools = Informer(client, POOLS, resync_seconds=RESYNC_SECONDS)
    snapshots, contents = Informer(client, SNAPSHOTS), Informer(client, SNAPSHOT_CONTENTS)
    restores, clones = Informer(client, RESTORES), Informer(client, CLONES)
    migrations = Informer(client, MIGRATIONS, resync_seconds=RESYNC_SECONDS)
    classes = SnapshotClasses(client)
    support = SnapshotSupport(classes, claims)
    informers: tuple[Informer, ...] = (vms, vmis, replica_sets, pools, snapshots, contents, restores, clones)
    informers += (migrations, pods, nodes, claims, kubevirts)
    offers = None if many_nodes else Offers(client, claims)
    informers += offers.informers if offers is not None else ()
    recorder = EventRecorder(client, "virtualmachine-controller")
    machines = VmiController(
        client,
        registry,
        recorder,
        vmis=vmis,
        pods=pods,
        nodes=nodes,
        claims=claims,
        kubevirts=kubevirts,
        give_way_seconds=give_way_seconds,
        cluster=many_nodes,
        offers=offers,
    )
    controllers: list[Runs] = [
        VmController(
            client,
            recorder,
            registry,
            vms=vms,
            vmis=vmis,
            authorize=many_nodes,
            snapshots=support,
        ),
        ReplicaSetController(client, recorder, replica_sets=replica_sets, vmis=vmis),
        PoolController(client, recorder, pools=pools, vms=vms, vmis=vmis),
        SnapshotController(client, recorder, classes, registry, snapshots=snapshots, contents=contents, vms=vms),
        RestoreController(client, recorder, restores=restores, snapshots=snapshots, vmis=vmis),
        CloneController(client, recorder, support, clones=clones, snapshots=snapshots, restores=restores, vms=vms),
        machines,
        MigrationController(
            client, recorder, machines, migrations=migrations, vmis=vmis, pods=pods, nodes=nodes, claims=claims
        ),
    ]
    budgets = Informer(client, DISRUPTION_BUDGETS, label_selector=names.CREATED_BY_LABEL)
    if many_nodes:
        controllers.append(NodeController(client, recorder, nodes=nodes, vmis=vmis))
        controllers.append(BudgetController(client, recorder, vmis=vmis, budgets=budgets, kubevirts=kubevirts))
        controllers.append(
            EvacuationController(client, recorder, vmis=vmis, migrations=migrations, settings=machines.configuration)
        )
    else:
        controllers.append(KubeVirtController(client, kubevirts=kubevirts))
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        if measure is not None:
            shown = measure(vms=vms, vmis=vmis, pods=pods, nodes=nodes, kubevirts=kubevirts, drivers=registry)
            stack.enter_context(shown)
        group.create_task(recorder.run(), name="events")
        for informer in informers:
            group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
        for informer in informers:
            await informer.synced()
        if many_nodes:
            group.create_task(budgets.run(), name="informer-budgets")
        for controller in controllers:
            group.create_task(controller.run(), name=type(controller).__name__)
        if ready is not None:
            ready.set()
