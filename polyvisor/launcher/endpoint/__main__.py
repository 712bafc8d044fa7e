"""The socket's side: a line is a request, and each request is answered; what libvirt tells in between is an event.

The main thread reads. One worker does what was asked, in order, since it may wait for a host that is far away;
libvirt's events come on a thread of their own. A request that hangs is the agent's to judge: it ends this process and
starts another.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import libvirt

from polyvisor.launcher.endpoint.files import PrivateFiles
from polyvisor.launcher.endpoint.host import Host
from polyvisor.launcher.endpoint.owned import Refused
from polyvisor.launcher.endpoint.streams import listen

PROTOCOL = 1
LINE_BYTES = 4 * 1024 * 1024
MAX_ANSWER = 1024 * 1024 - 1
"""Bytes of what is said; the agent ends a launcher that says more at once."""
MAX_TEXT = 4000
Message = dict[str, Any]


class Speaker:
    """Writes whole lines to the agent, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, message: Message) -> None:
        """Send one message; an agent that is gone ends this process elsewhere."""
        line = json.dumps(message).encode() + b"\n"
        if len(line) > MAX_ANSWER:
            error = _error(message.get("id"), "too-long", f"the host's answer has {len(line)} bytes, which is too many")
            line = json.dumps(error).encode() + b"\n"
        with self._lock:
            try:
                self._connection.sendall(line)
            except OSError:
                return


def main(arguments: list[str]) -> int:
    """Serve until the agent closes the socket; return the exit code."""
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m polyvisor.launcher.endpoint FOLDER STREAMS LOGS <socket\n")
        return 2
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)  # programs that libvirt starts shall not read what the agent says
    files = PrivateFiles(Path(arguments[0]))
    speaker = Speaker(connection)
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_events, daemon=True, name="events").start()
    host = Host(files, lambda event: speaker.say({"event": event}), Path(arguments[2]))
    listen(Path(arguments[1]), lambda *stream: _stream(host, *stream))
    tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=_work, args=(tasks,), daemon=True, name="worker").start()
    signal.signal(signal.SIGTERM, lambda *_: _end(files))
    with connection.makefile("rb") as lines:
        while line := lines.readline(LINE_BYTES):
            _take(line, host, speaker, tasks)
    _end(files)
    return 0


def _end(files: PrivateFiles) -> None:
    """Remove the secrets and leave without waiting for libvirt's threads, one of which may be in a call."""
    files.remove()
    os._exit(0)


def _take(line: bytes, host: Host, speaker: Speaker, tasks: SimpleQueue[Callable[[], None]]) -> None:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        speaker.say(_error(None, "bad-request", "one JSON object a line is expected"))
        return
    if "hello" in message:
        hello = message["hello"]
        versions = hello.get("versions") if isinstance(hello, dict) else None
        if isinstance(versions, list) and PROTOCOL in versions:
            speaker.say({"hello": {"version": PROTOCOL}})
        else:
            speaker.say(_error(None, "version", f"this launcher speaks version {PROTOCOL}"))
        return
    tasks.put(lambda: speaker.say(_answer(message, host)))


def _answer(message: Message, host: Host) -> Message:
    number, name = message.get("id"), message.get("op")
    operation = host.operations.get(name) if isinstance(name, str) else None
    if operation is None:
        return _error(number, "unknown-op", f"unknown operation {name!r}")
    try:
        return {"id": number, "result": operation(message)}
    except Exception as error:
        return _failure(number, error)


def _stream(
    host: Host, asked: Message, connection: socket.socket, first: bytes, answer: Callable[[Message], None]
) -> None:
    try:
        host.serve(asked, connection, first, answer)
    except OSError:
        raise
    except Exception as error:
        answer(_failure(None, error))


def _failure(number: Any, error: Exception) -> Message:
    if isinstance(error, Refused):
        return _error(number, error.code, str(error))
    if isinstance(error, libvirt.libvirtError):
        answer = _error(number, "libvirt", error.get_error_message() or str(error))
        answer["error"] |= {"libvirtCode": error.get_error_code(), "libvirtDomain": error.get_error_domain()}
        return answer
    return _error(number, "internal", f"{type(error).__name__}: {error}")


def _error(number: Any, code: str, message: str) -> Message:
    return {"id": number, "error": {"code": code, "message": message[:MAX_TEXT]}}


def _work(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()


def _events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
