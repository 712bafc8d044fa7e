"""A web server on loopback whose answers a test decides, and which can hang up in the middle of one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    body: bytes = b""
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up_after: int | None = None
    tag: str = ""
    """With one it is a file that the server goes on with where it is asked to."""
    hold: threading.Event | None = None
    """Wait for this before the second half."""


class Web(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[dict[str, str]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        answer = self.server.answers.get(self.path, Answer(code=404))
        whole, code, headers = answer.body, answer.code, dict(answer.headers)
        if answer.tag:
            headers["ETag"] = answer.tag
            if "Range" in self.headers and self.headers["If-Range"] == answer.tag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
                whole, code = whole[start:], 206
        self.send_response(code)
        for key, value in {"Content-Length": str(len(whole)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        half = len(whole) // 2
        body = whole if answer.hang_up_after is None else whole[: answer.hang_up_after]
        self.wfile.write(body[:half])
        if answer.hold is not None:
            self.wfile.flush()
            answer.hold.wait(30)
        self.wfile.write(body[half:])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
