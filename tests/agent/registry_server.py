"""A registry that gives out an OCI layout and takes nothing: as much of the protocol as pulling needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry(ThreadingHTTPServer):
    """Serves ``repo:tag`` for every image of the layout that has that name."""

    daemon_threads = True

    def __init__(self, layout: Path, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.layout = layout
        self.asked: list[str] = []
        self.password = ""
        self.forged: dict[str, bytes] = {}

    @property
    def host(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_port}"

    def pulls(self) -> int:
        """How many blobs were fetched."""
        return sum("/blobs/" in path for path in self.asked)

    def blob(self, digest: str) -> bytes | None:
        path = self.layout / "blobs" / digest.replace(":", "/")
        return self.forged.get(digest) or (path.read_bytes() if path.exists() else None)

    def manifest(self, name: str, reference: str) -> bytes | None:
        if reference.startswith("sha256:"):
            return self.blob(reference)
        for entry in json.loads((self.layout / "index.json").read_text())["manifests"]:
            if entry["annotations"]["org.opencontainers.image.ref.name"] == f"{name}:{reference}":
                return self.blob(entry["digest"])
        return None


class Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        expected = base64.b64encode(f"user:{self.server.password}".encode()).decode()
        if self.server.password and self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": 'Basic realm="r"'})
            return
        name, _, rest = self.path.removeprefix("/v2/").rpartition("/manifests/")
        if name:
            found = self.server.manifest(name, rest)
            if found is None:
                error = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
                self._answer(404, error, {"Content-Type": "application/json"})
                return
            digest = f"sha256:{hashlib.sha256(found).hexdigest()}"
            self._answer(200, found, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest})
            return
        found = self.server.blob(self.path.rpartition("/blobs/")[2]) if "/blobs/" in self.path else b"{}"
        self._answer(200 if found is not None else 404, found or b"", {})

    do_HEAD = do_GET

    def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(layout: Path, address: str = "127.0.0.1") -> Iterator[Registry]:
    """Run a registry over a layout."""
    server = Registry(layout, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
