"""New claims of storage classes that endpoints map: a volume on the host for each, and the PersistentVolume of it.

The claim is bound to the PersistentVolume by whoever binds claims. When the claim is gone the volume is released; then
it is deleted on the host, if its policy is Delete, as that of volumes made here is. A host that is away is waited for.
Claims of DataVolumes are left to whoever fills them, who has their volumes made by :meth:`Provisioner.bind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polyvisor.agent.errors import AgentError
from polyvisor.agent.platform.endpoint.bringing import PREFIX
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.pools import Pool, Pools, Volume, need_room
from polyvisor.agent.storage import disks
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.endpoint_names import allows, node_of_endpoint
from polyvisor.api.names import EventType
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER, ENDPOINT_LABEL
from polyvisor.api.quantity import format_quantity, whole
from polyvisor.api.reading import annotations_of, nested, phase_of
from polyvisor.api.resources import DATAVOLUMES, NAMESPACES, PVCS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WorkQueue

SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""On a claim: the Node that the scheduler has chosen for its first Pod."""
PROVISIONED = "pv.kubernetes.io/provisioned-by"
AGAIN_SECONDS = 10.0
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Where on which host a claim's volume is or is to be. ``size`` in bytes, ``uri`` is the endpoint's."""

    endpoint: str
    pool: Pool
    name: str
    format: str
    size: int
    pools: Pools
    driver: Driver
    uri: str

    @property
    def url(self) -> str:
        """Where the volume's raw content is written and read by HTTPS, empty where libvirt does that."""
        return self.driver.upload_url(self.uri, self.pool.name, self.name)


class Provisioner:
    """Reconciles a claim, or a PersistentVolume (whose key has no namespace), at a time."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        drivers: DriverRegistry,
        keeper: Callable[[str], Keeper | None],
        *,
        claims: Informer,
        volumes: Informer,
        endpoints: Informer,
        node: str = "",
    ) -> None:
        """``node`` is the Node for which the scheduler has to have chosen a claim; empty where there is no scheduler
        of Kubernetes, and every claim of a mapped class gets its volume at once.
        """
        self._node = node
        self._client = client
        self._events = events
        self._drivers = drivers
        self._keeper = keeper
        self._claims, self._volumes, self._endpoints = claims, volumes, endpoints
        self.queue: WorkQueue[Key] = WorkQueue()
        for informer in (claims, volumes):
            informer.on_change(self._changed)
        endpoints.on_change(lambda old, new: self._all_claims())

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        metadata = (new or old or {})["metadata"]
        self.queue.add((metadata.get("namespace") or "", metadata["name"]))

    def _all_claims(self) -> None:
        for claim in self._claims.items():
            if _waits(claim):
                self._changed(None, claim)

    async def reconcile(self, key: Key) -> float | None:
        """Make what a claim waits for, or delete what a released volume stood for."""
        namespace, name = key
        try:
            if not namespace:
                return await self._release(self._volumes.get(None, name))
            claim = self._claims.get(namespace, name)
            if claim is not None and _waits(claim):
                await self._provision(claim)
        except HostError:
            return AGAIN_SECONDS
        except AgentError as error:
            claim = self._claims.get(namespace, name)
            if claim is not None:
                self._events.event(claim, EventType.WARNING, "ProvisioningFailed", str(error))
            return AGAIN_SECONDS
        return None

    async def _provision(self, claim: Obj) -> None:
        if self.mapping(claim):
            await self.bind(claim)

    def mapping(self, claim: Obj) -> list[tuple[Obj, str]]:
        """Return the endpoints that map a claim's class, each with the pool that it is there."""
        wanted = claim["spec"].get("storageClassName")
        if self._node and annotations_of(claim).get(SELECTED_NODE) != self._node:
            return []
        return [
            (endpoint, one["pool"])
            for endpoint in self._endpoints.items()
            for one in endpoint["spec"].get("storage") or []
            if one["storageClass"] == wanted and endpoint["spec"].get("management") != "Observe"
        ]

    async def place(self, claim: Obj) -> HostPlace:
        """Return where a claim of a mapped class has its volume. Raises :class:`HostError` while its host is away."""
        wanted, found = claim["spec"].get("storageClassName"), self.mapping(claim)
        if not found:
            raise AgentError(f"storage class {wanted} is mapped by no endpoint that takes machines")
        if len(found) > 1:
            names = ", ".join(sorted(endpoint["metadata"]["name"] for endpoint, _ in found))
            raise AgentError(f"storage class {wanted} is mapped by several endpoints: {names}; one is expected")
        endpoint, pool_name = found[0]
        namespace = claim["metadata"]["namespace"]
        if not allows(endpoint, await self._client.get(NAMESPACES, namespace)):
            name = endpoint["metadata"]["name"]
            raise AgentError(
                f"namespace {namespace} may not use endpoint {name}, which maps storage class {wanted}; an "
                "administrator allows namespaces by their labels in spec.allowedNamespaces.selector of the endpoint"
            )
        keeper = self._keeper(endpoint["metadata"]["name"])
        driver = self._drivers.get(keeper.seen.driver) if keeper is not None else None
        if keeper is None or driver is None:
            raise HostError("the endpoint is not served yet", "not-connected")
        pools = Pools(keeper)
        pool = await pools.pool(pool_name)
        form = next((one for one in driver.disk_formats if one == "raw" or pool.of_files), "raw")
        requests = nested(claim, "spec", "resources", "requests")
        size = disks.capacity(whole(requests.get("storage", 0)), "the claim")
        name = driver.volume_name(f"{PREFIX}pvc-{claim['metadata']['uid']}.{form}")
        uri = str(endpoint["spec"]["uri"])
        return HostPlace(endpoint["metadata"]["name"], pool, name, form, size, pools, driver, uri)

    async def bind(self, claim: Obj) -> None:
        """Make a claim's volume and the PersistentVolume of it, if they are not there.

        Raises :class:`AgentError`, and :class:`HostError` while the host is away.
        """
        place = await self.place(claim)
        pool, name, pools = place.pool, place.name, place.pools
        volume = await pools.volume(pool.name, name)
        if volume is None:
            if not pool.of_files:
                need_room(pool, place.size, "the claim")
            volume = await pools.make(pool, name, place.format, place.size)
        try:
            await self._client.create(PVS, _persistent_volume(claim, place.endpoint, volume, place.format, place.size))
        except ApiError as error:
            if not error.already_exists:
                raise
            return
        self._events.event(claim, EventType.NORMAL, "ProvisioningSucceeded", f"Made volume {name} in pool {pool.name}")

    async def _release(self, volume: Obj | None) -> float | None:
        """Delete a volume that was made here, once its claim is gone."""
        spec, csi = nested(volume or {}, "spec"), nested(volume or {}, "spec", "csi")
        ours = volume is not None and annotations_of(volume).get(PROVISIONED) == ENDPOINT_CSI_DRIVER
        if volume is None or not ours or csi.get("driver") != ENDPOINT_CSI_DRIVER:
            return None
        if phase_of(volume) != "Released" or spec.get("persistentVolumeReclaimPolicy") != "Delete":
            return None
        endpoint, pool, name = str(csi["volumeHandle"]).split("/", 2)
        keeper = self._keeper(endpoint)
        if keeper is None:
            return None if self._node and node_of_endpoint(endpoint) != self._node else AGAIN_SECONDS
        await Pools(keeper).delete(pool, name)
        metadata = volume["metadata"]
        try:
            await self._client.delete(PVS, metadata["name"], uid=metadata["uid"])
        except ApiError as error:
            if not error.not_found:
                raise
        return None


def _waits(claim: Obj) -> bool:
    """Whether a claim is without a volume, and is not a DataVolume's."""
    metadata = claim["metadata"]
    owned = any(one.get("kind") == DATAVOLUMES.kind for one in metadata.get("ownerReferences") or [])
    bound = claim["spec"].get("volumeName") or phase_of(claim) == "Bound"
    return not (metadata.get("deletionTimestamp") or owned or bound)


def _persistent_volume(claim: Obj, endpoint: str, volume: Volume, form: str, size: int) -> Obj:
    metadata, spec = claim["metadata"], claim["spec"]
    term = {"matchExpressions": [{"key": ENDPOINT_LABEL, "operator": "In", "values": [endpoint]}]}
    reference = {key: metadata[key] for key in ("namespace", "name", "uid")}
    return {
        "apiVersion": PVS.api_version,
        "kind": PVS.kind,
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {PROVISIONED: ENDPOINT_CSI_DRIVER}},
        "spec": {
            "capacity": {"storage": format_quantity(size)},
            "accessModes": spec.get("accessModes") or [],
            "volumeMode": spec.get("volumeMode") or "Filesystem",
            "storageClassName": spec.get("storageClassName"),
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"apiVersion": "v1", "kind": PVCS.kind, **reference},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "csi": {
                "driver": ENDPOINT_CSI_DRIVER,
                "volumeHandle": f"{endpoint}/{volume.pool}/{volume.name}",
                "volumeAttributes": {"pool": volume.pool, "volume": volume.name, "path": volume.path, "format": form},
            },
        },
    }
