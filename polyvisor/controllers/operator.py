"""``python -m polyvisor.controllers.operator``, virt-operator: what the installation itself needs while it runs.

It makes and renews the components' certificates, keeps the agents of HypervisorEndpoints, and says in the KubeVirt
object whether the components are there. It is apart from virt-controller so that who handles machines has no key of any
component. It installs nothing: that is the administrator's, with ``polyvisor install`` or Helm. A replica that stands
by loads what does it when it leads.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyvisor.api import names
from polyvisor.api.reading import nested
from polyvisor.api.resources import ENDPOINTS, KUBEVIRTS
from polyvisor.controllers.leading import leading, lease_options
from polyvisor.kube import Informer, KubeClient
from polyvisor.kube.metrics import gauge
from polyvisor.process import running
from polyvisor.process.health import Health, port_option, serve_health

if TYPE_CHECKING:
    from polyvisor.api import Obj

DAEMON_SET = "DaemonSet"
LEADING = gauge("kubevirt_virt_operator_leading_status")
READY = gauge("kubevirt_virt_operator_ready_status")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; return the exit code."""
    parser = running.options("controllers.operator", "virt-operator: certificates, and who is there")
    lease_options(parser)
    port_option(parser)
    found = parser.parse_args(arguments)
    return running.run(found, lambda: Operator(found).run(), names.OPERATOR_APP)


class Operator:
    """The process's parts."""

    def __init__(self, found: argparse.Namespace) -> None:
        self._options = found
        self.health = Health()
        self.health_port = 0

    async def run(self) -> None:
        """Work until cancelled, or until leadership is lost."""
        async with (
            running.client_of(self._options, names.OPERATOR_APP) as client,
            serve_health(self.health, client, self._options.bind, self._options.health_port) as self.health_port,
        ):
            kubevirts = Informer(client, KUBEVIRTS, namespace=running.namespace_of(self._options))
            self.health.follow(kubevirts)
            await kubevirts.start()
            try:
                READY.set(1)
                await leading(
                    client,
                    self._options,
                    names.OPERATOR_APP,
                    lambda: self._lead(client, kubevirts),
                    lambda leads: LEADING.set(int(leads)),
                    loads=(
                        "polyvisor.controllers.certificates",
                        "polyvisor.controllers.definitions",
                        "polyvisor.controllers.endpoint_identity",
                        "polyvisor.controllers.endpoints",
                    ),
                )
            finally:
                await kubevirts.stop()

    async def _lead(self, client: KubeClient, kubevirts: Informer) -> None:
        from polyvisor.api.cluster_resources import DAEMON_SETS, DEPLOYMENTS
        from polyvisor.controllers.certificates import CertificateKeeper
        from polyvisor.controllers.definitions import Definitions, configuration_problems
        from polyvisor.controllers.endpoint_identity import IdentityController
        from polyvisor.controllers.endpoints import EndpointController
        from polyvisor.controllers.kubevirt import KubeVirtController
        from polyvisor.drivers import registry

        namespace = running.namespace_of(self._options)
        deployments = Informer(client, DEPLOYMENTS, namespace=namespace)
        daemon_sets = Informer(client, DAEMON_SETS, namespace=namespace)
        components = (
            (deployments, names.API_APP),
            (deployments, names.CONTROLLER_APP),
            (daemon_sets, names.HANDLER_APP),
        )

        def lacking() -> list[str]:
            """Say who has to be there for the cluster to be ready for machines, and is not."""
            found = ((held.resource.kind, name, held.get(namespace, name)) for held, name in components)
            return [words for kind, name, obj in found if (words := missing(kind, name, obj))]

        definitions = Definitions(client)
        drivers = registry()
        status = KubeVirtController(
            client,
            kubevirts=kubevirts,
            lacking=lacking,
            problems=lambda kubevirt: [*definitions.problems, *configuration_problems(kubevirt, drivers)],
        )
        definitions.changed = status.look
        for informer in (deployments, daemon_sets):
            informer.on_change(lambda old, new: status.look())
        async with asyncio.TaskGroup() as group:
            group.create_task(CertificateKeeper(client, namespace).run(), name="certificates")
            group.create_task(definitions.run(), name="definitions")
            for informer in (deployments, daemon_sets):
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
            endpoints, identities = Informer(client, ENDPOINTS), IdentityController(client, namespace)
            agents = EndpointController(client, endpoints, namespace)
            group.create_task(endpoints.run(), name="informer-endpoints")
            group.create_task(identities.requests.run(), name="informer-requests")
            await asyncio.gather(deployments.synced(), daemon_sets.synced(), endpoints.synced())
            group.create_task(agents.run(), name="endpoints")
            group.create_task(identities.run(), name="endpoint-identity")
            group.create_task(status.run(), name="status")


def missing(kind: str, name: str, obj: Obj | None) -> str:
    """Return what a Deployment or DaemonSet lacks, in words; empty if it has all that it wants."""
    if obj is None:
        return f"{kind} {name} is not there"
    status = obj.get("status") or {}
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return f"{kind} {name} is being changed"
    if kind == DAEMON_SET:
        wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted, ready = nested(obj, "spec").get("replicas", 1), status.get("readyReplicas", 0)
    return f"{kind} {name} has {ready} of {wanted} Pods ready" if ready < wanted else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
