"""``python -m polyvisor.controllers``, virt-controller: all controllers, in the one of its replicas that leads.

The others stand by and are as ready as the leader, since readiness says that a process can do its part. A leader that
has lost its Lease ends: what its controllers knew is worth nothing then, and a fresh process is a clean candidate.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry

from polyvisor.api import names
from polyvisor.controllers.certificates import CertificateKeeper
from polyvisor.controllers.metrics import MachineMetrics
from polyvisor.controllers.run import run_controllers
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube import KubeClient
from polyvisor.kube.leader import LeaderElection, LostLease, Timing, identity
from polyvisor.kube.metrics import gauge
from polyvisor.process import running
from polyvisor.process.health import Health, serve_health

LEADING = gauge("kubevirt_virt_controller_leading_status")
READY = gauge("kubevirt_virt_controller_ready_status")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("controllers", "virt-controller: what makes machines of objects")
    parser.add_argument("--identity", default="", help="name of this replica; by default the Pod's, and something more")
    parser.add_argument("--lease-seconds", type=float, default=Timing().lease, help="how long the Lease holds")
    found = parser.parse_args(arguments)
    return running.run(found, lambda: Controllers(found).run(), names.CONTROLLER_APP)


class Controllers:
    """The process's parts."""

    def __init__(
        self,
        found: argparse.Namespace,
        drivers: DriverRegistry | None = None,
        metrics: CollectorRegistry = REGISTRY,
    ) -> None:
        self._options = found
        self._metrics = metrics
        self._drivers = registry() if drivers is None else drivers
        self.health = Health()
        self.health_port = 0
        self.working = asyncio.Event()
        """Set while this replica leads and its controllers have seen the cluster."""

    async def run(self) -> None:
        """Work until cancelled, or until leadership is lost."""
        seconds = self._options.lease_seconds
        async with (
            running.client_of(self._options, names.CONTROLLER_APP) as client,
            serve_health(self.health, self._options.bind, self._options.health_port) as self.health_port,
        ):
            election = LeaderElection(
                client,
                running.namespace_of(self._options),
                names.CONTROLLER_APP,
                me=self._options.identity or identity(),
                timing=Timing(seconds, seconds * 2 / 3, seconds * 2 / 15),
                changed=lambda leads: LEADING.set(int(leads)),
            )
            READY.set(1)
            try:
                await election.run(lambda: self._lead(client))
            except LostLease as lost:
                raise running.Restart(str(lost)) from lost

    async def _lead(self, client: KubeClient) -> None:
        keeper = CertificateKeeper(client, running.namespace_of(self._options))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(keeper.run(), name="certificates")
                measure = partial(MachineMetrics, registry=self._metrics)
                work = run_controllers(client, self._drivers, many_nodes=True, ready=self.working, measure=measure)
                group.create_task(work, name="controllers")
        finally:
            self.working.clear()


def entry() -> None:
    """Run with the command line's arguments."""
    sys.exit(main(sys.argv[1:]))
