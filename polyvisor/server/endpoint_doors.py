"""What is asked of an endpoint's host beside the objects: its domains, one domain's XML, its pools and networks.

The routes stand behind the API server's authentication. Where the host is away, the domains are those that were last
seen, and the answer says so; all else is asked of the host itself.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from polyvisor.adoption import ConversionError
from polyvisor.adoption.takeover import Takeover
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_label_error, dns_subdomain_error
from polyvisor.api.quantity import format_quantity
from polyvisor.api.resources import ENDPOINT_GROUP, ENDPOINTS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.server.errors import Refusal, answering

UNREACHABLE = 503
MAX_MACHINE = 63
"""Characters of a machine's name, which is a label's value, too."""
JUDGE_SECONDS = 10.0
"""How long one request may convert domains; clients wait no longer than some 30 s."""


class EndpointDoors:
    """The routes, over the agent, which starts later than they do."""

    def __init__(self) -> None:
        self.agent: EndpointAgent | None = None

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        found: list[BaseRoute] = []
        for version in SUBRESOURCES_VERSIONS:
            base = f"/apis/{SUBRESOURCES_GROUP}/{version}/{ENDPOINTS.plural}/{{name}}"
            found += [
                Route(f"{base}/domains", answering(self._domains), methods=["GET"]),
                Route(f"{base}/domains/{{domain:path}}", answering(self._domain), methods=["GET"]),
                Route(f"{base}/adoption", answering(self._adoption), methods=["GET"]),
                Route(f"{base}/pools", answering(self._pools), methods=["GET"]),
                Route(f"{base}/networks", answering(self._networks), methods=["GET"]),
            ]
        return found

    async def _domains(self, request: Request) -> Response:
        agent, keeper = self._found(request)
        seen = keeper.seen
        failure = seen.failure
        if seen.domains is None:
            said = failure.message if failure is not None else "the host is not connected yet; try again"
            raise Refusal(UNREACHABLE, said)
        domains = sorted(seen.domains, key=lambda one: one.name)
        items = [_listed(one, seen.driver, agent.managed(one), agent.owner(one)) for one in domains]
        if request.query_params.get("adoption") == "true" and failure is None:
            await self._judge(agent, request.path_params["name"], domains, items)
        answer: Obj = {"kind": "EndpointDomainList", "apiVersion": f"{ENDPOINT_GROUP}/v1alpha1", "items": items}
        if failure is not None:
            answer["stale"] = failure.message
        return JSONResponse(answer)

    async def _judge(self, agent: EndpointAgent, name: str, domains: list[Domain], items: list[Obj]) -> None:
        """Add to foreign domains whether they can be adopted: to those that there is time for.

        The others have it when they are asked for again.
        """
        convertible = agent.convertible(name)
        until = time.monotonic() + JUDGE_SECONDS
        try:
            mapping = await convertible.mapping()
            for domain, item in zip(domains, items, strict=True):
                if item["management"] != "Foreign":
                    continue
                found = convertible.known(domain, mapping)
                if found is None and time.monotonic() < until:
                    found = await convertible.verdict(domain, mapping)
                if found is not None:
                    reasons = [*agent.obstacles(name, domain), *found.causes]
                    item["adoption"] = {"possible": not reasons, "reasons": reasons}
        except HostError as error:
            raise Refusal(UNREACHABLE, str(error)) from error

    async def _adoption(self, request: Request) -> Response:
        """Answer what the adoption of one domain would create, and what became of its settings."""
        name, asked = request.path_params["name"], request.query_params
        agent, keeper = self._found(request)
        domain = _named(keeper, asked.get("domain", ""), name)
        namespace, wanted = asked.get("namespace", "default"), asked.get("name", "")
        if (error := dns_label_error(namespace)) or (wanted and (error := dns_subdomain_error(wanted, MAX_MACHINE))):
            raise Refusal(400, error)
        convertible = agent.convertible(name)
        try:
            mapping = replace(await convertible.mapping(fresh=True), namespace=namespace, name=wanted)
            plan = await convertible.plan(domain, mapping)
        except HostError as failure:
            raise Refusal(UNREACHABLE, str(failure)) from failure
        except ConversionError as failure:
            raise Refusal(422, f"domain {domain.name} {failure}") from failure
        return JSONResponse(_planned(plan, domain, agent.obstacles(name, domain)))

    async def _domain(self, request: Request) -> Response:
        _, keeper = self._found(request)
        domain = _named(keeper, request.path_params["domain"], request.path_params["name"])
        told = await _asked(keeper, "describe", uuid=domain.uuid)
        found = {"name": domain.name, "uuid": domain.uuid, "xml": told.get("defined") or told.get("xml")}
        return JSONResponse({**found, "snapshots": told.get("snapshots")})

    async def _pools(self, request: Request) -> Response:
        _, keeper = self._found(request)
        return JSONResponse({"items": await _every(keeper, "pools")})

    async def _networks(self, request: Request) -> Response:
        _, keeper = self._found(request)
        return JSONResponse({"items": await _every(keeper, "networks")})

    def _found(self, request: Request) -> tuple[EndpointAgent, Keeper]:
        name = request.path_params["name"]
        if self.agent is None:
            raise Refusal(UNREACHABLE, "the agent of endpoints is still starting")
        keeper = self.agent.keeper(name)
        if keeper is None:
            details = {"name": name, "group": ENDPOINT_GROUP, "kind": ENDPOINTS.plural}
            raise Refusal(404, f'{ENDPOINTS.full_name} "{name}" not found', details)
        return self.agent, keeper


def _named(keeper: Keeper, word: str, endpoint: str) -> Domain:
    """Return the domain of that UUID or name; a name can be that of one domain alone."""
    for one in keeper.seen.domains or ():
        if word in (one.uuid, one.name):
            return one
    raise Refusal(404, f"there is no domain {word[:200]!r} on endpoint {endpoint}")


async def _asked(keeper: Keeper, operation: str, **arguments: Any) -> Obj:
    try:
        return await keeper.ask(operation, **arguments)
    except HostError as error:
        raise Refusal(UNREACHABLE, str(error)) from error


async def _every(keeper: Keeper, operation: str) -> list[Obj]:
    try:
        return await keeper.every(operation, operation)
    except HostError as error:
        raise Refusal(UNREACHABLE, str(error)) from error


def _planned(plan: Takeover, domain: Domain, obstacles: list[str]) -> Obj:
    found = plan.conversion
    return {
        "kind": "DomainAdoption",
        "apiVersion": f"{ENDPOINT_GROUP}/v1alpha1",
        "domain": domain.name,
        "uuid": domain.uuid,
        "state": domain.state,
        "driver": found.driver,
        "machine": found.machine,
        "volumes": list(found.volumes),
        "claims": list(found.claims),
        "runStrategy": str(plan.run_strategy),
        "settings": [asdict(note) for note in found.notes],
        "untilNextStart": [asdict(note) for note in plan.passing],
        "reasons": [*obstacles, *found.causes],
    }


def _listed(domain: Domain, driver: str, managed: bool, machine: str) -> Obj:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "id": domain.id,
        "state": domain.state,
        "driver": driver,
        "vcpus": domain.vcpus,
        "memory": format_quantity(domain.memory),
        "persistent": domain.persistent,
        "management": "Managed" if managed else "Foreign",
        **({"owner": domain.owner} if domain.owner else {}),
        **({"machine": machine} if machine else {}),
    }
