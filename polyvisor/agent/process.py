"""``python -m polyvisor.agent``, virt-handler: the agent of a node that a kubelet keeps.

The machines of the node do not depend on this process: it may end and come back. What it needs beside the API server
is the kubelet's folder of Pods, the host's process ids, and the devices that hypervisors use.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from polyvisor.agent.agent import Agent
from polyvisor.agent.serving import application
from polyvisor.agent.settings import Settings
from polyvisor.api import names
from polyvisor.api.migrations import HANDLER_CLIENT_SECRET
from polyvisor.api.quantity import whole
from polyvisor.api.resources import KUBEVIRTS
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube import ApiError, Informer
from polyvisor.kube.metrics import gauge
from polyvisor.process import running, tls
from polyvisor.process.handlers import Handlers, client_context
from polyvisor.process.health import Health, port_option, serve_health
from polyvisor.process.kept import KeptPair
from polyvisor.process.pairs import Pair
from polyvisor.process.serving import WebServer, listen

PORT = 8186
LEAVE_SECONDS = 3.0
HOST_DISK_LIMIT = os.environ.get("HOST_DISK_LIMIT") or "100Gi"
"""How large the host disks of one namespace may be together on a node."""
READY = gauge("kubevirt_virt_handler_ready_status")
log = logging.getLogger("polyvisor.agent")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("agent", "virt-handler: the agent of one node")
    parser.add_argument("--port", type=int, default=PORT, help="port of the TLS server")
    port_option(parser)
    parser.add_argument("--node-name", default=os.environ.get("NODE_NAME", ""), help="by default $NODE_NAME")
    parser.add_argument("--pod-name", default=os.environ.get("POD_NAME", ""), help="by default $POD_NAME")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/polyvisor"))
    parser.add_argument("--pods-dir", type=Path, default=Path("/pods"), help="the kubelet's folder of Pods")
    folder = Path("/var/lib/kubelet/device-plugins")
    parser.add_argument("--device-plugins-dir", type=Path, default=folder, help="the kubelet's folder of plugins")
    found = parser.parse_args(arguments)
    if not found.node_name:
        parser.error("the name of the node is wanted: --node-name or $NODE_NAME")
    return running.run(found, lambda: Handler(found).run(), names.HANDLER_APP, found.node_name)


class Handler:
    """The process's parts."""

    def __init__(self, found: argparse.Namespace, drivers: DriverRegistry | None = None) -> None:
        self._options = found
        self._drivers = registry() if drivers is None else drivers
        self.health = Health()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self.port = 0
        self.health_port = 0

    async def run(self) -> None:
        """Work until cancelled; say then that nobody looks after the node."""
        options = self._options
        self.health.waits("agent", "has not seen the cluster yet")
        async with (
            running.client_of(options, names.HANDLER_APP) as client,
            serve_health(self.health, client, options.bind, options.health_port) as self.health_port,
        ):
            settings = Settings(
                options.node_name,
                options.state_dir,
                pods=options.pods_dir,
                device_plugins=options.device_plugins_dir,
                host_disk_limit=whole(HOST_DISK_LIMIT),
                own_pod=(running.namespace_of(options), options.pod_name) if options.pod_name else None,
            )
            agent = Agent(client, self._drivers, settings)
            self.health.before_figures = [agent.statistics.refresh]
            namespace = running.namespace_of(options)
            shown = KeptPair(client, namespace, names.HANDLER_SECRET)
            ours = KeptPair(client, namespace, HANDLER_CLIENT_SECRET)
            agent.moves.between(Handlers(client, namespace, client_context(ours)))
            kubevirts = Informer(client, KUBEVIRTS, running.namespace_of(options))
            self.health.follow(kubevirts)
            tls.heed(kubevirts, self._tls)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(kubevirts.run(), name="kubevirts")
                    group.create_task(agent.run(), name="agent")
                    group.create_task(shown.run(), name="certificates")
                    group.create_task(ours.run(), name="client-certificates")
                    group.create_task(self._serve(agent, shown), name="server")
                    await agent.synced.wait()
                    self.health.has("agent")
                    READY.set(1)
            finally:
                await self._leave(agent)

    async def _serve(self, agent: Agent, shown: KeptPair) -> None:
        self.health.waits("server", f"Secret {shown.name}, which virt-operator makes")
        await shown.wait()

        def believe(_: Pair, authorities: bytes) -> None:
            self._tls.load_verify_locations(cadata=authorities.decode())

        shown.follow(believe)
        shown.shown_by(self._tls)
        with listen(self._options.bind, self._options.port) as listener:
            web = WebServer(application(agent, moves=agent.moves.target), listener, self._tls)
            await web.start()
            self.port = web.port
            self.health.has("server")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await web.stop()

    async def _leave(self, agent: Agent) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await agent.node.stopped()
        except (ApiError, TimeoutError) as error:
            log.warning("the node could not be marked: %s", error or "the API server does not answer")


def entry() -> None:
    """Run with the command line's arguments."""
    sys.exit(main(sys.argv[1:]))
