"""The endpoints that machines which name none may go to, kept from the API server's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import ENDPOINTS, NAMESPACES
from polyvisor.kube import Informer, KubeClient
from polyvisor.placement.offers import Elsewhere, elsewhere

if TYPE_CHECKING:
    from polyvisor.api import Obj


class Offers:
    """The informers, which the owner runs; ``claims`` is the owner's own."""

    def __init__(self, client: KubeClient, claims: Informer) -> None:
        self._claims = claims
        self._endpoints = Informer(client, ENDPOINTS)
        self._namespaces = Informer(client, NAMESPACES)
        self._volumes = Informer(client, PVS)
        self.informers = (self._endpoints, self._namespaces, self._volumes)

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have a function called when a machine may go elsewhere than before."""

        def endpoint(old: Obj | None, new: Obj | None) -> None:
            if old is None or new is None or old["spec"] != new["spec"] or _takes(old) != _takes(new):
                changed()

        self._endpoints.on_change(endpoint)
        self._namespaces.on_change(lambda old, new: changed() if old is not None and new is not None else None)
        self._volumes.on_change(lambda old, new: changed())

    def of(self, vmi: Obj) -> Elsewhere:
        """Return where a machine may go beside the nodes of the cluster."""
        endpoints, name = self._endpoints.items(), vmi["metadata"]["namespace"]
        namespace = self._namespaces.get(None, name) or {"metadata": {"name": name}}
        claims = {one["metadata"]["name"]: one for one in self._claims.items() if one["metadata"]["namespace"] == name}
        volumes = {one["metadata"]["name"]: one for one in self._volumes.items()}
        return elsewhere(vmi["spec"], namespace, endpoints, claims, volumes)


def _takes(endpoint: Obj) -> str:
    conditions = (endpoint.get("status") or {}).get("conditions") or []
    return next((str(one.get("status")) for one in conditions if one.get("type") == "Schedulable"), "")
