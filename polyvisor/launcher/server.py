"""The launcher's socket: who may speak, the handshake, requests in and events out, one JSON object a line.

The main thread runs a selector loop and never waits; what may take time (all of libvirt) is done by one worker thread,
in order. ``asyncio`` would do this too, for some megabytes more in every launcher.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import libvirt

from polyvisor.launcher.console import Console
from polyvisor.launcher.guest import Guest
from polyvisor.launcher.machine import Machine, Refused
from polyvisor.launcher.memory import give_back
from polyvisor.launcher.messages import said
from polyvisor.launcher.moving import Moving
from polyvisor.launcher.operations import Operations
from polyvisor.launcher.plan import PROTOCOL, Plan

LINE_BYTES = 4 * 1024 * 1024
SHUTDOWN_STEP_SECONDS = 5.0
RETRY_SECONDS = 2.0

Reply = dict[str, Any]


class Peer:
    """One connection of an agent."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.greeted = False
        self.incoming = bytearray()
        self.outgoing = bytearray()


class Server:
    """The main loop and all that belongs to its thread."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._aside: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._peers: set[Peer] = set()
        self._machine = Machine(plan, self._changed, say)
        self._guest = Guest(self._machine, plan, say)
        self._moving = Moving(self._machine, plan, self._changed, say)
        self._operations = Operations(
            plan,
            self._machine,
            self._guest,
            self._moving,
            self._attach,
            {"shutdown": self._shutdown, "quit": self._quit},
        )
        self._console = Console(plan.folder, self._selector, say, log=plan.console_log)
        self._told: Reply = {}
        self._timer: tuple[float, Callable[[], None]] | None = None
        self._running = True
        self.opened = False
        self._final = False

    def run(self) -> bool:
        """Serve until told to stop; return whether the machine is done with for good."""
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._woken)
        for name, tasks in (("worker", self._work), ("guest", self._aside)):
            threading.Thread(target=_worker, args=(tasks,), daemon=True, name=name).start()
        self._work.put(self._open)
        while not self.opened and self._running:
            self._turn()
        listener = self._listen()
        self._say(f"listening as process {os.getpid()}")
        while self._running:
            self._turn()
        listener.close()
        return self._final

    def stop(self) -> None:
        """Leave the loop; may be called from a signal handler. The domain goes on."""
        self._running = False
        self._wake()

    def abandon(self) -> None:
        """Destroy the domain and leave the loop for good, after what the worker is at; may be called on any thread."""
        self._work.put(self._abandon)

    def _abandon(self) -> None:
        for step in (self._machine.destroy, lambda: self._machine.close(final=True)):
            try:
                step()
            except Exception as error:
                self._say(f"leaving: {error}")
        self._final = True
        self.stop()

    def close(self) -> None:
        """Leave libvirt, once the loop has ended."""
        self._machine.close(final=False)

    def _turn(self) -> None:
        wait = None
        if self._timer:
            wait = max(0.0, self._timer[0] - time.monotonic())
        for key, mask in self._selector.select(wait):
            # An earlier one in the same round may have closed this one.
            if self._selector.get_map().get(key.fd) is not None and key.data is not None:
                key.data(mask)
        if self._timer and self._timer[0] <= time.monotonic():
            action, self._timer = self._timer[1], None
            self._work.put(action)

    def _listen(self) -> socket.socket:
        path = self._plan.folder / "launcher.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(16)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))
        return listener

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.getuid()):
            self._say(f"refused a connection of user {uid}")
            connection.close()
            return
        connection.setblocking(False)
        peer = Peer(connection)
        self._peers.add(peer)
        self._selector.register(connection, selectors.EVENT_READ, lambda mask: self._serve(peer, mask))

    def _serve(self, peer: Peer, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(peer)
        if not mask & selectors.EVENT_READ or peer not in self._peers:
            return
        try:
            data = peer.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.incoming += data
        if not data or len(peer.incoming) > LINE_BYTES:
            self._drop(peer)
            return
        while peer in self._peers and (end := peer.incoming.find(b"\n")) >= 0:
            line = bytes(peer.incoming[:end])
            del peer.incoming[: end + 1]
            self._line(peer, line)

    def _line(self, peer: Peer, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self._send(peer, _error(None, "bad-request", "one JSON object a line is expected"))
        elif not peer.greeted:
            self._greet(peer, message)
        else:
            self._request(peer, message)

    def _greet(self, peer: Peer, message: Reply) -> None:
        hello = message.get("hello")
        versions = hello.get("versions") if isinstance(hello, dict) else None
        if not isinstance(versions, list) or PROTOCOL not in versions:
            text = f"this launcher speaks version {PROTOCOL}; the first line must be a hello that lists it"
            self._send(peer, {"error": {"code": "version", "message": text, "versions": [PROTOCOL]}})
            self._drop(peer)
            return
        peer.greeted = True
        self._send(peer, {"hello": {"version": PROTOCOL, **self._machine.versions}})

    def _request(self, peer: Peer, message: Reply) -> None:
        number, op = message.get("id"), message.get("op")
        operations, apart = self._operations(message)
        if op == "state":
            self._send(peer, {"id": number, "result": self._state()})
        elif op == "console":
            self._hand_over(peer, number)
        elif isinstance(op, str) and op in operations:
            self._work.put(lambda: self._do(peer, number, operations[op]))
            if op in ("start", "receive"):
                self._work.put(give_back)
        elif isinstance(op, str) and op in apart:
            self._aside.put(lambda: self._do(peer, number, apart[op]))
        else:
            self._send(peer, _error(number, "unknown-op", f"unknown operation {op!r}"))

    def _do(self, peer: Peer, number: Any, operation: Callable[[], Any]) -> None:
        """Run one operation on a worker thread; its answer travels back to the main thread."""
        descriptor = -1
        try:
            found = operation()
            more = found if isinstance(found, dict) else {}
            descriptor = more.pop("descriptor", -1)
            answer = {"id": number, "result": {**self._state(), **more}}
        except Refused as refusal:
            answer = {"id": number, "error": refusal.error}
        except libvirt.libvirtError as error:
            answer = _error(number, "libvirt", said(error))
            answer["error"] |= {"libvirtCode": error.get_error_code(), "libvirtDomain": error.get_error_domain()}
        except Exception as error:
            answer = _error(number, "internal", f"{type(error).__name__}: {error}")
        if "error" in answer:
            self._say(f"error {answer['error']}")
        self._call(lambda: self._answer(peer, answer, descriptor))

    def _answer(self, peer: Peer, answer: Reply, descriptor: int) -> None:
        if descriptor >= 0:
            self._pass(peer, answer, descriptor)
        else:
            self._send(peer, answer)
        if self._final:
            self.stop()

    def _shutdown(self, step: int = 0) -> None:
        following = self._machine.shutdown(step)
        if following < self._machine.shutdown_steps:
            self._call(lambda: self._later(SHUTDOWN_STEP_SECONDS, lambda: self._insist(following)))

    def _insist(self, step: int) -> None:
        try:
            self._shutdown(step)
        except (Refused, libvirt.libvirtError) as error:
            self._say(f"no further way of powering down: {error}")

    def _quit(self) -> None:
        if self._machine.state["state"] in ("running", "paused", "shutdown"):
            raise Refused("active", "the domain is still there; destroy it first")
        self._machine.close(final=True)
        self._final = True

    def _hand_over(self, peer: Peer, number: Any) -> None:
        if self._machine.state["state"] not in ("running", "paused", "shutdown"):
            self._send(peer, _error(number, "no-domain", "the domain is not running"))
            return
        self._send(peer, {"id": number, "result": {}})
        if peer in self._peers:
            self._peers.discard(peer)
            self._selector.unregister(peer.connection)
            self._console.take(peer.connection, bytes(peer.incoming), bytes(peer.outgoing))
            peer.incoming.clear()

    def _attach(self) -> None:
        """On the worker thread: have the main thread follow the console, and wait until it does."""
        path = self._machine.inspect()
        done = threading.Event()
        self._call(lambda: self._follow(path, done.set))
        done.wait()

    def _follow(self, path: str, done: Callable[[], None]) -> None:
        try:
            self._console.follow(path)
        except OSError as error:
            self._say(f"console {path}: {error}")
        finally:
            done()

    def _open(self) -> None:
        """On the worker thread: reach libvirt, and begin to serve whether it could be reached or not."""
        self._look()
        self._guest.begin()
        give_back()
        self._call(lambda: setattr(self, "opened", True))

    def _changed(self) -> None:
        """Called on any thread when the machine may have changed."""
        self._call(self._tell)
        self._work.put(self._look)

    def _look(self) -> None:
        try:
            self._machine.refresh()
            if not self._machine.ended:
                self._attach()
        except Exception as error:
            self._say(f"libvirt cannot be reached: {error}")
            self._call(lambda: self._later(RETRY_SECONDS, self._look))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer = (time.monotonic() + seconds, action)

    def _state(self) -> Reply:
        return {**self._machine.state, **self._moving.state}

    def _tell(self) -> None:
        """Push the state to every connection, if it is news."""
        state = self._state()
        if state == self._told:
            return
        self._told = state
        if self._machine.ended:
            self._console.finish()
            self._timer = None
        for peer in [peer for peer in self._peers if peer.greeted]:
            self._send(peer, {"event": {"type": "state", **state}})

    def _call(self, action: Callable[[], None]) -> None:
        self._calls.put(action)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_in, b"x")
        except BlockingIOError:
            return  # a full pipe wakes as well

    def _woken(self, _mask: int) -> None:
        os.read(self._wake_out, 4096)
        while not self._calls.empty():
            self._calls.get()()

    def _send(self, peer: Peer, message: Reply) -> None:
        if peer in self._peers:
            peer.outgoing += json.dumps(message).encode() + b"\n"
            self._flush(peer)

    def _pass(self, peer: Peer, answer: Reply, descriptor: int) -> None:
        """Send an answer with a file descriptor beside it; a peer that is not reading goes without both."""
        line = json.dumps(answer).encode() + b"\n"
        try:
            sent = -1 if peer.outgoing else socket.send_fds(peer.connection, [line], [descriptor])
        except OSError:
            sent = -1
        os.close(descriptor)
        if sent != len(line) and peer in self._peers:
            self._drop(peer)

    def _flush(self, peer: Peer) -> None:
        try:
            del peer.outgoing[: peer.connection.send(peer.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        if len(peer.outgoing) > LINE_BYTES:
            self._drop(peer)
            return
        want = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.outgoing else 0)
        self._selector.modify(peer.connection, want, self._selector.get_key(peer.connection).data)

    def _drop(self, peer: Peer) -> None:
        self._peers.discard(peer)
        self._selector.unregister(peer.connection)
        peer.connection.close()


def _worker(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()


def _error(number: Any, code: str, message: str) -> Reply:
    return {"id": number, "error": {"code": code, "message": message}}
