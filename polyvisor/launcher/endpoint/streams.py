"""The second socket, for bytes: one connection a console or an upload, each served by a thread of its own.

A connection begins with a line of JSON that says what it is for, and is answered by such a line. The socket stands in
a folder that nobody else may enter.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LINE_BYTES = 64 * 1024
Answer = dict[str, Any]
Serve = Callable[[Answer, socket.socket, bytes, Callable[[Answer], None]], None]
"""Serves one connection: what was asked, the socket, what came behind the line, and how to answer."""


def listen(path: Path, serve: Serve) -> None:
    """Listen on a socket and serve whoever connects, from now on."""
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen(64)
    threading.Thread(target=_accept, args=(listener, serve), daemon=True, name="streams").start()


def _accept(listener: socket.socket, serve: Serve) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, serve), daemon=True, name="stream").start()


def _serve(connection: socket.socket, serve: Serve) -> None:
    def answer(message: Answer) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    with connection, suppress(OSError):
        head = b""
        while b"\n" not in head:
            data = connection.recv(LINE_BYTES)
            if not data or len(head) > LINE_BYTES:
                return
            head += data
        line, _, first = head.partition(b"\n")
        try:
            asked = json.loads(line)
        except ValueError:
            asked = None
        if isinstance(asked, dict):
            serve(asked, connection, first, answer)
