"""KubeVirt's subresources that are not there, each answered in words instead of "not found".

They are no part of discovery. A client that calls one all the same learns that Polyvisor knows it and what to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from polyvisor.server.errors import Refusal, answering

SEV = "memory encryption is not offered"
BACKUP = "shut the machine down and copy its volume"
GRAPH = "`polyvisor describe` names what a machine needs"
INSTANCES = {
    "vsock": "a program on the machine's node can open the socket, by status.VSOCKCID; nothing passes it on from there",
    "objectgraph": GRAPH,
    "backup": BACKUP,
    "redefine-checkpoint": BACKUP,
    **{
        f"sev/{name}": SEV
        for name in ("fetchcertchain", "injectlaunchsecret", "querylaunchmeasurement", "setupsession")
    },
}
INSTALLATION = {"guestfs": "run libguestfs on the claim's disk while the machine is shut down"}
MACHINES = {"objectgraph": GRAPH}
"""Subresource -> why it is not there, or what to do instead."""


def routes(version: str, vm: str, vmi: str) -> list[BaseRoute]:
    """Return the routes; ``version`` is the path of a group version, ``vm`` and ``vmi`` are those of one machine."""
    found = [(f"{version}/{name}", name, why) for name, why in INSTALLATION.items()]
    found += [(f"{vmi}/{name}", name, why) for name, why in INSTANCES.items()]
    found += [(f"{vm}/{name}", name, why) for name, why in MACHINES.items()]
    return [Route(path, answering(_refusing(name, why)), methods=["GET", "PUT"]) for path, name, why in found]


def _refusing(name: str, why: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_request: Request) -> Response:
        raise Refusal(400, f"KubeVirt's {name} is not implemented by Polyvisor: {why}")

    return refuse
