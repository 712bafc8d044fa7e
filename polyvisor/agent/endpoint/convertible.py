"""Whether a domain can be expressed as a VirtualMachine, and why not: asked of the conversion.

The conversion takes time that grows with a domain's devices, so it runs in a thread and its result is kept as long as
the domain's XML and the endpoint's mappings are the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from polyvisor.adoption import ConversionError, Mapping, NetworkMapping, PoolMapping, convert
from polyvisor.agent.endpoint.inventory import Domain
from polyvisor.agent.endpoint.keeper import Keeper
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry

MAX_SIZE = 1 << 62
MAX_VOLUMES = 20000
"""Volumes of an endpoint whose sizes are looked at."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``causes`` say why a domain cannot be expressed, one sentence each; empty if it can."""

    causes: tuple[str, ...]


class Convertible:
    """The verdicts on the domains of one endpoint."""

    def __init__(self, keeper: Keeper, drivers: DriverRegistry) -> None:
        self._keeper = keeper
        self._drivers = drivers
        self._known: dict[str, tuple[int, Verdict]] = {}

    async def mapping(self) -> Mapping:
        """Return what the endpoint says of storage and networks, with what the host says of its pools.

        The endpoint itself is left out: a machine cannot ask for one yet.
        """
        spec = self._keeper.endpoint["spec"]
        paths: dict[str, str] = {}
        sizes: dict[str, int] = {}
        mapped = list(spec.get("storage") or [])
        if mapped:
            paths = {
                pool["name"]: pool["path"]
                for pool in _objects(await self._keeper.ask("pools"), "pools")
                if isinstance(pool.get("name"), str) and isinstance(pool.get("path"), str)
            }
        for one in mapped:
            pool = one["pool"]
            if pool not in paths:
                continue
            for volume in _objects(await self._keeper.ask("volumes", pool=pool), "volumes")[:MAX_VOLUMES]:
                size = volume.get("capacity")
                if isinstance(size, int) and 0 < size < MAX_SIZE:
                    sizes |= {str(volume.get("path")): size, f"{pool}/{volume.get('name')}": size}
        return Mapping(
            driver=self._keeper.seen.driver,
            storage=tuple(PoolMapping(one["storageClass"], one["pool"], paths.get(one["pool"], "")) for one in mapped),
            networks=tuple(NetworkMapping(one["name"], one["network"]) for one in spec.get("networks") or []),
            sizes=sizes,
        )

    async def verdict(self, domain: Domain, mapping: Mapping) -> Verdict:
        """Say whether a domain can be expressed."""
        xml = await self._xml(domain)
        key = hash((xml, mapping.storage, mapping.networks, tuple(sorted(mapping.sizes.items()))))
        known = self._known.get(domain.uuid)
        if known is not None and known[0] == key:
            return known[1]
        try:
            converted = await asyncio.to_thread(convert, xml, mapping, self._drivers)
            found = Verdict(converted.causes)
        except ConversionError as error:
            found = Verdict((str(error),))
        self._known[domain.uuid] = key, found
        return found

    async def _xml(self, domain: Domain) -> str:
        """Return the XML as it is defined, which has no addresses of this one run; as it runs where that is all."""
        told = await self._keeper.ask("describe", uuid=domain.uuid)
        return str(told.get("defined") or told.get("xml") or "")


def _objects(told: Obj, key: str) -> list[Obj]:
    found = told.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
