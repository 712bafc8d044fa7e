"""uvicorn's websockets, with a refusal by an HTTP answer taken for what it is: uvicorn logs an error then."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocket(WebSocketsSansIOProtocol):
    """A websocket; one that is refused is at its end."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send, and take a refusal that was sent for the end of the handshake."""
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True
