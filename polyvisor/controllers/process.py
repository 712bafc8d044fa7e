"""``python -m polyvisor.controllers``, virt-controller: all controllers of machines, in the replica that leads.

A replica that stands by holds neither controllers nor drivers in memory: it loads them when it leads.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry

from polyvisor.api import names
from polyvisor.api.resources import KUBEVIRTS
from polyvisor.controllers.leading import leading, lease_options
from polyvisor.kube import Informer, KubeClient
from polyvisor.kube.metrics import gauge
from polyvisor.process import running
from polyvisor.process.health import Health, port_option, serve_health

if TYPE_CHECKING:
    from polyvisor.drivers import DriverRegistry

LEADING = gauge("kubevirt_virt_controller_leading_status")
READY = gauge("kubevirt_virt_controller_ready_status")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("controllers", "virt-controller: what makes machines of objects")
    lease_options(parser)
    port_option(parser)
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
        self._drivers = drivers
        self.health = Health()
        self.health_port = 0
        self.working = asyncio.Event()
        """Set while this replica leads and its controllers have seen the cluster."""

    async def run(self) -> None:
        """Work until cancelled, or until leadership is lost."""
        options = self._options
        async with (
            running.client_of(options, names.CONTROLLER_APP) as client,
            serve_health(self.health, client, options.bind, options.health_port) as self.health_port,
        ):
            kubevirts = Informer(client, KUBEVIRTS, running.namespace_of(options))
            self.health.follow(kubevirts)
            await kubevirts.start()
            try:
                READY.set(1)
                await leading(
                    client,
                    options,
                    names.CONTROLLER_APP,
                    lambda: self._lead(client),
                    lambda leads: LEADING.set(int(leads)),
                    loads=("polyvisor.controllers.run", "polyvisor.controllers.metrics"),
                )
            finally:
                await kubevirts.stop()

    async def _lead(self, client: KubeClient) -> None:
        from polyvisor.controllers.metrics import MachineMetrics
        from polyvisor.controllers.run import run_controllers
        from polyvisor.drivers import registry

        drivers = registry() if self._drivers is None else self._drivers
        measure = partial(MachineMetrics, registry=self._metrics)
        try:
            await run_controllers(client, drivers, many_nodes=True, ready=self.working, measure=measure)
        finally:
            self.working.clear()


def entry() -> None:
    """Run with the command line's arguments."""
    sys.exit(main(sys.argv[1:]))
