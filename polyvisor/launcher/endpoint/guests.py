"""What a running guest is asked and shown: its agent, its screen, a picture of it, what it has used.

Each is served by a thread of its own, so that an agent that never answers holds up nobody else. A screen is opened by
libvirt where it can pass an open socket (a local daemon); over SSH it is reached by a forwarding of the SSH client's,
with the credentials of the connection, which are files only until the client has signed in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import libvirt

from polyvisor.launcher import statistics
from polyvisor.launcher.endpoint.files import PrivateFiles
from polyvisor.launcher.endpoint.owned import Answer, Refused, owned, text_of

AGENT_SECONDS = 5
SIGN_IN_SECONDS = 30.0
SCREENSHOT_BYTES = 256 * 1024 * 1024
CHUNK = 64 * 1024
MAX_TEXT = 300
TCP = re.compile(r"<graphics type='vnc' port='(\d+)'[^>]*listen='([^']+)'")
UNIX = re.compile(r"<graphics type='vnc'[^>]* socket='([^']+)'|<listen type='socket' socket='([^']+)'")
REMOTE_SOCKET = re.compile(r"/[A-Za-z0-9._/-]+")
SIGNED_IN = b"signed in\n"
Say = Callable[[Answer], None]


class Guests:
    """The streams; ``there`` gives the connection, ``uri`` how it was opened."""

    def __init__(self, there: Callable[[], Any], uri: Callable[[], str]) -> None:
        self._there = there
        self._uri = uri
        self._mutex = threading.Lock()
        self._looking: dict[str, socket.socket] = {}
        self.streams: Mapping[str, Callable[[Answer, socket.socket, bytes, Say], None]] = {
            "agent": self._agent,
            "screenshot": self._screenshot,
            "screen": self._screen,
        }

    def stats(self, asked: Answer) -> Answer:
        """Return what all running domains have used, by UUID: in one call where the driver has it, else one by one."""
        connection = self._there()
        try:
            found = connection.getAllDomainStats(0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING)
            told = {domain.UUIDString(): stats for domain, stats in found}
            if all("cpu.time" in stats for stats in told.values()):
                return {"stats": told}
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
                raise
        running = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return {"stats": {domain.UUIDString(): statistics.read(domain) for domain in running}}

    def _agent(self, asked: Answer, connection: socket.socket, first: bytes, answer: Say) -> None:
        """Put one ``command`` to the agent inside a guest; ``call`` is the function of libvirt's Python for it."""
        module, _, function = text_of(asked, "call").partition(".")
        if not module.startswith("libvirt") or not isinstance(asked.get("command"), dict):
            raise Refused("bad-request", "call: a function of libvirt's is expected, command: an object")
        call = getattr(import_module(module), function)
        text = call(owned(self._there(), asked), json.dumps(asked["command"]), AGENT_SECONDS, 0)
        answer({"result": {"answer": json.loads(text).get("return")}})

    def _screenshot(self, asked: Answer, connection: socket.socket, first: bytes, answer: Say) -> None:
        """Send a picture of the screen: pieces, each behind its length in four bytes, and a length of 0 at its end."""
        domain = owned(self._there(), asked)
        stream, size = self._there().newStream(0), 0
        try:
            kind = domain.screenshot(stream, 0, 0)
            answer({"result": {"type": kind}})
            while data := stream.recv(CHUNK):
                size += len(data)
                if size > SCREENSHOT_BYTES:
                    raise Refused("too-large", "the screenshot is too large")
                connection.sendall(len(data).to_bytes(4, "big") + data)
            stream.finish()
        except BaseException:
            stream.abort()
            raise
        connection.sendall(bytes(4))

    def _screen(self, asked: Answer, connection: socket.socket, first: bytes, answer: Say) -> None:
        """Join a socket to a guest's screen, until either ends; who looked before is cut off, unless ``preserve``."""
        domain = owned(self._there(), asked)
        uuid = domain.UUIDString()
        with self._mutex:
            if asked.get("preserve") is True and uuid in self._looking:
                raise Refused("busy", "Active VNC connection. Request denied.")
        with self._opened(domain, asked) as screen:
            with self._mutex:
                old, self._looking[uuid] = self._looking.get(uuid), connection
            if old is not None:
                _end(old)
            try:
                answer({"result": {}})
                screen.sendall(first)
                _join(screen, connection)
            finally:
                with self._mutex:
                    if self._looking.get(uuid) is connection:
                        del self._looking[uuid]

    @contextmanager
    def _opened(self, domain: Any, asked: Answer) -> Iterator[socket.socket]:
        transport = urlsplit(self._uri()).scheme.partition("+")[2]
        local = not urlsplit(self._uri()).hostname and transport in ("", "unix")
        if local:
            with socket.socket(fileno=_graphics(domain)) as found:
                yield found
        elif transport == "ssh":
            with self._forwarded(domain.XMLDesc(0), asked) as found:
                yield found
        else:
            raise Refused(
                "no-way",
                "libvirt passes a screen on over local sockets alone, and Polyvisor by SSH; give the endpoint "
                "a URI with +ssh",
            )

    @contextmanager
    def _forwarded(self, xml: str, asked: Answer) -> Iterator[socket.socket]:
        """Reach the screen by a forwarding of the SSH client, which ends with it."""
        folder = Path(text_of(asked, "folder"))
        files, local = PrivateFiles(folder), folder / "s"
        try:
            files.write(asked.get("files"))
            process = subprocess.Popen(
                self._command(folder, f"{local}:{_remote(xml)}"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            )
            found = socket.socket(socket.AF_UNIX)
            try:
                timer = threading.Timer(SIGN_IN_SECONDS, process.kill)
                timer.start()
                assert process.stdout is not None
                signed_in = process.stdout.readline()
                timer.cancel()
                if signed_in != SIGNED_IN:
                    assert process.stderr is not None
                    process.kill()
                    said = process.stderr.read(CHUNK).decode(errors="replace").strip()[-MAX_TEXT:]
                    raise Refused("no-way", f"the screen cannot be reached by SSH: {said or 'no answer'}")
                found.connect(os.fspath(local))
                files.remove()
                yield found
            finally:
                found.close()
                process.kill()
                process.wait()
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def _command(self, folder: Path, forward: str) -> list[str]:
        """Return the SSH client's command; it says when it has signed in and listens."""
        parts = urlsplit(self._uri())
        options = {
            "ClearAllForwardings": "no",
            "ExitOnForwardFailure": "yes",
            "StreamLocalBindMask": "0177",
            "PermitLocalCommand": "yes",
            "LocalCommand": "echo signed in",
        }
        command = ["ssh", "-F", os.fspath(folder / "ssh_config"), "-N", "-L", forward]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        if parts.username:
            command += ["-l", unquote(parts.username)]
        if parts.port:
            command += ["-p", str(parts.port)]
        return [*command, "--", parts.hostname or ""]


def _graphics(domain: Any) -> int:
    """Return an open connection to a local daemon's guest's screen."""
    try:
        return int(domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    raise Refused("no-screen", "libvirt opens no screen of this hypervisor's")


def _remote(xml: str) -> str:
    """Return where the screen is on the host, as the SSH client's forwarding has it."""
    if found := UNIX.search(xml):
        path = found[1] or found[2]
        if REMOTE_SOCKET.fullmatch(path):
            return path
    if found := TCP.search(xml):
        return f"{'127.0.0.1' if found[2] in ('0.0.0.0', '::') else found[2]}:{int(found[1])}"
    raise Refused("no-screen", "the domain has no screen that can be looked at from here")


def _join(screen: socket.socket, client: socket.socket) -> None:
    """Copy both ways until one side ends."""
    back = threading.Thread(target=_copy, args=(screen, client), daemon=True, name="screen")
    back.start()
    _copy(client, screen)
    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
    except OSError:
        pass
    _end(source)
    _end(target)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
