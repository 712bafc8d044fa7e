"""``python -m polyvisor.agent.platform.endpoint.cluster``, virt-endpoint: the agent of one HypervisorEndpoint.

It works while it holds the Lease of its endpoint, and ends when it loses it: what it knew is worth nothing then. The
guests on the host do not depend on it.
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

from polyvisor.agent.images.registry import Registries
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.node.registration import _address
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.agent.platform.endpoint.cluster.doors import EndpointMachines
from polyvisor.agent.platform.endpoint.cluster.identity import NodeIdentity
from polyvisor.agent.platform.endpoint.cluster.kubelet import KubeletPort
from polyvisor.agent.platform.endpoint.cluster.mounted import MountedSecret
from polyvisor.agent.platform.endpoint.platform import Platform
from polyvisor.agent.serving import application
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import (
    CREDENTIALS_FOLDER,
    ENDPOINT_APP,
    ENDPOINT_SECRET,
    deployment_of_endpoint,
    node_of_endpoint,
)
from polyvisor.api.reading import nested
from polyvisor.api.resources import CONFIGMAPS, KUBEVIRTS
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.config import Connection, discover, from_kubeconfig
from polyvisor.kube.informer import Informer
from polyvisor.kube.leader import LeaderElection, LostLease, Timing, identity
from polyvisor.process import running, tls
from polyvisor.process.health import Health, port_option, serve_health
from polyvisor.process.kept import KeptPair, named
from polyvisor.process.pairs import Pair
from polyvisor.process.serving import WebServer, listen
from polyvisor.server.endpoint_doors import EndpointDoors

PORT, KUBELET_PORT = 8186, 10250
AUTHENTICATION = "extension-apiserver-authentication"
log = logging.getLogger("polyvisor.endpoints")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("agent.platform.endpoint.cluster", "virt-endpoint: the agent of one HypervisorEndpoint")
    parser.add_argument("--endpoint", required=True, help="name of the HypervisorEndpoint")
    parser.add_argument("--port", type=int, default=PORT, help="port of the TLS server for virt-api")
    parser.add_argument("--kubelet-port", type=int, default=KUBELET_PORT, help="port of what a kubelet answers")
    port_option(parser)
    parser.add_argument("--address", default=os.environ.get("POD_IP", ""), help="by default $POD_IP")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/polyvisor"))
    parser.add_argument("--credentials", type=Path, default=Path(CREDENTIALS_FOLDER), help="folder of the Secret")
    parser.add_argument(
        "--not-labelled", action="store_true", help="the endpoint's Secret does not say that it is meant for it"
    )
    parser.add_argument(
        "--insecure-registry", action="append", default=[], help="HOST:PORT of a registry that is not verified"
    )
    parser.add_argument("--identity", default="", help="name of this replica; by default the Pod's")
    parser.add_argument("--lease-seconds", type=float, default=Timing().lease, help="how long the Lease holds")
    found = parser.parse_args(arguments)
    node = node_of_endpoint(found.endpoint)
    return running.run(found, lambda: EndpointProcess(found).run(), ENDPOINT_APP, node)


class EndpointProcess:
    """The process's parts."""

    def __init__(self, found: argparse.Namespace, drivers: DriverRegistry | None = None) -> None:
        self._options = found
        self._name: str = found.endpoint
        self._node = node_of_endpoint(found.endpoint)
        self._address: str = found.address or _address()
        self._drivers = registry() if drivers is None else drivers
        self.health = Health()
        self.health_port = 0
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._lost = asyncio.Event()
        self._authorities = ""

    async def run(self) -> None:
        """Work until cancelled, or until the Lease is lost."""
        options = self._options
        self.health.waits("agent", "has not seen the cluster yet")
        async with (
            running.client_of(options, ENDPOINT_APP) as client,
            serve_health(self.health, client, options.bind, options.health_port) as self.health_port,
        ):
            kubevirts = Informer(client, KUBEVIRTS, running.namespace_of(options))
            self.health.follow(kubevirts)
            seconds = options.lease_seconds
            election = LeaderElection(
                client,
                running.namespace_of(options),
                deployment_of_endpoint(self._name),
                me=options.identity or identity(),
                timing=Timing(seconds, seconds * 2 / 3, seconds * 2 / 15),
            )
            tls.heed(kubevirts, self._tls)
            await kubevirts.start()
            try:
                await election.run(lambda: self._work(client, election))
            except LostLease as lost:
                raise running.Restart(str(lost)) from lost
            finally:
                await kubevirts.stop()

    def _connection(self) -> Connection:
        path = self._options.kubeconfig
        return from_kubeconfig(path) if path else discover()

    async def _work(self, client: KubeClient, election: LeaderElection) -> None:
        options, namespace = self._options, running.namespace_of(self._options)
        self.health.waits("agent", "waits for the certificate of its Node, which virt-operator approves")
        connection = self._connection()
        signing = NodeIdentity(client, self._node, self._address)
        secret = MountedSecret(options.credentials, self._name, labelled=not options.not_labelled)
        state: Path = options.state_dir
        for name in ("images", "cache", "pulled", "endpoints"):
            (state / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        insecure = frozenset(options.insecure_registry)
        images = ImageStore(state / "images", state / "cache", Registries(state / "pulled", lambda: insecure))
        await asyncio.to_thread(images.sweep)
        async with await signing.signed_in(connection) as node:
            platform = Platform(secret, node, self._name, options.kubelet_port, may_write=lambda: election.certain)
            root = state / "endpoints"
            agent = EndpointAgent(client, self._drivers, root, lambda: images, self._address, platform)
            shown = KeptPair(client, namespace, ENDPOINT_SECRET)
            proxy = named(client, CONFIGMAPS, "kube-system", AUTHENTICATION)
            proxy.on_change(lambda _, new: self._learn(signing.serving, new or {}))
            async with asyncio.TaskGroup() as group:
                group.create_task(agent.run(), name="agent")
                group.create_task(shown.run(), name="certificates")
                group.create_task(proxy.run(), name="authorities")
                group.create_task(signing.keep(connection), name="identity")
                group.create_task(self._serve(agent, shown), name="server")
                group.create_task(self._serve_kubelet(agent, node, signing), name="kubelet")
                group.create_task(self._end_when_lost(), name="lost")
                await agent.synced.wait()
                self.health.has("agent")

    async def _serve(self, agent: EndpointAgent, shown: KeptPair) -> None:
        self.health.waits("server", f"Secret {shown.name}, which virt-operator makes")
        await shown.wait()

        def believe(_: Pair, authorities: bytes) -> None:
            self._tls.load_verify_locations(cadata=authorities.decode())

        shown.follow(believe)
        shown.shown_by(self._tls)
        with listen(self._options.bind, self._options.port) as listener:
            doors = EndpointDoors()
            doors.agent = agent
            web = WebServer(application(EndpointMachines(agent, self._name), doors.routes()), listener, self._tls)
            await web.start()
            self.health.has("server")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await web.stop()

    async def _serve_kubelet(self, agent: EndpointAgent, node: KubeClient, signing: NodeIdentity) -> None:
        signing.serving.verify_mode = ssl.CERT_OPTIONAL
        await signing.ready_to_serve()
        port = KubeletPort(agent, node, self._name, self._node)
        with listen(self._options.bind, self._options.kubelet_port) as listener:
            web = WebServer(port.application(), listener, signing.serving)
            await web.start()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await web.stop()

    def _learn(self, context: ssl.SSLContext, configmap: Obj) -> None:
        """Believe the cluster's authority for clients; a context cannot unlearn one, so the process ends for that."""
        found = str(nested(configmap, "data").get("client-ca-file") or "")
        if self._authorities and found != self._authorities:
            self._lost.set()
        elif found:
            context.load_verify_locations(cadata=found)
        self._authorities = found or self._authorities

    async def _end_when_lost(self) -> None:
        await self._lost.wait()
        raise running.Restart("the cluster's authority for clients has changed")


def entry() -> None:
    """Run with the command line's arguments."""
    sys.exit(main(sys.argv[1:]))
