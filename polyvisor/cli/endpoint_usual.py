"""Which pools and networks of a host stand for what in the cluster: as options say, else as libvirt calls them.

A libvirt host usually has a pool and a network ``default``, or just one of each. Without options they are mapped, so
that the first machine needs no more than a name; what was mapped is said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from polyvisor.api.resources import ENDPOINTS
from polyvisor.cli.client import MERGE, Client, Obj
from polyvisor.cli.endpoint_mapping import DOORS, make_class, pair
from polyvisor.cli.output import say
from polyvisor.kube.errors import ApiError

USUAL = "default"
POD_NETWORK = "pod"
TRIES = 10
AGAIN_SECONDS = 2.0


def given(storage: Iterable[str], networks: Iterable[str]) -> Obj:
    """Return ``storage`` and ``networks`` of a spec, from options ``CLASS=POOL`` and ``NAME=NETWORK``."""
    spec: Obj = {}
    pools = [pair("--storage", text, "storageClass", "pool") for text in storage]
    if pools:
        spec["storage"] = [{**one, "defaultForImages": one is pools[0]} for one in pools]
    joined = [pair("--network", text, "name", "network") for text in networks]
    return spec | ({"networks": joined} if joined else {})


def complete(client: Client, name: str, *, cluster: bool = False) -> None:
    """Map the host's usual pool and network where nothing is mapped, and add the addresses of mapped networks.

    In a ``cluster`` storage classes wait for the scheduler, which knows where a claim's machine goes.
    """
    spec = client.get(ENDPOINTS.path(name=name))["spec"]
    if spec.get("management") == "Observe":
        return
    change: Obj = {}
    if not spec.get("storage"):
        pools = _told(client, f"{DOORS}/{name}/pools")
        if pool := _usual(pools):
            change["storage"] = [{"storageClass": name, "pool": pool, "defaultForImages": True}]
            say(f"pool {pool} of the host is where disks go (storage class {name})")
        else:
            say("no storage pool is mapped: machines with disks need one (--storage CLASS=POOL)")
    networks = _told(client, f"{DOORS}/{name}/networks")
    cidrs = {one.get("name"): one.get("cidrs") or [] for one in networks}
    mapped = spec.get("networks") or []
    if not mapped and (network := _usual(networks)):
        mapped = [{"name": POD_NETWORK, "network": network}]
        say(f"network {network} of the host is the network of machines")
    filled = [
        {**one, "cidrs": cidrs[one["network"]]} if not one.get("cidrs") and cidrs.get(one["network"]) else one
        for one in mapped
    ]
    if filled != (spec.get("networks") or []):
        change["networks"] = filled
    if change:
        client.request("PATCH", ENDPOINTS.path(name=name), {"spec": change}, content_type=MERGE)
    for one in change.get("storage") or spec.get("storage") or []:
        make_class(client, one["storageClass"], name if cluster else "")


def _told(client: Client, path: str) -> list[Obj]:
    """Return what a host tells; a connection that ends meanwhile is up again within a moment, so it is asked again."""
    for _ in range(TRIES - 1):
        try:
            return client.get(path).get("items") or []
        except ApiError as error:
            if error.code < 500:
                raise
        time.sleep(AGAIN_SECONDS)
    return client.get(path).get("items") or []


def _usual(found: list[Obj]) -> str:
    """Return the name of the pool or network to take where nobody says which: ``default``, or the only one."""
    active = [str(one.get("name")) for one in found if one.get("active")]
    return USUAL if USUAL in active else active[0] if len(active) == 1 else ""
