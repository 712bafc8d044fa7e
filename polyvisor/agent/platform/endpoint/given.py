"""What a machine's volumes name in its namespace: Secrets, ConfigMaps, claims; and the volumes behind these."""

from __future__ import annotations

from polyvisor.agent.storage import making
from polyvisor.agent.storage.contents import data_of
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import CONFIGMAPS, PVCS, SECRETS, Resource
from polyvisor.kube import ApiError, KubeClient


class Given:
    """Reads them; what is not there is left out."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def inputs(self, vmi: Obj, pod: Obj) -> tuple[making.Inputs, dict[str, Obj]]:
        """Return what a machine's volumes name, and PersistentVolumes by name."""
        wanted, namespace = making.needed(vmi), vmi["metadata"]["namespace"]
        secrets = await self._named(SECRETS, wanted.secrets, namespace)
        maps = await self._named(CONFIGMAPS, wanted.configmaps, namespace)
        claims = await self._named(PVCS, wanted.claims, namespace)
        bound = {str(claim["spec"]["volumeName"]) for claim in claims.values() if claim["spec"].get("volumeName")}
        inputs = making.Inputs(
            {name: data_of(one, "stringData", "data") for name, one in secrets.items()},
            claims,
            {name: data_of(one, "data", "binaryData") for name, one in maps.items()},
            pod,
        )
        return inputs, await self._named(PVS, bound, None)

    async def _named(self, resource: Resource, names: set[str], namespace: str | None) -> dict[str, Obj]:
        found: dict[str, Obj] = {}
        for name in sorted(names):
            try:
                found[name] = await self._client.get(resource, name, namespace)
            except ApiError as error:
                if not error.not_found:
                    raise
        return found
