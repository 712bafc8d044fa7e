"""What differs for the agent of endpoints between standalone mode and a cluster.

In standalone mode one process serves all endpoints, with rights to everything, and reads their Secrets from the API
server. In a cluster there is a process for each endpoint: it sees one endpoint, has the Secret as a folder of its Pod,
signs in as its Node for what a kubelet may do, and changes something on the host only while it holds a Lease.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from polyvisor.api import Obj, names
from polyvisor.api.reading import nested
from polyvisor.api.resources import SECRETS
from polyvisor.kube.client import KubeClient
from polyvisor.kube.informer import Informer

Told = Callable[[str], None]
"""Called with the name of a Secret that has changed."""


class Credentials(Protocol):
    """Where the Secrets of endpoints come from."""

    def on_change(self, told: Told) -> None:
        """Have ``told`` called for each change."""

    async def run(self) -> None:
        """Follow them until cancelled."""

    async def synced(self) -> None:
        """Wait until they were seen once."""

    def of(self, endpoint: Obj) -> Obj | None:
        """Return the Secret that an endpoint names, None if there is none of that name."""


class ApiSecrets:
    """The Secrets of Polyvisor's own namespace, read from the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._secrets = Informer(client, SECRETS, names.KUBEVIRT_NAMESPACE)

    def on_change(self, told: Told) -> None:
        """Have ``told`` called for each change."""
        self._secrets.on_change(lambda old, new: told(str(nested(new or old or {}, "metadata").get("name"))))

    async def run(self) -> None:
        """Follow them until cancelled."""
        await self._secrets.run()

    async def synced(self) -> None:
        """Wait until they were seen once."""
        await self._secrets.synced()

    def of(self, endpoint: Obj) -> Obj | None:
        """Return the Secret that an endpoint names, None if there is none of that name."""
        return self._secrets.get(names.KUBEVIRT_NAMESPACE, secret_name(endpoint))


@dataclass(frozen=True)
class Platform:
    """``node`` is the client for what a kubelet does: the Node, its Pods, and what these name. ``only`` is the
    endpoint that is served, empty for all. ``port`` is where the kubelet's interface listens, 0 for nowhere.
    ``may_write`` tells whether anything may be changed on a host at this moment.
    """

    credentials: Credentials
    node: KubeClient
    only: str = ""
    port: int = 0
    may_write: Callable[[], bool] = lambda: True


def standalone(client: KubeClient) -> Platform:
    """Return the platform of standalone mode."""
    return Platform(ApiSecrets(client), client)


def secret_name(endpoint: Obj) -> str:
    """Return the name of the Secret that an endpoint names, empty if it names none."""
    return str(nested(endpoint, "spec", "credentials", "secretRef").get("name") or "")
