"""One route of the embedded API server: try the drivers again now, and answer with what came out.

The agent looks by itself when something comes or goes that a driver needs, a second or so later. Whoever has just
installed something asks here, so that the answer is never the one from before.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from polyvisor.agent.node.registration import NodeKeeper
from polyvisor.api.node_names import DRIVERS_PATH
from polyvisor.server.errors import Refusal, answering


class DriverDoor:
    """The route, over the keeper of this machine's Node, which starts later."""

    def __init__(self, keeper: Callable[[], NodeKeeper | None]) -> None:
        self._keeper = keeper

    def routes(self) -> list[BaseRoute]:
        """Return the route."""
        return [Route(DRIVERS_PATH, answering(self._try), methods=["POST"])]

    async def _try(self, _: Request) -> Response:
        keeper = self._keeper()
        if keeper is None:
            raise Refusal(503, "the node agent is still starting")
        await keeper.probe()
        return JSONResponse({"drivers": keeper.report()})
