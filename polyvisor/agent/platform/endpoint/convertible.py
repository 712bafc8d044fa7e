"""Whether a domain can become a VirtualMachine, and why not; the plan of its adoption.

The conversion takes time that grows with a domain's devices, so it runs in a thread, and its result is kept for some
minutes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from polyvisor.adoption import ConversionError, Mapping, NetworkMapping, PoolMapping
from polyvisor.adoption.takeover import Takeover, take_over
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.drivers import DriverRegistry

KEPT_SECONDS = 300.0
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
        self._known: dict[str, tuple[Domain, Mapping, float, Verdict]] = {}

    async def mapping(self, *, fresh: bool = False) -> Mapping:
        """Return what the endpoint says of storage and networks, with what the host says of its pools.

        With ``fresh`` the host looks at its mapped pools again, which others may have written to.
        """
        spec = self._keeper.endpoint["spec"]
        mapped = list(spec.get("storage") or [])
        paths = {
            pool["name"]: pool["path"]
            for pool in await self._keeper.every("pools", "pools")
            if isinstance(pool.get("name"), str) and isinstance(pool.get("path"), str)
        }
        sizes: dict[str, int] = {}
        for pool in dict.fromkeys(one["pool"] for one in mapped):
            if pool not in paths:
                continue
            if fresh:
                await self._keeper.ask("pool", pool=pool)
            for volume in await self._keeper.every("volumes", "volumes", MAX_VOLUMES, pool=pool):
                size = volume.get("capacity")
                if isinstance(size, int) and 0 < size < MAX_SIZE:
                    sizes |= {str(volume.get("path")): size, f"{pool}/{volume.get('name')}": size}
        return Mapping(
            driver=self._keeper.seen.driver,
            endpoint=self._keeper.endpoint["metadata"]["name"],
            storage=tuple(PoolMapping(one["storageClass"], one["pool"], paths.get(one["pool"], "")) for one in mapped),
            networks=tuple(NetworkMapping(one["name"], one["network"]) for one in spec.get("networks") or []),
            sizes=sizes,
            pools=paths,
        )

    def known(self, domain: Domain, mapping: Mapping) -> Verdict | None:
        """Return the verdict of a moment ago, if nothing that is listed of the domain has changed since."""
        found = self._known.get(domain.uuid)
        if found is None or found[:2] != (domain, mapping) or time.monotonic() - found[2] > KEPT_SECONDS:
            return None
        return found[3]

    async def verdict(self, domain: Domain, mapping: Mapping) -> Verdict:
        """Say whether a domain can be expressed. Raises :class:`HostError` if the host does not tell its XML."""
        try:
            found = Verdict((await self.plan(domain, mapping)).conversion.causes)
        except ConversionError as error:
            found = Verdict((str(error),))
        self._known[domain.uuid] = domain, mapping, time.monotonic(), found
        return found

    async def plan(self, domain: Domain, mapping: Mapping) -> Takeover:
        """Return what the adoption of a domain would create.

        Raises :class:`ConversionError` for a domain that no driver knows, :class:`HostError` if the host does not tell
        its XML.
        """
        told = await self._keeper.ask("describe", uuid=domain.uuid)
        xml, defined = str(told.get("xml") or ""), str(told.get("defined") or "")
        return await asyncio.to_thread(take_over, xml, defined, domain.active, mapping, self._drivers)
