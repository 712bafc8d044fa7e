"""CDI's two doors for uploads, in the embedded API server: a token for one claim, and the bytes that come with it.

Whoever may ask the API server gets a token; whoever has the token may fill that one claim for some minutes, which is
all that a client of CDI's upload proxy ever shows. Tokens are signed with a key of this process and end with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from polyvisor.agent.errors import AgentError
from polyvisor.agent.imports.uploads import Uploads
from polyvisor.standalone.apiserver.auth import UPLOAD_PATHS

TOKENS = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/{namespace}/uploadtokenrequests"
API_VERSION, KIND = "upload.cdi.kubevirt.io/v1beta1", "UploadTokenRequest"
SECONDS = 300
MAX_BODY = 64 * 1024
Obj = dict[str, Any]


class UploadDoors:
    """The routes."""

    def __init__(self, uploads: Callable[[str, str], Awaitable[Uploads | None]]) -> None:
        """``uploads`` gives what takes an upload into a claim."""
        self._uploads = uploads
        self._key = secrets.token_bytes(32)

    def routes(self) -> list[BaseRoute]:
        """Return the routes; those for bytes look at their own tokens."""
        doors = [Route(path, self._upload, methods=["HEAD", "POST", "PUT"]) for path in sorted(UPLOAD_PATHS)]
        return [Route(TOKENS, self._token, methods=["POST"]), *doors]

    def token(self, namespace: str, name: str, now: float | None = None) -> str:
        """Return what opens the door to one claim."""
        told = json.dumps([namespace, name, int(now if now is not None else time.time()) + SECONDS]).encode()
        return f"{_text(told)}.{_text(self._signature(told))}"

    def opened(self, token: str) -> tuple[str, str] | None:
        """Return the claim that a token is for; None if it is none, or too old."""
        told, _, signature = token.partition(".")
        try:
            text, given = base64.urlsafe_b64decode(told), base64.urlsafe_b64decode(signature)
        except ValueError:
            return None
        if not hmac.compare_digest(self._signature(text), given):
            return None
        namespace, name, until = json.loads(text)
        return (namespace, name) if time.time() <= until else None

    def _signature(self, told: bytes) -> bytes:
        return hmac.new(self._key, told, hashlib.sha256).digest()

    async def _token(self, request: Request) -> Response:
        raw = await request.body()
        try:
            body: Any = json.loads(raw) if len(raw) <= MAX_BODY else {}
            name = body["spec"]["pvcName"]
        except (ValueError, KeyError, TypeError):
            name = None
        if not isinstance(name, str) or not name:
            return _status(422, "spec.pvcName: the name of a PersistentVolumeClaim is wanted")
        namespace = request.path_params["namespace"]
        uploads = await self._uploads(namespace, name)
        if uploads is None:
            return _status(503, "the node agent is still starting")
        try:
            uploads.waits(namespace, name)
        except AgentError as error:
            return _status(409, str(error))
        status = {"token": self.token(namespace, name)}
        metadata = {"namespace": namespace, "name": name}
        made: Obj = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"pvcName": name}}
        return JSONResponse({**made, "status": status}, 201)

    async def _upload(self, request: Request) -> Response:
        word, _, token = request.headers.get("Authorization", "").partition(" ")
        claim = self.opened(token.strip()) if word.lower() == "bearer" else None
        if claim is None:
            return PlainTextResponse("a token for the upload is wanted", 401)
        uploads = await self._uploads(*claim)
        if uploads is None:
            return PlainTextResponse("the node agent is still starting", 503)
        try:
            if request.method == "HEAD":
                uploads.waits(*claim)
            else:
                await uploads.receive(*claim, request.stream())
        except ClientDisconnect:
            return PlainTextResponse("the upload was cut off", 400)
        except AgentError as error:
            return PlainTextResponse(str(error), 503 if error.retry else 400)
        return PlainTextResponse("")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _status(code: int, message: str) -> Response:
    words = {409: "Conflict", 422: "Invalid", 503: "ServiceUnavailable"}
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return JSONResponse({**status, "reason": words[code]}, code)
